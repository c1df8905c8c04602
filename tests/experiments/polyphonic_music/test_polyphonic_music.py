"""The polyphonic music experiment: its figure is what it says, and a run writes what it promises."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from scipy.io import wavfile

import lstmjax
from experiments import __main__ as program
from experiments import datasets
from experiments.common import command_line, models, pages
from experiments.polyphonic_music import EXPERIMENT
from experiments.polyphonic_music.config import Config
from experiments.polyphonic_music.model import CELLS, MusicModel, generate
from experiments.polyphonic_music.page import BENCHMARK
from experiments.polyphonic_music.report import FRAME_QUARTERS, TEMPO
from experiments.polyphonic_music.task import make_task, statistics
from lstmjax import training
from lstmjax.nnx import functional
from lstmjax.training.record import RecordError, load_records


@pytest.fixture(scope="module", name="splits")
def _splits():
    return datasets.Splits(*(part[:7] for part in datasets.load("chorales")))


def small(head, **changes):
    config = Config(dataset="chorales", head=head, hidden=8, nade_units=5, batch_size=3, buckets=2)
    return dataclasses.replace(config, **changes)


def make_model(config, splits):
    model = functional(functools.partial(MusicModel, config, *statistics(splits)))
    return model, model.init(jax.random.key(0))


def evaluated(config, model, params, splits):
    task = make_task(config, model, splits)
    return training.evaluate(task, params, task.valid())


def negative_log_likelihood(logits, frame):
    """In float64, written down as the definition has it."""
    probabilities = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return -np.log(np.where(frame == 1, probabilities, 1 - probabilities)).sum()


def losses_one_by_one(model, params, sequence):
    """The loss of every frame of one sequence: no batch, no padding, one step of the cell after the other."""
    module = model.bind(params)
    states = [layer.initial_state() for layer in module.layers]
    frame, found = np.zeros(88, np.float32), []
    for following in sequence.astype(np.float32):
        outputs = frame
        for number, layer in enumerate(module.layers):
            states[number], outputs = layer.step(states[number], outputs)
        found.append(negative_log_likelihood(module.logits(outputs, following), following))
        frame = following
    return found


@pytest.mark.parametrize(("head", "layers"), [("bernoulli", 1), ("bernoulli", 2), ("nade", 1)])
def test_the_figure_is_the_mean_over_all_frames_of_all_sequences(head, layers, splits):
    config = small(head, layers=layers)
    splits = splits._replace(
        valid=tuple(roll[:length] for roll, length in zip(splits.valid, (9, 2, 5, 7), strict=False))
    )
    model, params = make_model(config, splits)
    by_sequence = [losses_one_by_one(model, params, roll) for roll in splits.valid]
    figures = evaluated(config, model, params, splits)
    every_frame = [loss for losses in by_sequence for loss in losses]
    but_the_first = [loss for losses in by_sequence for loss in losses[1:]]
    assert figures["nll_all_frames"] == pytest.approx(np.mean(every_frame), rel=1e-5)
    assert figures["nll"] == pytest.approx(np.mean(but_the_first), rel=1e-5)


def test_the_figure_does_not_depend_on_how_sequences_are_batched(splits):
    model, params = make_model(small("bernoulli"), splits)
    one = evaluated(small("bernoulli", batch_size=1, buckets=7), model, params, splits)
    other = evaluated(small("bernoulli", batch_size=20, buckets=1), model, params, splits)
    assert one == pytest.approx(other, rel=1e-5)


def test_training_without_noise_minimises_the_figure_that_is_reported(splits):
    config = small("bernoulli", weight_noise=0.0, dropout=0.0, batch_size=7, buckets=1)
    model, params = make_model(config, splits)
    task = make_task(config, model, splits._replace(train=splits.valid))
    loss, _ = task.loss(params, (), task.batch(0, 0), jax.random.key(0))
    assert float(loss) == pytest.approx(evaluated(config, model, params, splits)["nll_all_frames"], rel=1e-5)


def test_noise_and_dropout_act_in_training(splits):
    config = small("bernoulli", weight_noise=0.0, dropout=0.0)
    model, params = make_model(config, splits)
    batch = make_task(config, model, splits).batch(0, 0)

    def losses(**changes):
        changed = dataclasses.replace(config, **changes)
        model, _ = make_model(changed, splits)
        loss = jax.jit(make_task(changed, model, splits).loss)
        return {float(loss(params, (), batch, jax.random.key(seed))[0]) for seed in range(3)}

    assert len(losses()) == 1
    assert len(losses(weight_noise=0.1)) == 3
    assert len(losses(dropout=0.5)) == 3


def test_chunks_train_on_every_frame_once(splits):
    config = small("bernoulli", chunk_frames=10)
    model, _ = make_model(config, splits)
    task = make_task(config, model, splits)
    steps = sum(len(roll) for roll in splits.train)
    batches = [task.batch(0, step) for step in range(200)]
    assert max(batch.values.shape[1] for batch in batches) == 11
    targets, step = 0, 0
    while targets < steps:
        targets += int(np.maximum(batches[step].lengths - 1, 0).sum())
        step += 1
    assert targets == steps, "an epoch ends where every frame was a target once"


@pytest.mark.parametrize("head", ["bernoulli", "nade"])
def test_generated_pieces_follow_the_model(head, splits):
    """A model whose readout is certain of one chord plays it."""
    config = small(head, dropout=0.0)
    model, params = make_model(config, splits)
    chord = np.full(88, -30.0, np.float32)
    chord[[27, 39, 43, 48]] = 30.0
    params["readout"]["kernel"] = np.zeros_like(params["readout"]["kernel"])
    params["readout"]["bias"] = chord
    rolls = generate(config, model, params, jax.random.key(0), count=2, frames=5)
    assert rolls.shape == (2, 5, 88)
    np.testing.assert_array_equal(rolls, np.broadcast_to(chord > 0, rolls.shape))


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["--quick", "--train.steps", "12", "--train.evaluate-every", "6", "--runs", str(folder)]
    return command_line.main("polyphonic_music", EXPERIMENT, arguments)


def test_a_run_writes_what_it_promises(quick_run):
    names = {path.name for path in quick_run.path.iterdir()}
    assert {"config.json", "metrics.jsonl", "summary.json", "checkpoints"} <= names
    assert {"learning_curves.png", "piano_rolls.png", "sample-1.mid", "sample-1.wav"} <= names
    summary = json.loads((quick_run.path / "summary.json").read_text())
    assert summary["command"].startswith("python -m experiments polyphonic_music --quick --train.steps 12")
    assert summary["metrics"]["steps"] == 12
    rate, sound = wavfile.read(quick_run.path / "sample-1.wav")
    expected_seconds = 32 * FRAME_QUARTERS["chorales"] * 60 / TEMPO
    assert len(sound) / rate == pytest.approx(expected_seconds, rel=0.01)


def test_the_figures_of_a_run_are_those_of_its_model(quick_run):
    figures = quick_run.figures()
    losses = {entry.step: entry.metrics["nll"] for entry in quick_run.metrics("valid")}
    assert figures["best_step"] == min(losses, key=losses.get)
    assert figures["valid_nll"] == pytest.approx(min(losses.values()), rel=1e-5)
    folder = models.of_run(quick_run.path, "polyphonic_music")
    config = dataclasses.replace(models.config_of(folder, Config), batch_size=20)
    splits = datasets.load("chorales").limited(config.limit)
    model, _ = make_model(config, splits)
    kept = models.load_params(folder, model.init)
    again = evaluated(config, model, kept, splits._replace(valid=splits.test))
    assert again == pytest.approx({name: figures[f"test_{name}"] for name in again}, rel=1e-5)


def test_a_finished_run_that_is_resumed_is_not_tested_again(quick_run):
    files = [quick_run.path / name for name in ("summary.json", "sessions.json", "metrics.jsonl")]
    before = [file.read_bytes() for file in files]
    again = command_line.main("polyphonic_music", EXPERIMENT, ["--resume", str(quick_run.path)])
    assert again.path == quick_run.path
    assert [file.read_bytes() for file in files] == before
    assert [session.tested for session in quick_run.sessions()] == [True]


def test_a_run_killed_after_it_read_the_test_set_says_so_when_it_goes_on(quick_run, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(quick_run.path, killed)
    (killed / "summary.json").unlink()
    again = command_line.main("polyphonic_music", EXPERIMENT, ["--resume", str(killed)])
    summary = json.loads((killed / "summary.json").read_text())
    assert summary["tested_before"]
    assert len(summary["sessions"]) == 2
    assert again.figures() == quick_run.figures()


def test_pieces_are_generated_by_the_model_of_a_run(quick_run, tmp_path):
    arguments = ["generate", "--run", str(quick_run.path), "--out", str(tmp_path), "--pieces", "2"]
    assert program.main(["polyphonic_music", *arguments, "--frames", "8"]) == 0
    names = {"sample-1.mid", "sample-1.wav", "sample-2.mid", "sample-2.wav", "piano_rolls.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_run_is_not_resumed_as_another(quick_run):
    with pytest.raises(training.ConfigError, match="other flags need a run of their own"):
        command_line.main("polyphonic_music", EXPERIMENT, ["--resume", str(quick_run.path), "--hidden", "9"])
    with pytest.raises(RecordError, match="is a run of polyphonic_music, not of speech"):
        command_line.main("speech", EXPERIMENT, ["--resume", str(quick_run.path)])


def test_a_quick_run_is_not_recorded(quick_run, capsys):
    assert program.main(["record", str(quick_run.path), "--label", "quick"]) == 1
    assert "was quick or limited" in capsys.readouterr().err
    assert program.main(["record", str(quick_run.path / "none"), "--label", "quick"]) == 1


def test_an_empty_validation_or_test_set_is_no_error(splits):
    config = small("bernoulli")
    empty = splits._replace(valid=(), test=())
    model, params = make_model(config, empty)
    assert evaluated(config, model, params, empty) == {}


def test_an_empty_training_set_says_so(splits):
    config = small("bernoulli")
    model, _ = make_model(config, splits)
    with pytest.raises(ValueError, match="data set is empty"):
        make_task(config, model, splits._replace(train=()))


def test_the_pages_are_up_to_date_with_the_records():
    assert pages.build({name: program.load(name) for name in program.EXPERIMENTS}, check=True) == []


def test_every_label_that_answers_a_paper_belongs_to_its_data_set():
    labels = {published.label: published.group for published in BENCHMARK.published if published.label}
    for record in load_records(pages.RESULTS, "polyphonic_music"):
        if record.label in labels:
            assert record.config["dataset"] == labels[record.label]


def test_all_results_that_a_label_answers_stand_in_one_row():
    rows = {
        row.label: row.paper for row in BENCHMARK.page.rows(load_records(pages.RESULTS, "polyphonic_music"))
    }
    assert rows["nottingham-lstm"].count(";") == 2
    assert "LSTM 3.20 (Chung et al. 2014); TCN 3.07 (Bai et al. 2018)" in rows["nottingham-lstm"]


def test_cells_are_the_libraries_own():
    assert {name: type(make(2, 3)) for name, make in CELLS.items()} == {
        "lstm": lstmjax.LSTM,
        "gru": lstmjax.GRU,
        "rnn": lstmjax.Elman,
    }
