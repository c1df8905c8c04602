"""Wrappers: cells that contain another cell."""
