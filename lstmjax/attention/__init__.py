r"""Attention: one step looks at a memory of vectors, as pure functions.

A kind of attention is a frozen dataclass of static numbers, as a cell is. ``init`` makes parameters;
``prepare`` makes a memory ready, once for each sequence; ``attend`` is called in each step of a decoder, with
a query that is most often its hidden state:

.. math:: e_j = \mathrm{score}(s, h_j), \quad a = \mathrm{softmax}(e), \quad c = \sum_j a_j h_j

The softmax is over the valid part of each memory. What lies beyond a row's length, NaN included, has no
influence on any value or gradient; where nothing is valid, weights and context are 0.
"""

from lstmjax.attention.content import Bahdanau, Luong, bahdanau, luong
from lstmjax.attention.core import Attention, Glimpse, Memory, masked_softmax
from lstmjax.attention.location import GravesWindow, LocationSensitive, graves_window, location_sensitive

__all__ = [
    "Attention",
    "Bahdanau",
    "Glimpse",
    "GravesWindow",
    "LocationSensitive",
    "Luong",
    "Memory",
    "bahdanau",
    "graves_window",
    "location_sensitive",
    "luong",
    "masked_softmax",
]
