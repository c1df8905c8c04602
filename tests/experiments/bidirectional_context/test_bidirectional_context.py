"""Bidirectional context: each network knows what it should, figures are what they say, a whole run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments.bidirectional_context import page, pictures
from experiments.bidirectional_context import task as tasks
from experiments.bidirectional_context.config import Config, preset
from experiments.bidirectional_context.data import SOURCES, Labelled, digits, proteins
from experiments.bidirectional_context.model import Architecture, count, make_architecture, make_model
from experiments.common import mapped, models
from experiments.datasets import Splits
from experiments.datasets.audio import log_mel
from experiments.datasets.chains import Chain
from experiments.datasets.spoken_digits import Recording
from lstmjax import training
from lstmjax.training.batching import pad
from lstmjax.training.record import Record, Run

DIRECTIONS = {"past": 0, "future": 0, "both": 0, "delayed": 2}


def make(direction, delay=0):
    """A network of 3 features, 4 classes and 5 units, and its parameters."""
    model = make_model(Architecture(3, 4, 5, direction, delay))
    return model, jax.jit(model.init)(jax.random.key(0))


def drawn(length, seed=0):
    return np.random.default_rng((seed, length)).normal(size=(length, 3)).astype(np.float32)


@functools.partial(jax.jit, static_argnames="model")
def logits(model, params, inputs, lengths):
    return model.bind(params)(jnp.asarray(inputs), jnp.asarray(lengths))


@pytest.mark.parametrize(("direction", "delay"), DIRECTIONS.items())
def test_each_network_knows_what_it_should(direction, delay):
    model, params = make(direction, delay)

    def middle(inputs):
        return model.bind(params)(inputs, jnp.array([11]))[0, 5].sum()

    seen = np.flatnonzero(np.abs(jax.jit(jax.grad(middle))(drawn(11)[None])).sum(axis=(0, 2)))
    first, last = {"past": (0, 5), "future": (5, 10), "both": (0, 10), "delayed": (0, 7)}[direction]
    assert seen.tolist() == list(range(first, last + 1))


@pytest.mark.parametrize(("direction", "delay"), DIRECTIONS.items())
def test_padding_changes_nothing(direction, delay):
    model, params = make(direction, delay)
    rows = [drawn(7), drawn(1)]
    found = logits(model, params, *pad(rows, time=10, rows=3))
    for row, alone in zip(found, rows, strict=False):
        single = model.bind(params)(jnp.asarray(alone)[None], jnp.array([len(alone)]))[0]
        np.testing.assert_allclose(row[: len(alone)], single, rtol=1e-5, atol=1e-6)


def test_a_delayed_network_answers_late():
    model, params = make("delayed", 2)
    past, _ = make("past")
    extended = np.concatenate([drawn(6), np.zeros((2, 3), np.float32)])
    wanted = logits(past, params, extended[None], np.array([8]))[0, 2:]
    np.testing.assert_allclose(
        logits(model, params, drawn(6)[None], np.array([6]))[0], wanted, rtol=1e-5, atol=1e-6
    )


def size(units, features, classes, sides=1):
    """The parameters of LSTMs with one bias, and of the linear layer above them."""
    return sides * 4 * units * (features + units + 1) + classes * (sides * units + 1)


@pytest.mark.parametrize("dataset", SOURCES)
def test_all_networks_of_a_data_set_have_equally_many_parameters(dataset):
    counts, known = {}, (SOURCES[dataset].features, len(SOURCES[dataset].classes))
    for direction in DIRECTIONS:
        made = make_architecture(preset(Config(dataset=dataset, direction=direction)))
        counts[direction] = count(made)
        assert count(made) == size(made.hidden, *known, sides=2 if direction == "both" else 1)
    assert max(counts.values()) < 1.01 * min(counts.values())
    for wanted in (1, 1500, 3333):
        made = make_architecture(Config(dataset=dataset, direction="past", parameters=wanted))
        assert made.hidden == min(range(1, 40), key=lambda units: abs(size(units, *known) - wanted))


def test_a_delay_is_for_delayed_networks():
    with pytest.raises(training.ConfigError, match="delay 3 is for --direction delayed, not for both"):
        Config(delay=3)
    assert preset(Config(direction="delayed")).delay == 8
    assert preset(Config(direction="past")).delay == 0


def batches(model_classes=4, count=5):
    rng = np.random.default_rng(3)
    sequences = [
        Labelled(drawn(length), rng.integers(0, model_classes, length).astype(np.int32))
        for length in (1, 40, 6, 9, 3)[:count]
    ]
    return sequences, tasks.make_batches(Config(batch_frames=80), sequences)


def by_hand(model, params, sequences):
    """The figures of one network, from its logits of one frame after the other."""
    right, nll = [], []
    rows = logits(model, params, *pad([inputs for inputs, _ in sequences]))
    for row, (inputs, labels) in zip(np.asarray(rows, np.float64), sequences, strict=True):
        found = np.exp(row[: len(inputs)])
        found /= found.sum(axis=1, keepdims=True)
        right.append([int(np.argmax(row)) == label for row, label in zip(found, labels, strict=True)])
        nll += [-np.log(row[label]) for row, label in zip(found, labels, strict=True)]
    figures = {"accuracy": np.mean([each for row in right for each in row]), "nll": np.mean(nll)}
    figures["most"] = np.mean([sum(row) > len(row) / 2 for row in right])
    for end, rows in (("start", right), ("end", [row[::-1] for row in right])):
        for first, last in ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 40)):
            chosen = [each for row in rows for each in row[first - 1 : last]]
            figures[f"{end}_{first}"] = np.mean(chosen)
    return figures


def test_figures_are_those_of_each_network_by_itself():
    model, _ = make("both")
    params = jax.jit(mapped.init(model, 2))(jax.random.key(4))
    sequences, made = batches()
    task = tasks.make_task(Config(models=2), model, made, made)
    found = training.evaluate_each(tasks.make_test(model, task), params, made.once())
    for number in range(2):
        alone = by_hand(model, jax.tree.map(lambda leaf, row=number: leaf[row], params), sequences)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            assert found[name][number] == pytest.approx(value, rel=1e-4), name


def test_the_loss_is_the_sum_over_networks():
    model, _ = make("past")
    params = jax.jit(mapped.init(model, 2))(jax.random.key(4))
    sequences, made = batches(count=2)
    task = tasks.make_task(Config(models=2), model, made, made)
    (batch,) = made.once()
    loss, _ = jax.jit(task.loss)(params, (), batch, jax.random.key(0))
    each = [
        by_hand(model, jax.tree.map(lambda leaf, row=number: leaf[row], params), sequences)["nll"]
        for number in range(2)
    ]
    assert float(loss) == pytest.approx(sum(each), rel=1e-5)


def test_every_frame_of_a_recording_has_its_digit():
    rng = np.random.default_rng(0)
    recordings = [Recording(d, "theo", 9, rng.normal(0, 0.1, 900).astype(np.float32)) for d in (4, 7, 1)]
    train, valid, _ = digits(Splits(tuple(recordings[:2]), tuple(recordings[2:]), ()))
    every = np.concatenate([each.inputs for each in train])
    np.testing.assert_allclose(every.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(every.std(axis=0), 1, atol=1e-4)
    raw = np.concatenate([log_mel(each.samples, 8000) for each in recordings[:2]])
    wanted = (log_mel(recordings[2].samples, 8000) - raw.mean(axis=0)) / raw.std(axis=0)
    np.testing.assert_allclose(valid[0].inputs, wanted, rtol=1e-4, atol=1e-4)
    assert valid[0].labels.tolist() == [1] * 9


def test_a_residue_has_its_amino_acid_its_profile_and_one_of_three_states():
    profile = np.random.default_rng(0).random((4, 20)).astype(np.float32)
    chain = Chain("1ABC", "AXYC", "HGET", np.ones(4, bool), profile)
    ((found,), _, _) = proteins(Splits((chain,), (), ()))
    assert found.inputs.shape == (4, SOURCES["protein"].features)
    assert [row.nonzero()[0].tolist() for row in found.inputs[:, :20]] == [[0], [], [19], [1]]
    np.testing.assert_array_equal(found.inputs[:, 20:], profile)
    assert [SOURCES["protein"].classes[label] for label in found.labels] == ["H", "H", "E", "C"]
    for broken in (chain._replace(profile=None), chain._replace(valid=np.zeros(4, bool))):
        with pytest.raises(ValueError, match="chain 1ABC has no profile, or residues without a state"):
            proteins(Splits((broken,), (), ()))


def record(label, direction, delay=0, accuracy=0.5, dataset="digits"):
    spread = ("", "_std", "_min", "_max")
    names = ("test_accuracy", "test_most", "valid_accuracy")
    metrics = {f"{name}{end}": accuracy for name in names for end in spread}
    metrics |= {f"test_{end}_{place}": accuracy for end in ("start", "end") for place in tasks.PLACES}
    metrics |= {"hidden": 37.0, "parameters": 10_250.0}
    config = dataclasses.asdict(Config(dataset=dataset, direction=direction, delay=delay))
    return Record(
        "bidirectional_context", label, "python -m ...", config, 1, metrics, "cpu", 60.0, "0" * 40, {}
    )


RECORDS = [
    record("digits-both", "both", accuracy=0.9),
    record("digits-delayed", "delayed", 8, 0.8),
    record("digits-delayed-4", "delayed", 4, 0.7),
    record("digits-past", "past", accuracy=0.6),
    record("protein-future", "future", dataset="protein"),
]


def test_the_page_orders_networks_by_what_they_know(tmp_path):
    text = page.page(RECORDS)
    order = ("digits-past", "digits-delayed-4", "digits-delayed", "digits-both", "protein-future")
    places = [text.index(f"| **{label}** |") for label in order]
    assert places == sorted(places)
    assert "| **digits-delayed-4** | what came before, and the next 4 frames | 70.0 (70.0 to 70.0) |" in text
    assert "| from the start | 1 | 2 | 3-4 | 5-8 | 9-16 | 17-32 | 33 on |" in text
    assert [row.label for row in page.results(RECORDS)] == ["digits-past", "digits-both"]
    pictures.draw_delays(RECORDS, tmp_path / "delays.png")
    pictures.draw_places(RECORDS, tmp_path / "places.png")
    pictures.draw_digit(drawn(9), {"digits-past": np.linspace(0, 1, 9)}, "a 7", tmp_path / "digit.png")
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["bidirectional_context", "--quick", "--data-dir", str(real_data), "--runs", str(runs)]
    assert program.main([*arguments, "--direction", "delayed", "--train.checkpoint-every", "10"]) == 0
    (path,) = (runs / "bidirectional_context").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run):
    figures = quick_run.figures()
    assert 0 <= figures["test_accuracy_min"] <= figures["test_accuracy"] <= figures["test_accuracy_max"] <= 1
    assert figures["test_accuracy_std"] >= 0
    assert {"test_most", "test_start_1", "test_end_33", "valid_accuracy", "hidden"} <= figures.keys()
    assert (quick_run.path / "learning_curves.png").stat().st_size > 1000
    saved = tasks.load_model(models.of_run(quick_run.path, "bidirectional_context"))
    assert saved.config.delay == 8
    found = tasks.probabilities(saved.model, saved.params, np.zeros((5, 26), np.float32))
    assert found.shape == (5, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    leaves = jax.tree.leaves(saved.params)
    assert figures["parameters"] == sum(leaf.size for leaf in leaves), "those of one network"


def test_a_run_is_resumed_to_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 20)
