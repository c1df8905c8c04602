"""Diagnostics: gates, states and gradients of a cell over time; `lstmjax.plots` plots them."""

from lstmjax.diagnostics.gradient_flow import Flow, gradient_flow
from lstmjax.diagnostics.traces import (
    RECORDERS,
    ElmanTrace,
    GRUTrace,
    LSTMTrace,
    Recorded,
    Saturation,
    saturation,
    trace,
)

__all__ = [
    "RECORDERS",
    "ElmanTrace",
    "Flow",
    "GRUTrace",
    "LSTMTrace",
    "Recorded",
    "Saturation",
    "gradient_flow",
    "saturation",
    "trace",
]
