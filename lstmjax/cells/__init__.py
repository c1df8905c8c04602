"""Cells: what one time step computes. `lstmjax.cells.catalogue` lists all of them."""
