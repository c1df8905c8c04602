"""Paths of the pen: their unit, their simplification, and the way back to inks."""

import numpy as np
import pytest
import shapely

from experiments.datasets.ink import of_strokes
from experiments.handwriting_recognition.writing import path


def circle(centre, radius, points=200):
    angle = np.linspace(0, 2 * np.pi, points)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * radius + centre


@pytest.fixture(name="ink")
def _ink():
    """Two circles and a dot between them, in units of a tablet."""
    strokes = [circle([1000, 2000], 300), np.array([[1400.0, 2500.0]] * 3), circle([1800, 2000], 200)]
    return of_strokes(strokes, label="oo", writer="me")


def test_strokes_come_back_within_the_tolerance_at_corners_that_are_fewer(ink):
    (word,) = path.words([ink], tolerance=0.01)
    strokes = path.ink(word).strokes
    unit = path.unit(ink.strokes, ink.label)
    assert unit == pytest.approx(2 * np.pi * 500 / 2, rel=1e-3)
    assert [len(stroke) for stroke in strokes][1] == 1
    assert len(word.path) < 60
    for back, stroke in zip(strokes[::2], ink.strokes[::2], strict=True):
        there = (stroke - ink.points[0]) / unit
        distance = shapely.hausdorff_distance(shapely.LineString(back), shapely.LineString(there))
        assert distance < 0.015


def test_the_size_of_an_ink_and_its_place_make_no_difference(ink):
    other = ink._replace(points=ink.points * 3 + 77)
    (first,), (second,) = (path.words([each], tolerance=0.01, seed=1) for each in (ink, other))
    ends = [np.flatnonzero(word.path[:, 2]) for word in (first, second)]
    corners = [
        np.cumsum(word.path[:, :2], axis=0)[end] for word, end in zip((first, second), ends, strict=True)
    ]
    np.testing.assert_allclose(*corners, atol=0.005)


def test_a_path_says_where_strokes_end_and_where_the_word_begins():
    strokes = [np.array([[5.0, 5.0], [6.0, 7.0]]), np.array([[9.0, 5.0]])]
    expected = [[0, 0, 0, 1], [1, 2, 1, 0], [3, -2, 1, 0]]
    np.testing.assert_array_equal(path.path(strokes), expected)


def test_noise_is_of_one_unit_of_the_tablet(ink):
    (word,) = path.words([ink], tolerance=0)
    unit = path.unit(ink.strokes, ink.label)
    drawn = np.cumsum(word.path[:, :2], axis=0) * unit
    last = ink.strokes[2][-1] - ink.points[0]
    assert (np.abs(drawn[-1] - last) <= 1.01).all()  # the first point has noise as well
    assert (word.path[1:, :2] != 0).all()


@pytest.mark.parametrize("strokes", [[[[3, 3]]], [[[3, 3], [3, 3]]], [[[0, 0]], [[1, 0]], [[0, 0], [0, 5]]]])
def test_dots_and_pens_that_never_move_have_a_path(strokes):
    (word,) = path.words([of_strokes([np.array(stroke) for stroke in strokes], label="i")], tolerance=0.02)
    assert np.isfinite(word.path).all()
    assert word.path[:, 2].sum() == len(strokes)
    assert len(path.ink(word).strokes) == len(strokes)


def test_smooth_curves_go_through_their_points_and_stay_in_their_box():
    stroke = np.random.default_rng(0).standard_normal((12, 2))
    curve = path.smooth(stroke)
    assert len(curve) > 3 * len(stroke)
    for point in stroke:
        assert np.abs(curve - point).sum(axis=1).min() < 1e-9
    assert (curve.min(axis=0) >= stroke.min(axis=0) - 1e-9).all()
    assert (curve.max(axis=0) <= stroke.max(axis=0) + 1e-9).all()
