"""A click log of one's own: Parquet or CSV files of any columns."""
