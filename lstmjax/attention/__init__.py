r"""Attention over a memory of vectors, one query at a time, as pure functions.

Like a cell, an attention mechanism is a frozen dataclass of hyperparameters. ``init`` makes parameters;
``prepare`` prepares a memory, once per sequence; ``attend`` is called at each step of a decoder, with a query
that is usually its hidden state:

.. math:: e_j = \mathrm{score}(s, h_j), \quad a = \mathrm{softmax}(e), \quad c = \sum_j a_j h_j

The softmax is over the valid part of each memory. Values beyond a row's length, NaN included, have no
influence on any value or gradient; where nothing is valid, weights and context are 0.

`gaussian_filterbank` is for images: no memory of vectors, but a window that is read from or written to.
"""

from lstmjax.attention.content import Bahdanau, Luong, bahdanau, luong
from lstmjax.attention.core import Attention, Glimpse, Memory, masked_softmax
from lstmjax.attention.filterbank import Filterbank, Window, gaussian_filterbank
from lstmjax.attention.location import GravesWindow, LocationSensitive, graves_window, location_sensitive

__all__ = [
    "Attention",
    "Bahdanau",
    "Filterbank",
    "Glimpse",
    "GravesWindow",
    "LocationSensitive",
    "Luong",
    "Memory",
    "Window",
    "bahdanau",
    "gaussian_filterbank",
    "graves_window",
    "location_sensitive",
    "luong",
    "masked_softmax",
]
