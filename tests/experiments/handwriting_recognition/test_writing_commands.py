"""Writing a text with a saved network: pictures, styles, the closed loop, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.common import models
from experiments.datasets.files import DataError
from experiments.datasets.ink import of_strokes
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.writing import commands, path, pictures, styles
from experiments.handwriting_recognition.writing.lines import write_text
from experiments.handwriting_recognition.writing.model import make_model
from experiments.handwriting_recognition.writing.task import Saved, make_architecture

STROKE = [[0.0, 0.0], [1.0, 2.0], [1.5, 0.2], [2.0, 2.2]]


@pytest.fixture(scope="module", name="saved")
def _saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = Config(task="synthesis", hidden=8, components=2, windows=2)
    model = make_model(make_architecture(config))
    params = jax.jit(model.init)(jax.random.key(0))
    params["readout"]["bias"] = params["readout"]["bias"].at[-2:].set(1.0)  # pens are lifted, and words end
    models.save_params(folder, params)
    values = dataclasses.asdict(config) | {"runs": "runs"}
    (folder / "config.json").write_text(json.dumps({"config": values}))
    (word,) = path.words([of_strokes([np.array(STROKE)], "word", "me")], 0.02, rounded=False)
    styles.save(folder, [word, word])
    return Saved(config, model, params, folder)


@pytest.fixture(autouse=True)
def _chosen(saved, monkeypatch):
    monkeypatch.setattr(models.Source, "folder", lambda self, experiment, default: saved.folder)


@pytest.mark.parametrize("style", [[], ["--style", "2"]])
def test_a_text_becomes_an_svg_and_a_png(tmp_path, capsys, style):
    commands.write(["Hello you", "--out", str(tmp_path / "folder" / "hello"), *style])
    assert "hello.svg" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "folder" / "hello.svg").read_text()
    with Image.open(tmp_path / "folder" / "hello.png") as picture:
        shades = np.asarray(picture.convert("L"))
    assert 0 < (shades < 128).sum() < shades.size / 4


def test_equal_seeds_write_the_same_and_others_do_not(saved):
    def ink(seed):
        ((line,), _) = write_text(saved, "ab", jax.random.key(seed), 0.5)
        return line[0].points

    np.testing.assert_array_equal(ink(1), ink(1))
    assert ink(1).shape != ink(2).shape or (ink(1) != ink(2)).any()


def test_a_style_comes_from_a_file_whatever_its_units(tmp_path):
    found = []
    for scale in (0.01, 100.0):
        file = tmp_path / "style.json"
        stroke = (scale * np.array(STROKE)).tolist()
        file.write_text(json.dumps({"label": "hand", "strokes": [stroke, [[3 * scale, 0]]]}))
        found.append(styles.find(tmp_path, str(file), 0.02))
    np.testing.assert_allclose(found[0].path, found[1].path, atol=1e-5)
    assert found[0].text == "hand"
    assert found[0].path[:, 2].sum() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["   "], "is empty"),
        (["caf\u00e9 42"], "has"),
        (["word", "--style", "3"], "number from 0 to 2, got 3"),
        (["word", "--style", "no-such-file"], "no-such-file"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_line(arguments, message):
    with pytest.raises(DataError, match=message):
        commands.write(arguments)


def test_a_style_needs_its_text(tmp_path):
    file = tmp_path / "style.json"
    file.write_text(json.dumps([STROKE]))
    with pytest.raises(DataError, match="does not say what was written"):
        styles.find(tmp_path, str(file), 0.02)


def test_words_of_a_line_stand_on_one_line_without_touching():
    tall = of_strokes([np.array([[5.0, 9.0], [5.0, 1.0], [6.0, 4.0], [7.0, 1.0], [8.0, 3.0]])])
    deep = of_strokes(
        [np.array([[0.0, 3.0], [0.0, 1.0], [1.0, 3.0], [2.0, -4.0], [3.0, 3.0], [3.0, 1.0], [3.0, 2.0]])]
    )
    assert [pictures.baseline(ink) for ink in (tall, deep)] == [1.0, 1.0]
    first, second = pictures.set_line([tall, deep])
    assert first.points[:, 0].min() == 0
    assert second.points[:, 0].min() == pytest.approx(first.points[:, 0].max() + pictures.GAP)
    assert first.points[1, 1] == second.points[1, 1] == 0
