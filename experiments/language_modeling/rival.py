"""Training words per second, compared with the same model on ``torch.nn.LSTM``."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.language_modeling.model import Architecture
from lstmjax.training import ConfigError
from lstmjax.training.streams import Window

Step = Callable[[Window], float]
"""A training step: takes a window and returns the loss as a float, which waits for the computation."""


def words_per_second(
    steps: Mapping[str, Step], windows: Callable[[int], Window], rounds: int, steps_per_round: int
) -> dict[str, list[float]]:
    """Words per second of several training steps, measured in alternation.

    They alternate, ``steps_per_round`` steps each, so that other load on the machine affects all of them
    alike; a warm-up round, in which they compile, is not counted.

    Args:
      steps: the training steps, by name.
      windows: returns the training window of a step number.
      rounds: rounds of measurements.
      steps_per_round: steps of each in a round.

    Returns:
      For each name, words per second in each round.
    """
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            batches = [windows(number * steps_per_round + index) for index in range(steps_per_round)]
            words = sum(int(batch.lengths.sum()) for batch in batches)
            start = time.perf_counter()
            for batch in batches:
                step(batch)
            seconds = time.perf_counter() - start
            if number:
                found[name].append(words / seconds)
    return found


def torch_model(architecture: Architecture) -> Any:
    """The same model in PyTorch: from tokens and state to logits ``[batch * time, vocabulary]`` and state.

    Raises:
      ConfigError: PyTorch is not installed, or the cell of the model is not an LSTM.
    """
    try:
        import torch  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("PyTorch is not installed, which is compared with: pip install torch") from error
    if architecture.cell != "lstm":
        raise ConfigError(f"PyTorch's LSTM is compared with an LSTM, not with {architecture.cell}.")
    vocabulary, hidden, layers = architecture.vocabulary, architecture.hidden, architecture.layers

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            between = architecture.dropout if layers > 1 else 0.0
            self.embedding = torch.nn.Embedding(vocabulary, hidden)
            self.lstm = torch.nn.LSTM(hidden, hidden, layers, batch_first=True, dropout=between)
            self.readout = torch.nn.Linear(hidden, vocabulary)
            self.dropout = torch.nn.Dropout(architecture.dropout)

        def forward(self, inputs: Any, state: Any) -> tuple[Any, Any]:
            outputs, state = self.lstm(self.dropout(self.embedding(inputs)), state)
            return self.readout(self.dropout(outputs).flatten(0, 1)), state

    return Model()


def torch_step(model: Any, rows: int, learning_rate: float, clip_norm: float) -> Step:
    """A training step of `torch_model`: carried state, clipped gradient norm, plain SGD."""
    import torch  # noqa: PLC0415

    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    loss_of = torch.nn.CrossEntropyLoss(reduction="sum")
    zeros = torch.zeros(model.lstm.num_layers, rows, model.lstm.hidden_size)
    carried = [(zeros, zeros)]

    def step(window: Window) -> float:
        inputs, targets = (torch.from_numpy(array.astype(np.int64)) for array in window[:2])
        optimizer.zero_grad(set_to_none=True)
        logits, state = model(inputs, carried[0])
        loss = loss_of(logits, targets.flatten()) / rows
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        carried[0] = tuple(each.detach() for each in state)
        return float(loss.detach())

    return step
