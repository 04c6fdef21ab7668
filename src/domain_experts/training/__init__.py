"""Batches, the loop, the legs and the run store."""
