"""The table of cells: every kind, with its paper. ``docs/guide.md`` shows it."""

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
    """Makes the cell from its sizes, given by position, and options."""
    options: dict[str, Any]
    """The options that make it this kind."""
    summary: str
    """Its difference from the LSTM."""
    paper: str
    """The paper that introduced it."""

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes that ``function`` takes by position."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)

    def make(self, *sizes: int, **more: Any) -> Cell:
        """The cell of the given sizes, with further options."""
        return self.function(*sizes, **self.options, **more)

    @property
    def call(self) -> str:
        """The call that makes it, as readable text."""
        arguments = [*self.sizes, *(f"{name}={value!r}" for name, value in self.options.items())]
        return f"{self.function.__name__}({', '.join(arguments)})"


_GREFF = "Greff et al. 2017"

CELLS: dict[str, Entry] = {
    "LSTM": Entry(lstm, {}, "none: input, forget and output gates", "Gers et al. 2000"),
    "LSTM of 1997": Entry(
        lstm, {"forget_gate": False}, "no forget gate (Greff: NFG)", "Hochreiter and Schmidhuber 1997"
    ),
    "peephole LSTM": Entry(lstm, {"peepholes": True}, "cell state as input of the gates", "Gers et al. 2002"),
    "CIFG": Entry(lstm, {"coupled": True}, "coupled gates: forget gate = 1 - input gate", _GREFF),
    "NIG": Entry(lstm, {"input_gate": False}, "no input gate", _GREFF),
    "NOG": Entry(lstm, {"output_gate": False}, "no output gate", _GREFF),
    "NIAF": Entry(lstm, {"candidate_activation": "identity"}, "no tanh on the candidate", _GREFF),
    "NOAF": Entry(lstm, {"output_activation": "identity"}, "no tanh on the cell state", _GREFF),
    "FGR": Entry(lstm, {"full_gate_recurrence": True}, "recurrent connections between all gates", _GREFF),
    "layer-normalized LSTM": Entry(
        lstm, {"layer_norm": True}, "layer normalization of gate inputs and cell state", "Ba et al. 2016"
    ),
    "LSTMP": Entry(lstm, {"projection": 2}, "linear projection of the hidden state", "Sak et al. 2014"),
    "multiplicative LSTM": Entry(
        multiplicative_lstm, {}, "input-dependent recurrent transition", "Krause et al. 2016"
    ),
    "ConvLSTM": Entry(conv_lstm, {}, "convolutions in place of products, for images", "Shi et al. 2015"),
    "Elman RNN": Entry(elman, {}, "no gates, no cell state", "Elman 1990"),
    "GRU": Entry(gru, {}, "reset and update gates, no cell state", "Cho et al. 2014"),
    "GRU of 2014": Entry(gru, {"reset_after": False}, "reset gate before the product", "Cho et al. 2014"),
    "minLSTM": Entry(min_lstm, {}, "no recurrence in the gates; parallel over time", "Feng et al. 2024"),
    "minGRU": Entry(min_gru, {}, "as minLSTM, with a single update gate", "Feng et al. 2024"),
    "sLSTM": Entry(slstm, {}, "exponential gates, normalized memory, heads", "Beck et al. 2024"),
    "mLSTM": Entry(mlstm, {}, "exponential gates, matrix memory, heads", "Beck et al. 2024"),
}
"""Kinds of cells by their names in the literature."""
