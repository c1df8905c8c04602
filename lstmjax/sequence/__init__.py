"""Cells over time: unrolling, layers, both directions, truncated backpropagation, streaming."""
