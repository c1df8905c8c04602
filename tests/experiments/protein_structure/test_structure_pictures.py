"""Pictures of secondary structure: they are written, and are as large as what they show."""

import matplotlib.image
import numpy as np
import pytest

from experiments.datasets.chains import STATES3, STATES8
from experiments.protein_structure import pictures


def size(path):
    """Width and height in pixels; the picture is not empty."""
    image = matplotlib.image.imread(path)
    assert image[..., :3].std() > 0.01
    return image.shape[1], image.shape[0]


def likely(states, length, seed=0):
    random = np.random.default_rng(seed)
    return random.dirichlet(np.full(len(states), 0.3), -(-length // 10)).repeat(10, axis=0)[:length]


def test_every_state_has_a_name_and_a_colour_of_its_own():
    assert set(STATES8) | set(STATES3) == set(pictures.STYLES)
    assert (
        len(set(pictures.STYLES.values())) == len({style.colour for style in pictures.STYLES.values()}) == 8
    )


def test_a_chain_of_one_residue(tmp_path):
    path = tmp_path / "one.png"
    pictures.draw_chain("1", "M", likely(STATES8, 1), STATES8, path)
    assert size(path) == (803, 220)


def test_a_long_chain_has_rows(tmp_path):
    length = 700
    probabilities = likely(STATES8, length)
    true = "".join(STATES8[place] for place in probabilities.argmax(axis=1))
    valid = np.arange(length) % 90 > 4
    path = tmp_path / "long.png"
    pictures.draw_chain("$a_b$", "MKVLA" * 140, probabilities, STATES8, path, true, valid)
    assert size(path) == (1485, 1457)


def test_of_a_chain_that_is_too_long_the_beginning_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "ROWS", 2)
    monkeypatch.setattr(pictures, "COLUMNS", 20)
    path, length = tmp_path / "three.png", 41
    probabilities = likely(STATES3, length)
    pictures.draw_chain("a", "M" * length, probabilities, STATES3, path)
    cut = size(path)
    pictures.draw_chain("a", "M" * (length - 1), probabilities[:-1], STATES3, path)
    assert cut == size(path)


def test_titles_say_how_much_is_right():
    bands = {"predicted": (1.0, "HHEE"), "true": (2.0, "HC E")}
    assert pictures._title("a", bands, 4) == "a: 4 residues, 2 of 3 right"
    assert pictures._title("a" * 50, {"predicted": (1.0, "H" * 2100)}, 2000) == (
        f"{'a' * 40}...: 2,100 residues, the first 2,000 are drawn"
    )


@pytest.mark.parametrize("states", [STATES3, STATES8])
def test_confusion_and_classes(tmp_path, states):
    confusion = np.random.default_rng(0).integers(0, 5000, (len(states),) * 2)
    confusion[1] = 0
    confusion[:, 2] = 0
    pictures.draw_confusion(confusion, states, tmp_path / "confusion.png")
    pictures.draw_per_class(confusion, states, tmp_path / "classes.png")
    wide, high = size(tmp_path / "confusion.png")
    assert wide == round(120 * (2.2 + 0.85 * len(states)))
    assert high < wide
    assert size(tmp_path / "classes.png") == (round(120 * (2.5 + 0.9 * len(states))), 480)
