"""Batches, the loop, the phases and the run store."""
