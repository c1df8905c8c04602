"""Serve a character model as a stream: train on a text, then predict the next character after each one read.

    python -m experiments.language_modeling.character_server --text LICENSE --steps 300

trains a small LSTM, and then reads characters from standard input. After each character it writes one line,
the most likely next character and its probability, before it reads on. The step is compiled once; the LSTM
state is all that is stored of the input.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import lstmjax
from experiments.common.flags import Count, Number
from experiments.datasets.files import DataError, read_bytes, reading
from lstmjax.losses import cross_entropy
from lstmjax.sequence.streaming import Stream


class Params(NamedTuple):
    """Trainable parameters."""

    cell: Any
    """Parameters of the cell."""
    kernel: jax.Array
    """``[hidden, characters]``: from the hidden state to the logits."""


class Model(NamedTuple):
    """A trained model of the characters of a text."""

    alphabet: str
    cell: lstmjax.Cell
    params: Params


def one_hot(alphabet: str, text: str) -> np.ndarray:
    """One-hot characters ``[len(text), len(alphabet)]``; zeros for a character outside the alphabet."""
    return np.array([[character == letter for letter in alphabet] for character in text], np.float32)


LENGTH = 50
"""Number of characters of a training sequence."""


def train(text: str, hidden: int = 64, steps: int = 300, length: int = LENGTH, seed: int = 0) -> Model:
    """Train a model to predict each character of a text from those before it, in random chunks."""
    alphabet = "".join(sorted(set(text)))
    cell = lstmjax.lstm(len(alphabet), hidden)
    cell_key, kernel_key = jax.random.split(jax.random.key(seed))
    kernel = lstmjax.initializers.lecun_normal(kernel_key, (hidden, len(alphabet)), jnp.float32)
    params = Params(cell.init(cell_key), kernel)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    codes = np.array([alphabet.index(character) for character in text])
    random = np.random.default_rng(seed)

    def loss(params: Params, chunks: jax.Array) -> jax.Array:
        inputs = jax.nn.one_hot(chunks[:, :-1], len(alphabet))
        _, outputs = lstmjax.unroll(cell, params.cell, inputs)
        return cross_entropy(outputs @ params.kernel, chunks[:, 1:]).mean()

    @jax.jit
    def update(params: Params, moments: optax.OptState, chunks: jax.Array) -> tuple[Params, optax.OptState]:
        changes, moments = optimizer.update(jax.grad(loss)(params, chunks), moments)
        return optax.apply_updates(params, changes), moments

    moments = optimizer.init(params)
    for _ in range(steps):
        starts = random.integers(0, len(codes) - length, 16)
        params, moments = update(params, moments, codes[starts[:, None] + np.arange(length + 1)])
    return Model(alphabet, cell, params)


def predictor(model: Model) -> Callable[[str], np.ndarray]:
    """A function from each character of a stream to the probabilities ``[characters]`` of the next one."""
    stream = Stream(model.cell, model.params.cell)
    inputs = dict(zip(model.alphabet, one_hot(model.alphabet, model.alphabet), strict=True))
    unknown = np.zeros(len(model.alphabet), np.float32)
    readout = jax.jit(lambda outputs: jax.nn.softmax(outputs @ model.params.kernel))
    return lambda character: np.asarray(readout(stream(inputs.get(character, unknown))))


def serve(model: Model, source: TextIO, sink: TextIO) -> None:
    """Write a line after each character read, ``<the next character> <its probability>``, at once."""
    predict = predictor(model)
    for character in _characters(source):
        probabilities = predict(character)
        best = int(probabilities.argmax())
        sink.write(f"{model.alphabet[best]!r} {probabilities[best]:.3f}\n")
        sink.flush()


def _characters(source: TextIO) -> Iterator[str]:
    while character := source.read(1):
        yield character


def main(text: Path, hidden: Count = 64, steps: Number = 300) -> None:
    """Train on a text and serve the model on standard input and output.

    Args:
      text: a UTF-8 text file of more than 50 characters.
      hidden: hidden size of the LSTM.
      steps: number of training steps.
    """
    if sys.stdin is None:
        sys.exit("standard input is closed: it has the characters to predict from")
    try:
        with reading(text):
            written = read_bytes(text).decode("utf-8")
    except DataError as error:
        sys.exit(str(error))
    if len(written) <= LENGTH:
        sys.exit(f"{text} has {len(written)} characters: it takes more than {LENGTH}.")
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    model = train(written, hidden, steps)
    print("ready", file=sys.stderr, flush=True)
    serve(model, sys.stdin, sys.stdout)


if __name__ == "__main__":
    tyro.cli(main)
