"""Pictures: digits as they are drawn and read, glimpse by glimpse, and samples beside training images."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from experiments.common import models
from experiments.datasets.mnist import SIDE
from experiments.image_generation.config import Config
from experiments.image_generation.model import Drawn
from lstmjax.attention import Window
from lstmjax.types import Array

SCALE, GAP = 3, 4
"""Pixels of a picture for one of an image, and between images."""
READ, WRITE = (0, 150, 60), (220, 30, 30)
"""Colours of the windows."""
ROWS, COLUMNS = 6, 12
"""How many digits are shown step by step, and how many of the glimpses."""
MILLISECONDS, COLOURS = 2000, 16
"""How long an animation draws, and shows what it has drawn; its colours."""


def generate(saved: models.Saved[Config], count: int, seed: int) -> Drawn:
    """Draw so many digits from the prior."""
    shape = (saved.config.glimpses, count, saved.config.latent)
    z = jax.random.normal(jax.random.key(seed), shape)
    return jax.device_get(jax.jit(lambda params: saved.model.bind(params).generate(z)[1])(saved.params))


def reconstruct(saved: models.Saved[Config], images: Float[np.ndarray, "images pixels"], seed: int) -> Drawn:
    """Draw binary images."""
    noise = jax.random.normal(jax.random.key(seed), (saved.config.glimpses, len(images), saved.config.latent))
    return jax.device_get(
        jax.jit(lambda params: saved.model.bind(params).reconstruct(images, noise)[1])(saved.params)
    )


def draw_steps(drawn: Drawn, config: Config, path: Path) -> None:
    """Draw a row for each of the first digits: canvases, each with the window that was written to."""
    rows = range(min(ROWS, drawn.canvas.shape[1]))
    together([[canvas(drawn, step, row, config) for step in _shown(config)] for row in rows]).save(path)


def draw_reading(
    drawn: Drawn, images: Float[np.ndarray, "images pixels"], config: Config, path: Path
) -> None:
    """Draw two rows for each image: the image with windows that were read, and the canvases after them."""
    rows = []
    for row, image in enumerate(images[:ROWS]):
        windows = [_at(drawn.read, step, row) for step in _shown(config)]
        rows.append([outlined(tile(image), window, config.read, READ) for window in windows])
        rows.append([canvas(drawn, step, row, config) for step in _shown(config)])
    together(rows).save(path)


def animate(drawn: Drawn, config: Config, path: Path) -> None:
    """Animate all digits as they are drawn, and at the end without windows."""
    glimpses, count = drawn.canvas.shape[:2]
    frames = [square([canvas(drawn, step, row, config) for row in range(count)]) for step in range(glimpses)]
    frames.append(square([tile(_ink(logits)) for logits in drawn.canvas[-1]]))
    durations = [max(MILLISECONDS // glimpses, 40)] * glimpses + [MILLISECONDS]
    frames = [frame.quantize(COLOURS) for frame in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def draw_neighbours(drawn: Drawn, train: Float[np.ndarray, "images pixels"], path: Path) -> None:
    """Draw two rows of digits, below each the nearest of grey training images."""
    rows = []
    for first in (0, COLUMNS):
        digits = _ink(drawn.canvas[-1, first : first + COLUMNS])
        rows += [list(map(tile, digits)), list(map(tile, nearest(digits, train)))]
    together(rows).save(path)


def nearest(
    images: Float[np.ndarray, "images pixels"], others: Float[np.ndarray, "others pixels"]
) -> Float[np.ndarray, "images pixels"]:
    """For each image the one of the others at the smallest Euclidean distance."""
    distance = (others**2).sum(axis=1) - 2 * images @ others.T
    return others[distance.argmin(axis=1)]


def canvas(drawn: Drawn, step: int, row: int, config: Config) -> Image.Image:
    """A canvas after a glimpse, with the window that was written to."""
    picture = tile(_ink(drawn.canvas[step, row]))
    return outlined(picture, _at(drawn.write, step, row), config.write, WRITE)


def tile(pixels: Float[np.ndarray, " pixels"]) -> Image.Image:
    """An image, from 0 for paper to 1 for ink."""
    grey = Image.fromarray(np.uint8(255.5 - 255 * pixels.reshape(SIDE, SIDE))).convert("RGB")
    return grey.resize((SCALE * SIDE, SCALE * SIDE), Image.Resampling.NEAREST)


def outlined(picture: Image.Image, window: Window | None, grid: int, colour: tuple[int, ...]) -> Image.Image:
    """A picture with the outline of a window, if there is one: as wide as the filters' deviation."""
    if window is not None:
        half = (grid - 1) / 2 * window.stride + 0.5
        column, row = window.column - 0.5, window.row - 0.5  # pixel 1 lies between 0 and 1
        box = np.array([column - half, row - half, column + half, row + half])
        width = int(np.clip(round(float(window.deviation)), 1, SCALE))
        edges = np.clip(SCALE * box, -SCALE * SIDE, 2 * SCALE * SIDE).tolist()
        ImageDraw.Draw(picture).rectangle(edges, outline=colour, width=width)
    return picture


def square(tiles: Sequence[Image.Image]) -> Image.Image:
    """Pictures in rows, about as many as columns."""
    wide = int(np.ceil(np.sqrt(len(tiles))))
    return together([tiles[first : first + wide] for first in range(0, len(tiles), wide)])


def together(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size as one."""
    side = SCALE * SIDE + GAP
    whole = Image.new("RGB", (side * len(rows[0]) + GAP, side * len(rows) + GAP), (128, 128, 128))
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            whole.paste(picture, (GAP + side * across, GAP + side * down))
    return whole


def _shown(config: Config) -> list[int]:
    """The glimpses that are shown step by step."""
    count = min(COLUMNS, config.glimpses)
    return np.linspace(0, config.glimpses - 1, count).round().astype(int).tolist()


def _at(window: Window | None, step: int, row: int) -> Window | None:
    return jax.tree.map(lambda leaf: leaf[step, row], window)


def _ink(logits: Float[Array, "*batch pixels"]) -> Float[np.ndarray, "*batch pixels"]:
    return np.asarray(jax.nn.sigmoid(logits))
