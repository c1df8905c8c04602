"""Pictures of captions: where each word looks, and pictures with their captions."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.datasets.captioned import Captioned
from experiments.image_captioning.data import START, middle, stacked
from experiments.image_captioning.model import look
from experiments.image_captioning.task import Saved, caption

COUNT = 4
"""Pictures whose attention is drawn."""
COLUMNS = 6


def draw_captions(saved: Saved, part: Sequence[Captioned], folder: Path) -> None:
    """``captions.png``: pictures with captions; ``attention-N.png``: where each word of a caption looks."""
    chosen = part[:: max(len(part) // (2 * COLUMNS), 1)][: 2 * COLUMNS]
    shown = stacked(chosen)[:]
    texts = caption(saved, shown)
    draw_sheet(shown, texts, [each.captions[0] for each in chosen], folder / "captions.png")
    if saved.architecture.attends:
        for number in range(min(COUNT, len(chosen))):
            weights = attention_of(saved, shown[number], texts[number])
            path = folder / f"attention-{number + 1}.png"
            draw_attention(
                middle(shown[number : number + 1], saved.config.crop)[0], texts[number], weights, path
            )


def attention_of(
    saved: Saved, picture: np.ndarray, words: Sequence[str]
) -> Float[np.ndarray, "words regions"]:
    """The attention weights for each word of a caption of one picture."""
    tokens = np.full((1, saved.config.longest), START, np.int32)
    tokens[0, : len(words)] = saved.vocabulary.encode(words)
    seen = middle(picture[None], saved.config.crop)
    return np.asarray(look(saved.model, saved.params, seen, tokens))[0, : len(words)]


def draw_attention(
    picture: np.ndarray, words: Sequence[str], weights: Float[np.ndarray, "words regions"], path: Path
) -> None:
    """Draw a picture, and it once more for each word, lit where the word looks."""
    rows = -(-(len(words) + 1) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS, 1.85 * rows), layout="constrained")
    side = round(weights.shape[1] ** 0.5)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, title, map_ in zip(panels, ["", *words], [None, *weights], strict=False):
        axes.set_title(title, fontsize=10)
        axes.imshow(picture, extent=(0, side, side, 0))
        if map_ is not None:
            shade = 1 - map_.reshape(side, side) / max(map_.max(), 1e-9)
            axes.imshow(
                np.zeros((side, side)),
                alpha=0.8 * shade,
                cmap="gray",
                vmin=0,
                vmax=1,
                extent=(0, side, side, 0),
            )
    for axes in panels:
        axes.set_axis_off()
    figure.savefig(path, dpi=75)


def draw_sheet(
    pictures: np.ndarray, captions: Sequence[Sequence[str]], references: Sequence[str], path: Path
) -> None:
    """Draw pictures with their captions above, and a reference below each."""
    rows = -(-len(pictures) // COLUMNS)
    figure = Figure(figsize=(2.3 * COLUMNS, 4.0 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, picture, words, reference in zip(panels, pictures, captions, references, strict=False):
        axes.imshow(picture)
        axes.set_title(textwrap.fill(" ".join(words), 28), fontsize=8)
        axes.text(
            0.5,
            -0.04,
            textwrap.fill(reference, 30),
            fontsize=7,
            color="dimgray",
            ha="center",
            va="top",
            transform=axes.transAxes,
        )
    figure.savefig(path, dpi=100)
