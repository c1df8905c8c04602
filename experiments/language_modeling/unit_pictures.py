"""Hidden units that track a property of a text, as in figure 2 of Karpathy, Johnson and Li 2015.

For each property of a text, such as being within quotes, the unit with the highest correlation on the first
half of the text is selected. The reported correlation is that on the second half.

Source: Karpathy, Johnson and Li 2015 (arXiv:1506.02078).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Property = Callable[[Sequence[str]], np.ndarray]
"""A function from the tokens of a text to a value for each."""


class Found(NamedTuple):
    """A unit that tracks a property."""

    name: str
    """The property."""
    unit: int
    """Index of the unit, counted through all layers."""
    correlation: float
    """Correlation on the half of the text that was not used for the selection."""


def since(tokens: Sequence[str], mark: Callable[[str], bool]) -> np.ndarray:
    """Number of tokens since the last marked one, which itself has 0.

    Example:
      >>> since("a\\nbc", lambda token: token == "\\n").tolist()
      [0, 0, 1, 2]
    """
    counts, count = np.zeros(len(tokens)), -1
    for place, token in enumerate(tokens):
        count = 0 if mark(token) else count + 1
        counts[place] = count
    return counts


def inside(tokens: Sequence[str], opening: str, closing: str) -> np.ndarray:
    """1 from each opening token on, until the closing one or the end of the line, else 0.

    Example:
      >>> inside("a(b)c", "(", ")").tolist()
      [0.0, 1.0, 1.0, 0.0, 0.0]
    """
    values, within = np.zeros(len(tokens)), False
    for place, token in enumerate(tokens):
        within = not within if opening == closing == token else (within or token == opening)
        if token in LINE_ENDS or (token == closing != opening):
            within = False
        values[place] = within
    return values


def in_characters(tokens: Sequence[str]) -> bool:
    """Whether the tokens are characters rather than words."""
    return all(len(token) == 1 for token in tokens)


def speaker(tokens: Sequence[str]) -> np.ndarray:
    """1 within the name before a speech: from an empty line to the next colon; characters only."""
    values, within = np.zeros(len(tokens)), False
    for place in range(len(tokens)):
        if place > 1 and tokens[place - 2] == tokens[place - 1] == "\n":
            within = True
        if tokens[place] == ":":
            within = False
        values[place] = within
    return values


LINE_ENDS = ("<eos>", "\n")

PROPERTIES: dict[str, Property] = {
    "within quotes": lambda tokens: inside(tokens, '"', '"'),
    "within brackets": lambda tokens: inside(tokens, "(", ")"),
    "place in the line": lambda tokens: since(tokens, LINE_ENDS.__contains__),
    "place in the word": lambda tokens: (
        since(tokens, lambda token: not token.isalpha()) * in_characters(tokens)
    ),
    "name of the speaker": lambda tokens: speaker(tokens) * in_characters(tokens),
    "number": lambda tokens: np.array([token == "N" for token in tokens]) * (not in_characters(tokens)),
}
"""The properties that are searched for; a property that is constant in the text is skipped."""


def find(outputs: Float[np.ndarray, "units time"], tokens: Sequence[str]) -> list[Found]:
    """For each property of the text, the unit that tracks it, highest correlation first."""
    half, found = len(tokens) // 2, []
    for name, measure in PROPERTIES.items():
        values = np.asarray(measure(tokens), float)
        if values[:half].std() == 0 or values[half:].std() == 0:
            continue
        unit = int(np.argmax(np.abs(_correlations(outputs[:, :half], values[:half]))))
        correlation = float(_correlations(outputs[unit : unit + 1, half:], values[half:])[0])
        found.append(Found(name, unit, correlation))
    return sorted(found, key=lambda each: -abs(each.correlation))


def _correlations(outputs: np.ndarray, values: np.ndarray) -> np.ndarray:
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    values = values - values.mean()
    norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(values)
    return np.divide(centred @ values, norms, out=np.zeros(len(outputs)), where=norms > 0)


COLUMNS, LINES = 96, 10
"""Size of a panel, in characters; longer lines of the text are wrapped."""

FONT_SIZE, ADVANCE = 7, 0.602
"""Font size in points, and the advance width of a character relative to it."""


def draw(
    found: Sequence[Found], outputs: Float[np.ndarray, "units time"], tokens: Sequence[str], path: Path
) -> None:
    """Plot a part of the text once for each unit, with every token coloured by the unit's output.

    The part is the one of the second half in which the property varies most.

    Args:
      found: the units.
      outputs: the outputs of all units, in -1..1; blue is below zero, red above.
      tokens: the text.
      path: the image file to write.
    """
    width, height = COLUMNS * ADVANCE * FONT_SIZE, LINES * 1.6 * FONT_SIZE  # in points
    left, panel = FONT_SIZE, height + 2.4 * FONT_SIZE
    size = np.array([width + 2 * left, panel * max(len(found), 1) + FONT_SIZE])
    figure = Figure(figsize=(size[0] / 72, size[1] / 72))
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):  # so that characters are as wide as they are
        for number, each in enumerate(found):
            bottom = size[1] - (number + 1) * panel - FONT_SIZE / 2
            box = np.array([left, bottom, width, height]) / np.tile(size, 2)
            axes = figure.add_axes((box[0], box[1], box[2], box[3]), xticks=[], yticks=[])
            _draw_panel(axes, each, outputs[each.unit], tokens)
        figure.savefig(path, dpi=130)


def _draw_panel(axes: Axes, found: Found, outputs: np.ndarray, tokens: Sequence[str]) -> None:
    start = _liveliest(PROPERTIES[found.name](tokens), tokens)
    font: Any = {"family": "DejaVu Sans Mono", "fontsize": FONT_SIZE, "va": "center_baseline"}
    colours = np.ones((LINES, COLUMNS, 3))
    for row, pieces in enumerate(_lay_out(tokens[start : start + COLUMNS * LINES])[:LINES]):
        for column, text, place in pieces:
            colours[row, column : column + len(text)] = _colour(outputs[start + place])
        axes.text(0, row + 0.55, "".join(text for _, text, _ in pieces), parse_math=False, **font)
    axes.imshow(colours, extent=(0, COLUMNS, LINES, 0), aspect="auto", interpolation="nearest")
    title = f"unit {found.unit}, {found.name} (correlation {found.correlation:.2f})"
    axes.set_title(title, fontsize=FONT_SIZE + 1, loc="left", pad=3)


def _liveliest(values: np.ndarray, tokens: Sequence[str], span: int = 200) -> int:
    """The first token of the line in the second half after which the values vary most."""
    half = len(tokens) // 2
    starts = [place + 1 for place in range(half, len(tokens) - span) if tokens[place] in LINE_ENDS]
    return max(starts, key=lambda start: float(np.std(values[start : start + span])), default=half)


def _colour(level: float) -> np.ndarray:
    rest = 1 - 0.8 * float(np.clip(abs(level), 0, 1))
    return np.array([1.0, rest, rest] if level > 0 else [rest, rest, 1.0])


def _lay_out(tokens: Sequence[str]) -> list[list[tuple[int, str, int]]]:
    """Rows of (column, text, index of the token)."""
    by_words = not in_characters(tokens)
    rows: list[list[tuple[int, str, int]]] = [[]]
    column = 0
    for place, token in enumerate(tokens):
        text = "¶" if token in LINE_ENDS else f"{token} " if by_words else token
        if column + len(text) > COLUMNS:
            rows.append([])
            column = 0
        rows[-1].append((column, text[:COLUMNS], place))
        column += len(text)
        if token in LINE_ENDS:
            rows.append([])
            column = 0
    return rows
