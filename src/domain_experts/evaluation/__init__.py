"""Exact per-domain metrics and paired comparisons."""
