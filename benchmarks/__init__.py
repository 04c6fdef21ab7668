"""How fast the package is, beside other libraries and the papers' own ways."""
