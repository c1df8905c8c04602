"""lstmjax: a functional LSTM for JAX."""

from lstmjax import (
    attention,
    backends,
    convert,
    decoding,
    diagnostics,
    export,
    initializers,
    losses,
    metrics,
    regularizers,
)
from lstmjax.cells.catalogue import CELLS
from lstmjax.cells.cell import Cell
from lstmjax.cells.convolutional import ConvLSTM, ConvLSTMParams, conv_lstm
from lstmjax.cells.elman import Elman, ElmanParams, elman
from lstmjax.cells.general_lstm import GeneralLSTM, GeneralLSTMParams, GeneralLSTMState, LayerNorms, lstm
from lstmjax.cells.gru import GRU, GRUParams, gru
from lstmjax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstmjax.cells.minimal import LinearCell, LinearParams, LinearState, MinGRU, MinLSTM, min_gru, min_lstm
from lstmjax.cells.multiplicative import MultiplicativeLSTM, MultiplicativeLSTMParams, multiplicative_lstm
from lstmjax.cells.xlstm import MLSTM, SLSTM, MLSTMParams, MLSTMState, SLSTMParams, SLSTMState, mlstm, slstm
from lstmjax.diagnostics import plots
from lstmjax.sequence.bidirectional import Bidirectional, Directions, bidirectional
from lstmjax.sequence.explain import Cost, Explanation, explain
from lstmjax.sequence.layers import Layer, Layers, layers
from lstmjax.sequence.streaming import Stream
from lstmjax.sequence.truncated import truncated_bptt
from lstmjax.sequence.unroll import unroll
from lstmjax.store import load, save
from lstmjax.wrappers.dropout import Dropout, Noisy, dropout
from lstmjax.wrappers.gradient_clipping import (
    ClipGradient,
    TruncateGradient,
    clip_gradient,
    truncate_gradient,
)
from lstmjax.wrappers.highway import Highway, HighwayParams, highway
from lstmjax.wrappers.per_step_dropout import Counted, RecurrentDropout, Zoneout, recurrent_dropout, zoneout
from lstmjax.wrappers.residual import Residual, residual
from lstmjax.wrappers.stack import Stack, stack

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
    "backends",
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
