"""Cells over sequences: unrolling, layers, bidirectional layers, truncated backpropagation, streaming."""
