"""lstmjax: a functional LSTM for JAX."""

from lstmjax import convert, export, initializers, losses, metrics
from lstmjax.bidirectional import Bidirectional, Directions, bidirectional
from lstmjax.catalogue import CELLS
from lstmjax.cell import LSTM, Cell, LSTMParams, LSTMState
from lstmjax.cells import GRU, Elman, ElmanParams, GRUParams, elman, gru
from lstmjax.convolutional import ConvLSTM, ConvLSTMParams, conv_lstm
from lstmjax.explain import Cost, Explanation, explain
from lstmjax.layers import Layer, Layers, layers
from lstmjax.minimal import LinearCell, LinearParams, LinearState, MinGRU, MinLSTM, min_gru, min_lstm
from lstmjax.multiplicative import MultiplicativeLSTM, MultiplicativeLSTMParams, multiplicative_lstm
from lstmjax.store import load, save
from lstmjax.unroll import unroll
from lstmjax.variants import GeneralLSTM, GeneralLSTMParams, GeneralLSTMState, LayerNorms, lstm
from lstmjax.wrappers import Residual, Stack, residual, stack
from lstmjax.xlstm import MLSTM, SLSTM, MLSTMParams, MLSTMState, SLSTMParams, SLSTMState, mlstm, slstm

__version__ = "0.1.0"

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "MLSTM",
    "SLSTM",
    "Bidirectional",
    "Cell",
    "ConvLSTM",
    "ConvLSTMParams",
    "Cost",
    "Directions",
    "Elman",
    "ElmanParams",
    "Explanation",
    "GRUParams",
    "GeneralLSTM",
    "GeneralLSTMParams",
    "GeneralLSTMState",
    "LSTMParams",
    "LSTMState",
    "Layer",
    "LayerNorms",
    "Layers",
    "LinearCell",
    "LinearParams",
    "LinearState",
    "MLSTMParams",
    "MLSTMState",
    "MinGRU",
    "MinLSTM",
    "MultiplicativeLSTM",
    "MultiplicativeLSTMParams",
    "Residual",
    "SLSTMParams",
    "SLSTMState",
    "Stack",
    "bidirectional",
    "conv_lstm",
    "convert",
    "elman",
    "explain",
    "export",
    "gru",
    "initializers",
    "layers",
    "load",
    "losses",
    "lstm",
    "metrics",
    "min_gru",
    "min_lstm",
    "mlstm",
    "multiplicative_lstm",
    "residual",
    "save",
    "slstm",
    "stack",
    "unroll",
]
