"""lstmjax: a functional LSTM for JAX."""

import importlib
import typing

from lstmjax import backends, initializers, metrics, regularizers
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
from lstmjax.sequence.bidirectional import Bidirectional, Directions, bidirectional
from lstmjax.sequence.explain import Cost, Explanation, explain
from lstmjax.sequence.layers import Layer, Layers, layers
from lstmjax.sequence.solving import Solution, solve
from lstmjax.sequence.streaming import Stream
from lstmjax.sequence.truncated import truncated_bptt
from lstmjax.sequence.unroll import unroll
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

_WHEN_ASKED_FOR = {
    **{
        name: f"lstmjax.{name}"
        for name in ("attention", "convert", "decoding", "diagnostics", "export", "losses", "training")
    },
    "plots": "lstmjax.diagnostics.plots",
    "load": "lstmjax.store:load",
    "save": "lstmjax.store:save",
}
"""Public names that are imported when they are first asked for, with what they need, such as Optax."""


if typing.TYPE_CHECKING:
    from lstmjax import attention, convert, decoding, diagnostics, export, losses, training
    from lstmjax.diagnostics import plots
    from lstmjax.store import load, save
else:

    def __getattr__(name: str) -> typing.Any:
        if name not in _WHEN_ASKED_FOR:
            raise AttributeError(f"module 'lstmjax' has no attribute {name!r}")
        module, _, attribute = _WHEN_ASKED_FOR[name].partition(":")
        found = importlib.import_module(module)
        found = globals()[name] = getattr(found, attribute) if attribute else found
        return found


def __dir__() -> list[str]:
    return sorted(globals().keys() | _WHEN_ASKED_FOR.keys())


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
    "Solution",
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
    "solve",
    "stack",
    "training",
    "truncate_gradient",
    "truncated_bptt",
    "unroll",
    "zoneout",
]
