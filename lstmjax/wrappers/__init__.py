"""Wrappers: a cell around a cell."""
