"""Videos with their sentences underneath, as animations; attention to frames; samples as text."""

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from experiments.video_to_text.data import encode
from experiments.video_to_text.describing import Described
from experiments.video_to_text.task import Saved
from lstmjax.training.batching import pad

SCALE, BORDER, LINE, LETTERS = 4, 6, 13, 22
MILLISECONDS = 120
"""Of a frame."""


def write_animation(described: Sequence[Described], path: Path, columns: int = 4) -> None:
    """Write videos of pictures side by side as a GIF; under a wrong sentence, in red, is the right one."""
    side = described[0].frames.shape[-1] * SCALE
    captions = [_captions(each) for each in described]
    height = side + LINE * max(map(len, captions)) + 2 * BORDER
    rows = -(-len(described) // columns)
    columns = min(columns, len(described))
    size = (columns * (side + BORDER) + BORDER, rows * height + BORDER)
    paper = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(11)
    for number, lines in enumerate(captions):
        left, top = _corner(number, columns, side, height)
        for line, (text, colour) in enumerate(lines):
            draw.text((left, top + side + BORDER + LINE * line), text, fill=colour, font=font)
    pictures = []
    for moment in range(max(len(each.frames) for each in described)):
        picture = paper.copy()
        for number, each in enumerate(described):
            frame = Image.fromarray(each.frames[min(moment, len(each.frames) - 1)])
            enlarged = frame.resize((side, side), Image.Resampling.NEAREST)
            picture.paste(enlarged, _corner(number, columns, side, height))
        pictures.append(picture.quantize(24))
    waits = [MILLISECONDS] * (len(pictures) - 1) + [8 * MILLISECONDS]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=waits, loop=0)


def _corner(number: int, columns: int, side: int, height: int) -> tuple[int, int]:
    row, column = divmod(number, columns)
    return BORDER + column * (side + BORDER), BORDER + row * height


def _captions(each: Described) -> list[tuple[str, str]]:
    """Lines of text with their colours."""
    is_wrong = bool(each.references) and not each.right
    lines = [(line, "red" if is_wrong else "black") for line in _wrapped(each.sentence)]
    if is_wrong:
        lines += [(line, "grey") for line in _wrapped(f"({each.references[0]})")]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LETTERS, break_on_hyphens=False)


def draw_attention(saved: Saved, described: Described, path: Path) -> None:
    """Draw the attention weights of each word of the model's sentence over the frames."""
    words = encode(saved.words, described.sentence)
    weights = _weights(saved.model, saved.params, pad([described.frames]), words[None])[0]
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(words)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.asarray(weights), aspect="auto", cmap="Greys", vmin=0)
    axes.set_yticks(range(len(words)), saved.words.decode(words))
    axes.set(xlabel="frame", title=described.references[0])
    figure.savefig(path, dpi=100)


@functools.partial(jax.jit, static_argnames="model")
def _weights(model, params, video, words):  # type: ignore[no-untyped-def]
    module = model.bind(params)
    return module.teach(module.watch(*video), words)[1]


def write_samples(described: Sequence[Described], path: Path, count: int = 50) -> None:
    """Write the first sentences, and those that are right where they are wrong."""
    lines = (
        each.sentence if each.right else f"{each.sentence}\n    right: {each.references[0]}"
        for each in described[:count]
    )
    path.write_text("\n".join(lines) + "\n", "utf-8")
