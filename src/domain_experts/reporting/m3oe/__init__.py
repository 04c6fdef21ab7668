"""Tables of the multi-domain multi-task study (M3oE, arXiv 2404.18465)."""
