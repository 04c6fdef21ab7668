"""Training of the multi-domain multi-task models: one model for all, or one a domain or task."""
