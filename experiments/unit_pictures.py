"""Hidden units that track something in a text, as in figure 2 of Karpathy, Johnson and Li 2015.

For each property of a text, such as being within quotes, the unit is sought whose output goes with it most,
by the correlation over the first half of the text. What is told is the correlation over the second half.

Source: Karpathy, Johnson and Li 2015 (arXiv:1506.02078).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

Property = Callable[[Sequence[str]], np.ndarray]
"""From the tokens of a text to a number for each."""


class Found(NamedTuple):
    """A unit that goes with a property."""

    name: str
    """The property."""
    unit: int
    """Number of the unit, counted through all layers."""
    correlation: float
    """Over the half of the text on which it was not chosen."""


def since(tokens: Sequence[str], mark: Callable[[str], bool]) -> np.ndarray:
    """How many tokens after the last marked one, which itself counts 0.

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


def speaker(tokens: Sequence[str]) -> np.ndarray:
    """1 within the name before a speech: from an empty line to the colon after it, of characters."""
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
    "place in the word": lambda tokens: since(tokens, lambda token: not token.isalpha()),
    "name of the speaker": speaker,
    "after a number": lambda tokens: since(tokens, lambda token: token == "N") == 0,
}
"""What is looked for; what a text does not have at all, or everywhere, is passed over."""


def find(outputs: Float[np.ndarray, "units time"], tokens: Sequence[str]) -> list[Found]:
    """For each property that the text has, the unit that tracks it, the best first."""
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


def draw(
    found: Sequence[Found],
    outputs: Float[np.ndarray, "units time"],
    tokens: Sequence[str],
    path: Path,
    columns: int = 96,
    lines: int = 10,
) -> None:
    """Write the end of the text once for each unit, every token on the colour of the unit's output.

    Args:
      found: the units.
      outputs: of all units, in -1..1; blue is below zero, red above.
      tokens: the text.
      path: the picture to write.
      columns: characters of a line of the picture; longer lines of the text go on in the next.
      lines: of each panel.
    """
    rows = _lay_out(tokens[len(tokens) // 2 :], columns)[:lines]
    offset = len(tokens) // 2
    figure = Figure(
        figsize=(columns * 0.085, (lines * 0.19 + 0.35) * max(len(found), 1)), layout="constrained"
    )
    panels = figure.subplots(max(len(found), 1), squeeze=False)[:, 0]
    for axes, each in zip(panels, found, strict=False):
        title = f"unit {each.unit}, {each.name} (correlation {each.correlation:.2f})"
        axes.set(xlim=(0, columns), ylim=(lines, 0), xticks=[], yticks=[])
        axes.set_title(title, fontsize=9, loc="left")
        for row, pieces in enumerate(rows):
            for column, text, place in pieces:
                level = outputs[each.unit, offset + place]
                axes.broken_barh([(column, len(text))], (row, 1), color=_colour(level), linewidth=0)
                for shift, character in enumerate(text):
                    if not character.isspace():
                        axes.text(
                            column + shift + 0.5,
                            row + 0.55,
                            character,
                            fontsize=7,
                            family="monospace",
                            ha="center",
                            va="center",
                            parse_math=False,
                        )
    figure.savefig(path, dpi=130)


def _colour(level: float) -> tuple[float, float, float]:
    strength = float(np.clip(abs(level), 0, 1)) * 0.8
    return (1.0, 1 - strength, 1 - strength) if level > 0 else (1 - strength, 1 - strength, 1.0)


def _lay_out(tokens: Sequence[str], columns: int) -> list[list[tuple[int, str, int]]]:
    """Rows of (column, text, place of the token)."""
    by_words = any(len(token) > 1 for token in tokens)
    rows: list[list[tuple[int, str, int]]] = [[]]
    column = 0
    for place, token in enumerate(tokens):
        text = "¶" if token in LINE_ENDS else f"{token} " if by_words else token
        if column + len(text) > columns:
            rows.append([])
            column = 0
        rows[-1].append((column, text[:columns], place))
        column += len(text)
        if token in LINE_ENDS:
            rows.append([])
            column = 0
    return rows
