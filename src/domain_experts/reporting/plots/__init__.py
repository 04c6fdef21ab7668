"""The figures, one module a subject; `reporting.figures` writes them."""
