"""Sources, readers, Interactions and splits."""
