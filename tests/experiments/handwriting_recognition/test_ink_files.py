"""Users' inks: each format is read as it says, and what cannot be read is refused in one clear line."""

import numpy as np
import pytest

from experiments.datasets.files import DataError
from experiments.handwriting_recognition import ink_files

INKML = """<?xml version="1.0"?>
<ink xmlns="http://www.w3.org/2003/InkML">
  <traceFormat><channel name="T"/><channel name="X"/><channel name="Y"/></traceFormat>
  <traceGroup><annotation type="truth">ab</annotation>
    <trace>0 1 2, 1 3 4</trace><trace>5 10 20, '1 '2 '-3, 1 2 3</trace></traceGroup>
  <traceGroup><trace>0 7 8</trace></traceGroup>
</ink>
"""
UNIPEN = """.COORD X Y T
.SEGMENT WORD 0 ? "to"
.PEN_DOWN
1 2 0
3 4 1
.PEN_UP
9 9 9
.PEN_DOWN
5 6 2
.SEGMENT WORD 1 ? "I"
.PEN_DOWN
7 8 3
"""


def read(tmp_path, text, **options):
    path = tmp_path / "ink.txt"
    path.write_text(text, "utf-8")
    found = ink_files.read(path, **options)
    return [(ink.label, [stroke.tolist() for stroke in ink.strokes]) for ink in found]


def test_inkml_has_channels_differences_and_groups(tmp_path):
    first, second = read(tmp_path, INKML)
    assert first == ("ab", [[[1, -2], [3, -4]], [[10, -20], [12, -17], [14, -20]]])
    assert second == ("", [[[7, -8]]])


def test_inkml_without_groups_is_one_ink(tmp_path):
    text = "<ink><trace>1 2, 3 4 </trace><trace>5 6, '1 '1, \"0 \"1</trace></ink>"
    ((_, strokes),) = read(tmp_path, text, y="up")
    assert strokes == [[[1, 2], [3, 4]], [[5, 6], [6, 7], [7, 9]]]


def test_unipen_has_segments_and_columns(tmp_path):
    assert read(tmp_path, UNIPEN) == [("to", [[[1, 2], [3, 4]], [[5, 6]]]), ("I", [[[7, 8]]])]


def test_unipen_without_segments_may_never_lift_the_pen(tmp_path):
    assert read(tmp_path, ".PEN_DOWN\n1 2\n1 2\n") == [("", [[[1, 2], [1, 2]]])]


@pytest.mark.parametrize(
    "text",
    [
        "[[[0, 1], [2, 3]], [[4, 5]]]",
        '{"strokes": [[[0, 1, 9], [2, 3, 9]], [[4, 5, 9]]]}',
        '[[{"x": 0, "y": 1}, {"x": 2, "y": 3}], [{"x": 4, "y": 5}]]',
        '{"label": "", "strokes": [{"x": [0, 2], "y": [1, 3]}, {"x": [4], "y": [5]}, []]}',
    ],
)
def test_json_may_have_several_forms(tmp_path, text):
    assert read(tmp_path, text, y="up") == [("", [[[0, 1], [2, 3]], [[4, 5]]])]


def test_json_may_have_several_inks(tmp_path):
    found = read(tmp_path, '[{"label": "a", "strokes": [[[0, 1]]]}, {"label": "b", "strokes": [[[2, 3]]]}]')
    assert found == [("a", [[[0, -1]]]), ("b", [[[2, -3]]])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("Dear reader", "neither InkML nor JSON nor UNIPEN"),
        (".COORD T P\n.PEN_DOWN\n1 2\n", "gives T P, and not X and Y"),
        (".PEN_DOWN\n1 2\n3\n", "'3' is no point of 2 numbers"),
        (".PEN_DOWN\n1 two\n", "'1 two' is no point"),
        (".PEN_DOWN\n.PEN_UP\n", "no point in any stroke"),
        ('.SEGMENT WORD 0-1 ? "a"\n.SEGMENT WORD 2 ? "b"\n.PEN_DOWN\n1 2\n', "strokes by their numbers"),
        ("<ink><trace>1 2</ink>", "damaged XML"),
        ("<svg/>", "root is <svg> and not <ink>"),
        ("<!DOCTYPE ink [<!ENTITY a 'b'>]><ink/>", "a document type"),
        ("<ink/>", "has no strokes"),
        ("<ink><trace></trace></ink>", "no point in any stroke"),
        ("<ink><trace>1 2, 3</trace></ink>", "trace 1: '3' is no point with channels X, Y"),
        ("<ink><trace>1 *</trace></ink>", "leaves out a coordinate"),
        ("<ink><traceFormat><channel name='T'/></traceFormat></ink>", "channels T, and not X and Y"),
        ("[", "damaged JSON"),
        ("[" * 100_000, "damaged JSON"),
        ("[]", "no point in any stroke"),
        ("[[]]", "no point in any stroke"),
        ("[[[1, NaN]]]", "not finite"),
        ("[[[1, 1e300]]]", "not finite, or beyond"),
        ("[[[1]]]", "strokes are lists of points"),
        ("3", "neither InkML"),
        ('{"a": 1}', "strokes are lists of points"),
        ('{"strokes": 3}', "strokes are lists of points"),
        ('{"strokes": [[["x", 1]]]}', "strokes are lists of points"),
        ('[{"x": [1, 2], "y": [3]}]', "strokes are lists of points"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text)
    assert "ink.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(200, 256)))
    for path in (tmp_path / "a", tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            ink_files.read(path)


def test_directions_of_y(tmp_path):
    path = tmp_path / "a"
    path.write_text("[[[1, 2]]]")
    assert [ink_files.read(path, y)[0].points[0, 1] for y in (None, "down", "up")] == [-2, -2, 2]
    assert np.isfinite(ink_files.read(path)[0].points).all()
