"""Batches over HTTP, for service keys: asked for, carried out here, followed, and reported."""
