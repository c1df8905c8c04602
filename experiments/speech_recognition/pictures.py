"""Pictures: what a network makes of an utterance, above its log-mel energies."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.speech_recognition.data import WORDS, Utterance
from experiments.speech_recognition.features import plain
from experiments.speech_recognition.task import Saved
from lstmjax import decoding

SECONDS = 0.010
"""Of a frame."""


def draw(saved: Saved, said: Utterance, path: Path) -> None:
    """Draw the log-mel energies; below them the probabilities of the classes, or the attention weights."""
    values = plain(said.spectra, saved.config.bands)
    logits, weights = _listen(saved.model, saved.config.model == "las", saved.params, values, said.labels)
    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    end = len(values) * SECONDS
    bands = saved.config.bands
    energies = values[:, :bands].T
    above.imshow(energies, origin="lower", aspect="auto", extent=(0, end, 0, bands), cmap="magma")
    above.set(ylabel="mel band", title=" ".join(WORDS[label - 1] for label in said.labels))
    if weights is None:
        _draw_classes(below, np.asarray(logits), said.labels, end)
    else:
        _draw_attention(below, np.asarray(weights), said.labels, end)
    figure.savefig(path, dpi=100)


@functools.partial(jax.jit, static_argnames=("model", "spells"))
def _listen(model, spells, params, values, labels):  # type: ignore[no-untyped-def]
    module = model.bind(params)
    listened = module.listen(jnp.asarray(values)[None], jnp.array([len(values)]))
    logits = module.readout(listened.values)[0]
    return logits, module.teach(listened, jnp.asarray(labels)[None])[1][0] if spells else None


def _draw_classes(axes: Axes, logits: np.ndarray, labels: np.ndarray, end: float) -> None:
    """The probability of each class at each step; a bar where the digits lie in the likeliest alignment."""
    places = (np.arange(len(logits)) + 0.5) * end / len(logits)
    shares = np.asarray(jax.nn.softmax(logits))
    axes.plot(places, shares[:, 0], color="0.7", linestyle="--", label="blank")
    for label in dict.fromkeys(labels.tolist()):
        axes.plot(places, shares[:, label], marker=".", label=WORDS[label - 1])
    steps, count = jnp.array(len(logits)), jnp.array(len(labels))
    aligned = np.asarray(decoding.ctc_align(jnp.asarray(logits), steps, jnp.asarray(labels), count))
    for number, label in enumerate(labels):
        mine = places[aligned == number]
        if len(mine):
            half = end / len(logits) / 2
            axes.plot([mine[0] - half, mine[-1] + half], [1.06, 1.06], color="black", linewidth=3)
            axes.text(mine.mean(), 1.1, WORDS[label - 1], ha="center", fontsize=8)
    axes.set(xlabel="seconds", ylabel="probability", ylim=(-0.03, 1.2))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center right")


def _draw_attention(axes: Axes, weights: np.ndarray, labels: np.ndarray, end: float) -> None:
    """The attention weights of each digit and of the end, the first at the top."""
    rows = len(weights)
    axes.imshow(weights, aspect="auto", extent=(0, end, rows, 0), cmap="Greys", vmin=0)
    names = [*(WORDS[label - 1] for label in labels), "(end)"]
    axes.set_yticks(np.arange(rows) + 0.5, names)
    axes.set(xlabel="seconds", ylabel="attention of the decoder")
