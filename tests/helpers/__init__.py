"""Helpers for several test files: client sessions, images, Python's reference models, processes."""
