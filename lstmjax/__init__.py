"""lstmjax: a functional LSTM for JAX."""

from lstmjax import (
    attention,
    convert,
    decoding,
    diagnostics,
    export,
    initializers,
    losses,
    metrics,
    plots,
    regularizers,
)
from lstmjax.bidirectional import Bidirectional, Directions, bidirectional
from lstmjax.catalogue import CELLS
from lstmjax.cell import LSTM, Cell, LSTMParams, LSTMState
from lstmjax.cells import GRU, Elman, ElmanParams, GRUParams, elman, gru
from lstmjax.clipping import ClipGradient, TruncateGradient, clip_gradient, truncate_gradient
from lstmjax.convolutional import ConvLSTM, ConvLSTMParams, conv_lstm
from lstmjax.dropout import Dropout, Noisy, dropout
from lstmjax.explain import Cost, Explanation, explain
from lstmjax.layers import Layer, Layers, layers
from lstmjax.minimal import LinearCell, LinearParams, LinearState, MinGRU, MinLSTM, min_gru, min_lstm
from lstmjax.multiplicative import MultiplicativeLSTM, MultiplicativeLSTMParams, multiplicative_lstm
from lstmjax.stepwise import Counted, RecurrentDropout, Zoneout, recurrent_dropout, zoneout
from lstmjax.store import load, save
from lstmjax.streaming import Stream
from lstmjax.truncated import truncated_bptt
from lstmjax.unroll import unroll
from lstmjax.variants import GeneralLSTM, GeneralLSTMParams, GeneralLSTMState, LayerNorms, lstm
from lstmjax.wrappers import Highway, HighwayParams, Residual, Stack, highway, residual, stack
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
    "ClipGradient",
    "ConvLSTM",
    "ConvLSTMParams",
    "Cost",
    "Counted",
    "Directions",
    "Dropout",
    "Elman",
    "ElmanParams",
    "Explanation",
    "GRUParams",
    "GeneralLSTM",
    "GeneralLSTMParams",
    "GeneralLSTMState",
    "Highway",
    "HighwayParams",
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
    "Noisy",
    "RecurrentDropout",
    "Residual",
    "SLSTMParams",
    "SLSTMState",
    "Stack",
    "Stream",
    "TruncateGradient",
    "Zoneout",
    "attention",
    "bidirectional",
    "clip_gradient",
    "conv_lstm",
    "convert",
    "decoding",
    "diagnostics",
    "dropout",
    "elman",
    "explain",
    "export",
    "gru",
    "highway",
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
    "plots",
    "recurrent_dropout",
    "regularizers",
    "residual",
    "save",
    "slstm",
    "stack",
    "truncate_gradient",
    "truncated_bptt",
    "unroll",
    "zoneout",
]
