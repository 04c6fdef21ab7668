"""Keeping trained models: save, score, export, adapt."""
