"""Batches: many learners at once."""
