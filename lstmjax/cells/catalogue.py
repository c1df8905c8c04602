"""The table of cells: every kind that there is, with the paper it is from. The README shows it."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from lstmjax.cells.cell import Cell
from lstmjax.cells.convolutional import conv_lstm
from lstmjax.cells.elman import elman
from lstmjax.cells.general_lstm import lstm
from lstmjax.cells.gru import gru
from lstmjax.cells.minimal import min_gru, min_lstm
from lstmjax.cells.multiplicative import multiplicative_lstm
from lstmjax.cells.xlstm import mlstm, slstm


class Entry(NamedTuple):
    """One kind of cell."""

    function: Callable[..., Cell]
    """Makes the cell, from the sizes that it takes by position and options."""
    options: dict[str, Any]
    """The options that make it this kind."""
    summary: str
    """What is special about it."""
    paper: str
    """Where it is from."""

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes that ``function`` takes by position."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)

    def make(self, *sizes: int, **more: Any) -> Cell:
        """The cell, of some sizes, with more options."""
        return self.function(*sizes, **self.options, **more)

    @property
    def call(self) -> str:
        """The call that makes it, for a person to read."""
        arguments = [*self.sizes, *(f"{name}={value!r}" for name, value in self.options.items())]
        return f"{self.function.__name__}({', '.join(arguments)})"


_GREFF = "Greff et al. 2017"

CELLS: dict[str, Entry] = {
    "LSTM": Entry(lstm, {}, "input, forget and output gate", "Gers et al. 2000"),
    "LSTM of 1997": Entry(
        lstm, {"forget_gate": False}, "no forget gate (Greff: NFG)", "Hochreiter and Schmidhuber 1997"
    ),
    "peephole LSTM": Entry(lstm, {"peepholes": True}, "gates see the cell state", "Gers et al. 2002"),
    "CIFG": Entry(lstm, {"coupled": True}, "the forget gate is 1 - input gate", _GREFF),
    "NIG": Entry(lstm, {"input_gate": False}, "no input gate", _GREFF),
    "NOG": Entry(lstm, {"output_gate": False}, "no output gate", _GREFF),
    "NIAF": Entry(lstm, {"candidate_activation": "identity"}, "no tanh on the way in", _GREFF),
    "NOAF": Entry(lstm, {"output_activation": "identity"}, "no tanh on the way out", _GREFF),
    "FGR": Entry(lstm, {"full_gate_recurrence": True}, "gates see all gates of the step before", _GREFF),
    "layer-normalized LSTM": Entry(
        lstm, {"layer_norm": True}, "normalized sums and cell state", "Ba et al. 2016"
    ),
    "LSTMP": Entry(lstm, {"projection": 2}, "a smaller hidden state than cell state", "Sak et al. 2014"),
    "multiplicative LSTM": Entry(
        multiplicative_lstm, {}, "the input chooses how the hidden state acts", "Krause et al. 2016"
    ),
    "ConvLSTM": Entry(conv_lstm, {}, "images, and convolutions for products", "Shi et al. 2015"),
    "Elman RNN": Entry(elman, {}, "no gate", "Elman 1990"),
    "GRU": Entry(gru, {}, "reset and update gate, as in cuDNN", "Cho et al. 2014"),
    "GRU of 2014": Entry(gru, {"reset_after": False}, "the reset gate before the product", "Cho et al. 2014"),
    "minLSTM": Entry(min_lstm, {}, "gates do not see the state: all steps at once", "Feng et al. 2024"),
    "minGRU": Entry(min_gru, {}, "the same, of a GRU", "Feng et al. 2024"),
    "sLSTM": Entry(slstm, {}, "exponential gates, a normalized memory, heads", "Beck et al. 2024"),
    "mLSTM": Entry(mlstm, {}, "exponential gates, a matrix as memory", "Beck et al. 2024"),
}
"""Kinds of cells by the name that the literature has for them."""
