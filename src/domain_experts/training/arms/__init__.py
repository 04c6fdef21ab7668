"""The arms: what each one is, beside what trains it. Heavy imports stay inside the functions."""
