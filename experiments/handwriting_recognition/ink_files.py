"""Reading a user's inks: InkML, the text format of UNIPEN, and strokes in JSON.

The format is told by the content. A file is read completely, or an error says where the problem is.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np

from experiments.datasets.files import DataError, read_bytes, reading
from experiments.datasets.ink import Ink, of_strokes

FARTHEST = 1e9
"""Coordinates beyond are taken for an error."""

Direction = Literal["up", "down"]
Strokes = list[np.ndarray]
"""The points of each stroke, ``[points, 2]``."""


def read(path: Path, y: Direction | None = None) -> list[Ink]:
    """The inks of a file; labels, where the file gives them.

    ``.SEGMENT ... "text"`` before the strokes of UNIPEN, a ``traceGroup`` of InkML and an object of JSON make
    an ink each; otherwise the whole file is one. Repeated points and a pen that is never lifted are fine.

    Args:
      path: the file.
      y: where larger y lie; by default up in UNIPEN, as on tablets, and down in the others, as on screens.

    Raises:
      DataError: the file cannot be read, is of another format or damaged, or an ink has no point.
    """
    content = read_bytes(path)
    with reading(path):
        return _inks(content.decode("utf-8-sig"), str(path), y)


def _inks(text: str, path: str, y: Direction | None) -> list[Ink]:
    start = text.lstrip()[:1]
    if not start:
        raise DataError(f"{path} is empty: there is nothing to read.")
    reader, usual = {"<": (_inkml, "down"), "{": (_json, "down"), "[": (_json, "down")}.get(
        start, (_unipen, "up")
    )
    inks = []
    for number, (label, strokes) in enumerate(reader(text, path), start=1):
        points = [stroke for stroke in strokes if len(stroke)]
        if not points:
            raise DataError(
                f"{path}, ink {number}: there is no point in any stroke. Remove it, or draw it again."
            )
        if not all(np.isfinite(stroke).all() and (np.abs(stroke) < FARTHEST).all() for stroke in points):
            raise DataError(f"{path}, ink {number}: a coordinate is not finite, or beyond {FARTHEST:g}.")
        sign = 1 if (y or usual) == "up" else -1
        inks.append(of_strokes([stroke * (1, sign) for stroke in points], label))
    if not inks:
        raise DataError(f"{path} has no strokes: there is nothing to read.")
    return inks


def _inkml(text: str, name: str) -> Iterator[tuple[str, Strokes]]:
    """The inks of InkML (W3C 2011): its trace groups, or all traces."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{name} has a document type, which InkML does not need: remove it.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{name} is damaged XML: {error}.") from error
    for element in root.iter():  # names without the namespace
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != "ink":
        raise DataError(f"{name} is XML, but its root is <{root.tag}> and not <ink>: it is no InkML.")
    channels = [each.get("name", "") for each in root.findall(".//traceFormat//channel")] or ["X", "Y"]
    if not {"X", "Y"} <= set(channels):
        raise DataError(f"{name}: the traces have channels {', '.join(channels)}, and not X and Y.")
    groups = [group for group in root.iter("traceGroup") if group.find("trace") is not None] or [root]
    for group in groups:
        traces = group.findall("trace") if group is not root else list(root.iter("trace"))
        strokes = [
            _trace(each.text or "", channels, f"{name}, trace {n}") for n, each in enumerate(traces, 1)
        ]
        truth = [each.text or "" for each in group.findall("annotation") if each.get("type") == "truth"]
        if strokes:
            yield "".join(truth).strip(), strokes


def _trace(text: str, channels: list[str], place: str) -> np.ndarray:
    """The points of a trace: values, differences (after ``'``) or differences of differences (``"``)."""
    order, values, speeds, points = [0] * len(channels), [0.0] * len(channels), [0.0] * len(channels), []
    for point in filter(str.strip, text.split(",")):
        found = re.findall(r"([!'\"]?)\s*(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[TF?*])", point)
        if len(found) < len(channels) or re.sub(r"[!'\"\s\d.eE+\-TF?*]", "", point):
            raise DataError(
                f"{place}: {point.strip()[:40]!r} is no point with channels {', '.join(channels)}."
            )
        for channel, (sign, number) in enumerate(found[: len(channels)]):
            if sign:
                order[channel] = "!'\"".index(sign)
            if number in "TF?*":
                if channels[channel] in "XY":
                    raise DataError(f"{place}: {point.strip()[:40]!r} leaves out a coordinate.")
                continue
            value = float(number)
            if order[channel] == 2:
                value = speeds[channel] + value
            if order[channel] >= 1:
                speeds[channel], value = value, values[channel] + value
            values[channel] = value
        points.append([values[channels.index("X")], values[channels.index("Y")]])
    return np.array(points, np.float64).reshape(-1, 2)


