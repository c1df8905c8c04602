"""lstmjax: a functional LSTM for JAX."""

from lstmjax import initializers, losses, metrics
from lstmjax.bidirectional import Bidirectional, Directions, bidirectional
from lstmjax.cell import LSTM, Cell, LSTMParams, LSTMState, lstm
from lstmjax.cells import GRU, Elman, ElmanParams, GRUParams, elman, gru
from lstmjax.explain import Cost, Explanation, explain
from lstmjax.unroll import unroll
from lstmjax.wrappers import Residual, Stack, residual, stack

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "Cell",
    "Cost",
    "Directions",
    "Elman",
    "ElmanParams",
    "Explanation",
    "GRUParams",
    "LSTMParams",
    "LSTMState",
    "Residual",
    "Stack",
    "bidirectional",
    "elman",
    "explain",
    "gru",
    "initializers",
    "losses",
    "lstm",
    "metrics",
    "residual",
    "stack",
    "unroll",
]
