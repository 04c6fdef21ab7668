"""Other libraries as contestants, one module each, all of the shape of `base.py`."""