def _unipen(text: str, name: str) -> Iterator[tuple[str, Strokes]]:
    """The inks of UNIPEN's format (Guyon et al. 1994): those after each ``.SEGMENT``, or the whole file."""
    if not re.search(r"^\.PEN_DOWN", text, re.MULTILINE):
        raise DataError(f"{name} is neither InkML nor JSON nor UNIPEN: there is no line .PEN_DOWN in it.")
    columns = re.search(r"^\.COORD\s+(.*)", text, re.MULTILINE)
    names = columns[1].split() if columns else ["X", "Y"]
    if not {"X", "Y"} <= set(names):
        raise DataError(f"{name}: .COORD gives {' '.join(names)}, and not X and Y.")
    chosen = [names.index("X"), names.index("Y")]
    head, *segments = re.split(r"^\.SEGMENT(.*)", text, flags=re.MULTILINE)
    labelled = list(zip(segments[::2], segments[1::2], strict=True))
    if not labelled:
        labelled = [("", text)]
    elif ".PEN_DOWN" in head or any(".PEN_DOWN" not in body for _, body in labelled):
        raise DataError(
            f"{name}: segments name strokes by their numbers, which is not read here. "
            "Put the strokes of each word after its own line .SEGMENT, or leave the segments out."
        )
    for line, body in labelled:
        label = re.search(r'"((?:[^"\\]|\\.)*)"', line)
        strokes = []
        for part in re.split(r"^\.(?=[A-Z])", body, flags=re.MULTILINE):
            word, _, rest = part.partition("\n")
            if word.split()[:1] == ["PEN_DOWN"]:
                strokes.append(_columns(rest, len(names), chosen, name))
        yield label[1].replace('\\"', '"') if label else "", strokes


def _columns(text: str, columns: int, chosen: list[int], name: str) -> np.ndarray:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    try:
        values = np.array(rows, np.float64).reshape(-1, columns)
    except ValueError as error:
        wrong = next(
            (" ".join(row) for row in rows if len(row) != columns or not all(map(_is_number, row))), ""
        )
        raise DataError(f"{name}: {wrong[:40]!r} is no point of {columns} numbers.") from error
    return values[:, chosen]


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _json(text: str, name: str) -> Iterator[tuple[str, Strokes]]:
    """The inks of JSON: ``{"label": "text", "strokes": [[[x, y], ...], ...]}``, a list of these, or strokes.

    A point may also be ``{"x": 1, "y": 2}``, and a stroke ``{"x": [1, 3], "y": [2, 4]}``.
    """
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{name} is damaged JSON: {error}.") from error
    objects = content if isinstance(content, list) else [content]
    if not objects or not all(isinstance(each, dict) and "strokes" in each for each in objects):
        objects = [{"strokes": content}]
    for number, each in enumerate(objects, start=1):
        try:
            yield str(each.get("label", "")), [_stroke(stroke) for stroke in each["strokes"]]
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(
                f"{name}, ink {number}: strokes are lists of points, such as [[[0, 0], [3, 4]], [[1, 9]]]; "
                f"this is something else ({error})."
            ) from error


def _stroke(stroke: Any) -> np.ndarray:
    if isinstance(stroke, dict):
        return np.array(
            [(float(x), float(y)) for x, y in zip(stroke["x"], stroke["y"], strict=True)]
        ).reshape(-1, 2)
    points = [(point["x"], point["y"]) if isinstance(point, dict) else point[:2] for point in stroke]
    return np.array([(float(x), float(y)) for x, y in points]).reshape(-1, 2)
