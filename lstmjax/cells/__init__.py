"""Cells: the computation of one time step. `lstmjax.cells.catalogue` lists all of them."""
