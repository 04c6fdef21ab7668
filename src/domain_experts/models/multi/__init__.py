"""Multi-domain multi-task models: M3oE and its baselines."""
