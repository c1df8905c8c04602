"""Handwriting: inks are normalised, read and scored as they should be, and a whole run."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments.datasets import Splits
from experiments.datasets.files import DataError
from experiments.datasets.ink import Ink, of_strokes
from experiments.handwriting_recognition import commands, pictures, report
from experiments.handwriting_recognition.adaptation import adapt
from experiments.handwriting_recognition.augmentation import distort
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.data import SOURCES, classes_of, infeasible, make_batches, text_of
from experiments.handwriting_recognition.model import FEATURES, features, frames, halve
from experiments.handwriting_recognition.normalisation import SPACING, normalise
from experiments.handwriting_recognition.reading import Beam, errors, logits_of, read, search
from experiments.handwriting_recognition.task import Saved, figures, load_model, make_architecture, make_model
from lstmjax import losses
from lstmjax.training.batching import pad
from lstmjax.training.record import Run

SMALL = Config(first=6, hidden=12, dropout=0.0, augmentation=0.1, batch_points=2000)
WORDS = ("on", "moon", "I")


def scribble(seed, strokes=2, label="", points=30):
    """A random walk from left to right."""
    rng = np.random.default_rng((seed, strokes, points))
    walks = rng.normal((1.5, 0), 3, (strokes, points, 2)).cumsum(axis=1)
    return of_strokes(list(walks + 9 * np.arange(strokes)[:, None, None]), label, f"w{seed % 2}")


@pytest.fixture(scope="module")
def saved():
    model = make_model(make_architecture(SMALL))
    return Saved(SMALL, model, jax.jit(model.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def words():
    return [scribble(seed, label=label, points=12) for seed, label in enumerate(WORDS)]


class TestNormalisation:
    def test_size_place_and_sampling_do_not_matter(self):
        ink = scribble(1)
        (wanted,) = normalise([ink], straighten=True)
        moved = ink._replace(points=ink.points * 40 + (1000, -300))
        twice = [np.repeat(stroke, 2, axis=0) for stroke in ink.strokes]
        finer = []
        for stroke in ink.strokes:
            middles = (stroke[:-1] + stroke[1:]) / 2
            finer.append(np.insert(stroke, range(1, len(stroke)), middles, axis=0))
        for other in (moved, of_strokes(twice), of_strokes(finer)):
            np.testing.assert_allclose(normalise([other], straighten=True)[0], wanted, atol=2e-3)

    def test_a_slope_is_taken_out_of_words_only(self):
        ink = of_strokes([np.column_stack([np.arange(60), np.sin(np.arange(60) * 1.5)])])
        cosine, sine = np.cos(0.3), np.sin(0.3)
        turned = ink._replace(points=ink.points @ np.array([[cosine, sine], [-sine, cosine]], np.float32))
        level, straightened = (normalise([each], straighten=True)[0] for each in (ink, turned))
        np.testing.assert_allclose(straightened, level, atol=0.1)
        (left,) = normalise([turned], straighten=False)
        assert np.polyfit(left[:, 0], left[:, 1], 1)[0] == pytest.approx(np.tan(0.3), abs=0.02)

    def test_points_are_equally_far_apart_and_strokes_keep_their_ends(self):
        ink = scribble(4, strokes=3)
        (path,) = normalise([ink], straighten=False)
        starts = np.flatnonzero(path[:, 2])
        assert len(starts) == 3
        strokes = np.split(path[:, :2], starts[1:])
        for stroke in strokes:
            assert np.linalg.norm(np.diff(stroke, axis=0), axis=1).max() < SPACING * 1.001
        ends = np.array([stroke[[0, -1]] for stroke in strokes]).reshape(-1, 2)
        wanted = np.array([stroke[[0, -1]] for stroke in ink.strokes]).reshape(-1, 2)
        scale = np.linalg.norm(ends[0] - ends[-1]) / np.linalg.norm(wanted[0] - wanted[-1])
        np.testing.assert_allclose(ends - ends[0], scale * (wanted - wanted[0]), atol=1e-3)

    def test_y_is_standardized_along_the_path(self):
        (path,) = normalise([scribble(5, strokes=1, points=400)], straighten=False)
        spread = path[:, 1].std() if np.ptp(path[:, 0]) < 24.9 else np.ptp(path[:, 0]) / 25
        assert path[:, 1].mean() == pytest.approx(0, abs=0.05)
        assert spread == pytest.approx(1, abs=0.05)

    @pytest.mark.parametrize(
        ("strokes", "points"),
        [
            ([[[5, 5]]], 1),
            ([[[5, 5], [5, 5]]], 1),
            ([[[5, 5]], [[6, 5]]], 2),
            ([[[0, 0], [100, 0]]], 85),
            ([[[0, 0], [0, 100]]], 13),
        ],
    )
    def test_dots_and_dashes_are_finite(self, strokes, points):
        (path,) = normalise([of_strokes([np.array(each) for each in strokes])], straighten=True)
        assert path.shape == (points, 3)
        assert np.isfinite(path).all()

    def test_inks_do_not_matter_to_each_other(self):
        inks = [scribble(6), of_strokes([np.array([[3, 4]])]), scribble(7, strokes=1)]
        together = normalise(inks, straighten=True)
        for ink, path in zip(inks, together, strict=True):
            np.testing.assert_allclose(normalise([ink], straighten=True)[0], path, atol=1e-5)


class TestModel:
    def test_features_are_what_they_say(self):
        path = np.array([[[0, 1, 1], [0.3, 1, 0], [0.3, 3, 1], [9, 9, 9]]], np.float32)
        found = np.asarray(features(path, np.array([3])))
        assert found.shape == (1, 4, FEATURES)
        wanted = [
            [0, 0, 0, 0, 0, 0, 1, 1, 0],
            [1, 0, 0, 0, 1, 0, 1, 0, 1],
            [0, 0, 0, 2, 0, 1, 3, 1, 1],
            [0] * 9,
        ]
        np.testing.assert_allclose(found[0], wanted, atol=1e-4)

    def test_halving_keeps_all(self):
        values = jnp.arange(6.0).reshape(1, 3, 2)
        assert halve(values).tolist() == [[[0, 1, 2, 3], [4, 5, 0, 0]]]
        assert frames(np.array([1, 4, 5, 8, 9])).tolist() == [1, 1, 2, 2, 3]

    @pytest.mark.parametrize("task", ["words", "digits"])
    def test_padding_changes_nothing(self, task):
        model = make_model(make_architecture(dataclasses.replace(SMALL, task=task)))
        params = jax.jit(model.init)(jax.random.key(0))
        paths = normalise([scribble(1), scribble(2, strokes=1, points=9)], straighten=True)
        padded = pad(paths, max(map(len, paths)) + 7)
        for row, path in zip(padded.values, paths, strict=True):
            row[len(path) :] = np.nan
        found = logits_of(model, params, padded)
        for row, path in zip(found, paths, strict=True):
            alone = logits_of(model, params, pad([path]))[0]
            cut = row if SOURCES[task].whole else row[: len(alone)]
            np.testing.assert_allclose(cut, alone, rtol=1e-4, atol=1e-5)

    def test_distortions_are_affine_with_a_tremble_and_keep_strokes(self):
        path = jnp.asarray(normalise([scribble(1)], straighten=True)[0])[None]
        key = jax.random.key(1)
        np.testing.assert_allclose(distort(path, key, 0.0), path, atol=1e-6)
        distorted = distort(path, key, 1.0)
        assert (distorted[..., 2] == path[..., 2]).all()
        assert float(jnp.abs(distorted - path).max()) > 0.05
        design = jnp.column_stack([path[0, :, :2], jnp.ones(path.shape[1])])
        residual = distorted[0, :, :2] - design @ jnp.linalg.lstsq(design, distorted[0, :, :2])[0]
        assert 0.01 < float(residual.std()) < 0.03


class TestData:
    @pytest.mark.parametrize("task", SOURCES)
    def test_texts_become_classes_and_back(self, task):
        source = SOURCES[task]
        classes, blank = classes_of(source, source.letters), not source.whole
        assert classes.tolist() == list(range(blank, len(source.letters) + blank))
        assert text_of(source, classes.tolist()) == source.letters
        assert source.whole or text_of(source, [0, 1, 0]) == source.letters[0]

    def test_inks_that_are_too_short_are_named(self, tmp_path, capsys):
        inks = (scribble(1, label="moon"), of_strokes([np.array([[0, 0], [0, 9]])], "floods", "me"))
        both, one = make_batches(SMALL, inks), make_batches(SMALL, inks[:1])
        assert infeasible(both) == [1]
        parts = Splits(inks, inks[:1], inks[:1])
        counts = report.write_infeasible(SOURCES["words"], parts, (both, one, one), tmp_path)
        assert counts == {"train_infeasible": 1, "valid_infeasible": 0, "test_infeasible": 0}
        assert (tmp_path / "infeasible.txt").read_text() == "train\tme\tfloods\t4 frames\n"
        assert "floods" in capsys.readouterr().out

    def test_inks_that_are_too_short_have_no_loss(self, saved):
        inks = [scribble(1, label="moon"), of_strokes([np.array([[0, 0], [0, 9]])], "floods")]
        (batch,) = make_batches(dataclasses.replace(SMALL, batch_points=10_000), inks, buckets=1).once()
        logits = logits_of(saved.model, saved.params, batch.source)
        found = figures(False, logits, batch)["nll"]
        row = np.flatnonzero(batch.items == 0)
        lengths, (labels, numbers) = frames(batch.source.lengths), batch.target
        alone = losses.ctc(logits[row], lengths[row], labels[row], numbers[row])
        assert float(found.weight) == 1
        np.testing.assert_allclose(found.compute(), alone[0], rtol=1e-5)


class TestReading:
    def test_errors_are_counted(self):
        assert errors(["moon", "On"], ["mon", "on"]) == (2 / 6, 1)
        assert errors(["a", "b"], ["a", ""]) == (0.5, 0.5)
        assert np.isnan(errors([], [])).all()

    def test_figures_are_by_word_and_writer(self):
        point = np.zeros((1, 2), np.float32), np.ones(1, bool)
        inks = [Ink(label, *point, writer) for label, writer in zip("abcd", "xxxy", strict=True)]
        found = report.figures("test", SOURCES["words"], inks, ["a", "", "c", "dd"], {"a", "b", "c"})
        assert found["test_cer"] == found["test_wer"] == 0.5
        assert found["test_cer_unseen"] == found["test_cer_worst_writer"] == 1
        assert found["test_cer_median_writer"] == pytest.approx(2 / 3)
        assert found["test_words_unseen"] == 1
        found = report.figures("test", SOURCES["lowercase"], inks, ["a", "", "c", "d"])
        assert found == {"test_accuracy": 0.75, "test_accuracy_worst_writer": pytest.approx(2 / 3)}

    @pytest.mark.slow
    def test_words_learnt_by_heart_are_found_by_all_searches(self, saved, words):
        source, batches = SOURCES["words"], make_batches(SMALL, words, buckets=1)
        learned = adapt(saved, words, steps=200, rate=2e-2)
        assert read(source, learned.model, learned.params, batches) == list(WORDS)
        found = search(source, learned.model, learned.params, batches, Beam(beams=4))
        assert [texts[0][0] for texts in found] == list(WORDS)
        (listed,) = commands.read_inks(learned, words[1:2], ["noon", "moon", "soon"])
        assert {text for text, _ in listed} <= {"noon", "moon", "soon"}
        assert listed[0][0] == "moon"
        aligned = pictures.align(learned, words[1], "moon")
        order = aligned.letters[aligned.letters >= 0]
        assert sorted(set(order.tolist())) == [0, 1, 2, 3]
        assert (np.diff(order) >= 0).all()

    @pytest.mark.parametrize(
        ("label", "points", "message"),
        [("", 30, "label ''"), ("né", 30, "label 'né'"), ("floods", 2, "too short for 'floods'")],
    )
    def test_inks_that_cannot_be_adapted_to_are_refused(self, saved, label, points, message):
        with pytest.raises(DataError, match=message):
            adapt(saved, [scribble(1, strokes=1, label=label, points=points)])

    def test_what_is_no_word_is_refused(self, saved):
        zigzag = np.arange(3000)
        with pytest.raises(DataError, match="ink 1 is too long"):
            commands.read_inks(saved, [of_strokes([np.column_stack([zigzag / 99, zigzag % 2])])])
        with pytest.raises(DataError, match=r"does not know: \['é'\]"):
            commands.read_inks(saved, [scribble(1)], ["né"])

    def test_pictures_are_drawn_of_inks_without_text_too(self, saved, words, tmp_path):
        dot = of_strokes([np.array([[1, 2]])])
        aligned = [pictures.align(saved, words[1], "moon"), pictures.align(saved, dot, "")]
        pictures.draw([words[1], dot], aligned, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.fixture(scope="module")
def quick_run(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    flags = ["--quick", "--task", "pendigits", "--data-dir", str(real_data), "--runs", str(folder)]
    assert program.main(["handwriting_recognition", *flags]) == 0
    (path,) = (folder / "handwriting_recognition").iterdir()
    return path


class TestRun:
    def test_a_run_writes_what_it_promises(self, quick_run):
        run = Run.open(quick_run)
        assert set(run.figures()) >= {"test_accuracy", "valid_accuracy", "parameters"}
        assert [session.tested for session in run.sessions()] == [True]
        assert len((quick_run / "read.tsv").read_text().splitlines()) == 100
        assert (quick_run / "learning_curves.png").stat().st_size > 1000

    def test_a_finished_run_resumes(self, quick_run, tmp_path):
        assert_finished_run_resumes(Run.open(quick_run), tmp_path, 20)

    def test_a_run_that_was_stopped_is_tested_where_it_came_to(self, quick_run, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(quick_run, copy)
        (copy / "summary.json").unlink()
        assert program.main(["handwriting_recognition", "finish", str(copy)]) == 0
        assert Run.open(copy).figures() == Run.open(quick_run).figures()
        assert program.main(["handwriting_recognition", "finish", str(copy)]) == 1, "it has finished"

    def test_its_network_recognises_a_users_digit(self, quick_run, tmp_path, capsys):
        file = tmp_path / "digit.json"
        file.write_text(json.dumps({"label": "é1", "strokes": [[[0, 0], [0, 50], [1, 90]]]}))
        flags = ["recognise", str(file), "--run", str(quick_run), "--alternatives", "3"]
        assert program.main(["handwriting_recognition", *flags]) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [line[0] for line in lines] == ["1"] * 3
        assert len({line[1] for line in lines}) == 3
        dot = of_strokes([np.array([[1, 2]])])
        assert commands.read_inks(load_model(quick_run / "model"), [dot])[0][0][0] in "0123456789"

    def test_a_file_that_cannot_be_read_is_said_in_one_line(self, quick_run, tmp_path, capsys):
        file = tmp_path / "empty.inkml"
        file.write_text("")
        flags = ["recognise", str(file), "--run", str(quick_run)]
        assert program.main(["handwriting_recognition", *flags]) == 1
        assert "is empty" in capsys.readouterr().err
