"""Protein structure: residues as numbers, a model that sees what it should, figures, a whole run."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as program
from experiments import datasets
from experiments.common import command_line, models
from experiments.common.pages import RESULTS
from experiments.common.tables import by_label
from experiments.datasets.chains import AMINO_ACIDS, STATES3, STATES8, Chain
from experiments.datasets.overlap import overlaps
from experiments.protein_structure import EXPERIMENT, Loaded, beside, page, report, residues
from experiments.protein_structure.config import Config, check, preset
from experiments.protein_structure.model import Architecture, StructureModel
from experiments.protein_structure.report import Predictions
from experiments.protein_structure.task import (
    load_model,
    make_batches,
    make_model,
    make_task,
    predict_chains,
)
from lstmjax import training
from lstmjax.nnx import functional
from lstmjax.training.batching import pad
from lstmjax.training.record import Record, RecordError, Run, load_records

MODELS = {
    "blstm": Architecture(20, 8, 3, 6, "lstm", 5, 2, True, 0.3),
    "lstm": Architecture(20, 8, 3, 6, "lstm", 5, 1, False, 0.3),
    "rnn": Architecture(20, 8, 3, 6, "rnn", 5, 1, True, 0.3),
    "window": Architecture(20, 8, 5, 6, "lstm", 5, 0, True, 0.3),
}


def make(name):
    """A model, and its logits as a compiled function of parameters, features, lengths and a key."""
    model = functional(lambda rngs: StructureModel(MODELS[name], rngs=rngs))
    apply = jax.jit(lambda params, *rest: model.bind(params)(*rest))
    return model, apply, jax.jit(model.init)(jax.random.key(0))


def chain(sequence, states, valid=None, profile=None, id="1ABC"):
    counts = np.ones(len(sequence), bool) if valid is None else np.array(valid, bool)
    return Chain(id, sequence, states, counts, profile)


def drawn(length, seed=0):
    return "".join(np.random.default_rng(seed).choice(list(AMINO_ACIDS), length))


def test_features_are_the_amino_acid_and_its_profile():
    profile = np.zeros((3, 20), np.float32)
    profile[1, [0, 4]] = 0.25, 0.75
    found = residues.features("AXY", profile)
    assert found.shape == (3, residues.width(with_profile=True))
    assert found.dtype == np.float32
    assert found[0].nonzero()[0].tolist() == [0]
    assert found[2].nonzero()[0].tolist() == [19]
    one_hot, shares, roots = np.split(found[1], 3)
    assert not one_hot.any()
    np.testing.assert_array_equal(shares, profile[1])
    np.testing.assert_allclose(roots**2, profile[1], rtol=1e-6)
    assert residues.features("", None).shape == (0, residues.width(with_profile=False))
    with pytest.raises(ValueError, match="3 rows for 2 residues"):
        residues.features("AX", profile)
    with pytest.raises(ValueError, match="1 chains have no profile, 1ABC"):
        residues.batches([chain("AC", "HH")], with_profile=True, states=STATES8, residues=10, buckets=1)


def test_residues_that_do_not_count_have_no_label():
    found = residues.labels(chain("ACDE", "HEC-", [1, 0, 1, 0]), STATES3)
    assert found.tolist() == [0, residues.UNKNOWN, 2, residues.UNKNOWN]


def test_states_belong_to_classes():
    rows = residues.three_states(STATES8).argmax(axis=1)
    classes = {state: STATES3[place] for state, place in zip(STATES8, rows, strict=True)}
    assert "".join(classes[state] for state in "HGIEBTSC") == "HHHEECCC"
    np.testing.assert_array_equal(residues.three_states(STATES3), np.eye(3))


def test_the_window_network_is_two_dense_layers_over_a_window():
    _, apply, params = make("window")
    values = residues.features(drawn(9), None)
    around = np.concatenate([np.zeros((2, 20)), values, np.zeros((2, 20))])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    wanted = []
    for place in range(9):
        seen = around[place : place + 5].reshape(-1)
        below = np.maximum(seen @ params["window"]["kernel"].reshape(100, 6) + params["window"]["bias"], 0)
        dense = np.maximum(below @ params["dense"]["kernel"] + params["dense"]["bias"], 0)
        wanted.append(dense @ params["readout"]["kernel"] + params["readout"]["bias"])
    found = apply(params, values[None], np.array([9]))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name):
    _, apply, params = make(name)
    batch = [residues.features(drawn(length, length), None) for length in (7, 1)]
    found = apply(params, *pad(batch, time=11, rows=3))
    for row, alone in zip(found, batch, strict=False):
        single = apply(params, *pad([alone]))[0]
        np.testing.assert_allclose(row[: len(alone)], single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "before", "after"), [("blstm", 1, 1), ("rnn", 1, 1), ("lstm", 1, 0), ("window", 0, 0)]
)
def test_what_each_model_sees_of_a_chain(name, before, after):
    _, apply, params = make(name)
    values = jnp.asarray(residues.features(drawn(21), None))[None]

    def middle(values):
        return apply(params, values, jnp.array([21]))[0, 10].sum()

    seen = jnp.abs(jax.jit(jax.grad(middle))(values)[0]).sum(axis=-1)
    half = MODELS[name].window // 2
    assert (seen[10 - half : 10 + half + 1] > 0).all()
    assert bool((seen[: 10 - half] > 0).all()) == bool(before)
    assert bool((seen[10 + half + 1 :] > 0).all()) == bool(after)
    assert before or not seen[: 10 - half].any()
    assert after or not seen[10 + half + 1 :].any()


def test_dropout_acts_in_training_alone():
    _, apply, params = make("blstm")
    batch = pad([residues.features(drawn(7), None)])
    one, other = (apply(params, *batch, jax.random.key(seed)) for seed in (1, 2))
    assert not np.allclose(one, other)
    without = functional(lambda rngs: StructureModel(MODELS["blstm"]._replace(dropout=0.0), rngs=rngs))
    plain = without.bind(params)(*batch)
    np.testing.assert_allclose(apply(params, *batch), plain, rtol=1e-5, atol=1e-6)


def test_figures_count_what_is_valid_and_sum_the_states_of_a_class():
    # Of the first residue S and T together are likelier than H, though H is the likeliest state.
    shares = np.full((1, 3, 8), 1e-6)
    shares[0, 0, [STATES8.index(state) for state in "HST"]] = 0.4, 0.3, 0.3
    shares[0, 1, STATES8.index("E")] = 1
    shares[0, 2, STATES8.index("G")] = 1
    target = np.array([[STATES8.index("S"), STATES8.index("B"), residues.UNKNOWN]])
    found = residues.figures_of(STATES8, jnp.log(shares), jnp.asarray(target))
    assert {
        name: (float(mean.total), float(mean.weight)) for name, mean in found.items() if name != "nll"
    } == {
        "q8": (0, 2),
        "q3": (2, 2),
    }
    wanted = -np.log([0.3, 1e-6]).sum()
    np.testing.assert_allclose(found["nll"].total, wanted, rtol=1e-4)
    predictions = Predictions([chain("ACD", "SBH", [1, 1, 0])], list(shares), STATES8)
    figures = report.figures(report.score(predictions))
    assert report.negative_log_likelihood(predictions) == pytest.approx(wanted / 2)
    assert figures["q8"] == 0
    assert figures["q3"] == 1
    assert figures["recall3_C"] == figures["recall3_E"] == 1
    assert figures["precision8_H"] == 0
    assert "precision8_B" not in figures
    assert "recall8_H" not in figures


def test_the_commonest_state_is_that_of_the_training_chains():
    trainings = [chain("ACDEF", "HHHEC", [0, 0, 1, 1, 1]), chain("AC", "CE", [1, 1]), chain("A", "E")]
    found = report.majority(trainings, [chain("ACDEF", "EEHCC"), chain("A", "E")], STATES3)
    assert found.likeliest() == ["EEEEE", "E"]
    assert report.figures(report.score(found))["q3"] == 0.5


def test_chains_to_look_at_are_the_worst_the_median_and_the_best():
    shares = [np.eye(3)[[0, 0]], np.eye(3)[[0, 1]], np.eye(3)[[2, 2]]]
    chains = [chain("AC", "HH")] * 3 + [chain("AC", "HH", [0, 0])]
    assert report.some(Predictions(chains, [*shares, shares[0]], STATES3)) == {
        "worst": 2,
        "median": 1,
        "best": 0,
    }
    assert report.some(Predictions(chains[3:], shares[:1], STATES3)) == {}


def test_a_chain_alone_has_the_probabilities_that_it_has_in_a_batch():
    model, _, params = make("blstm")
    chains = [chain(drawn(length, length), "H" * length) for length in (30, 5, 17, 1)]
    batches = residues.batches(chains, with_profile=False, states=STATES8, residues=64, buckets=2)
    found = residues.probabilities_of(model, params, batches)
    assert [len(each) for each in found] == [30, 5, 17, 1]
    for each, own in zip(chains, found, strict=True):
        alone = residues.probabilities(model, params, residues.features(each.sequence, None))
        np.testing.assert_allclose(own, alone, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(own.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"window": 4}, "window must be odd"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"dropout": 1.0}, "dropout must lie in"),
    ],
)
def test_bad_flags_are_told(flags, message):
    with pytest.raises(training.ConfigError, match=message):
        Config(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "flip", "--inputs", "profile"], "flip has sequences alone"),
        (["--model", "window", "--layers", "1"], "window has no recurrent layer"),
        (["--layers", "0"], "others do"),
    ],
)
def test_choices_that_do_not_go_together_are_told(flags, message):
    config = command_line.parse(EXPERIMENT, flags, "test")
    with pytest.raises(training.ConfigError, match=message):
        check(config)


@pytest.mark.parametrize("flags", [[], ["--dataset", "flip"], ["--model", "window"], ["--model", "large"]])
def test_choices_of_recipes_go_together(flags):
    check(command_line.parse(EXPERIMENT, flags, "test"))


def test_a_batch_in_which_nothing_is_known_is_no_error():
    config = preset(Config(quick=True))
    unknown = residues.batches([chain("ACD", "HHH", [0, 0, 0])], False, STATES8, 8, 1)
    model = functional(lambda rngs: StructureModel(MODELS["window"], rngs=rngs))
    task = make_task(config, model, unknown, unknown)
    params = model.init(jax.random.key(0))
    value, gradients = jax.value_and_grad(
        lambda params: task.loss(params, (), unknown.at(0, 0), jax.random.key(0))[0]
    )(params)
    assert value == 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients))


def test_recipes_belong_to_choices():
    assert preset(Config()).inputs == "profile"
    assert preset(Config(dataset="flip")).inputs == "sequence"
    assert preset(Config(model="window")).layers == 0
    large = preset(Config(model="large"))
    assert (large.hidden, large.layers, large.optimizer) == (400, 2, "rmsprop")


def test_the_recurrent_models_that_are_compared_have_equally_many_parameters():
    sizes = []
    for name in ("blstm", "lstm", "rnn"):
        model = make_model(preset(Config(model=name)))
        shapes = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
        sizes.append(sum(math.prod(leaf.shape) for leaf in shapes))
    assert max(sizes) < 1.01 * min(sizes)


def run_quickly(folder, data, *flags):
    places = ["--runs", str(folder), "--data-dir", str(data)]
    return command_line.main("protein_structure", EXPERIMENT, ["--quick", *places, *flags])


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    return run_quickly(tmp_path_factory.mktemp("runs"), real_data, "--inputs", "sequence")


def test_a_run_writes_what_it_promises(quick_run):
    names = {path.name for path in quick_run.path.iterdir()}
    pictures = {
        "learning_curves.png",
        "confusion8.png",
        "confusion3.png",
        "precision_and_recall8.png",
        "precision_and_recall3.png",
        "chain-median.png",
        "chain-best.png",
        "chain-worst.png",
    }
    assert names >= {"model", "states.md", "test-predictions.txt", *pictures}
    metrics = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    config, model, params = load_model(models.of_run(quick_run.path, "protein_structure"))
    parts = datasets.load("protein-nr25", config.data_dir)
    chains = parts.test[: config.limit]
    # The same counted in two ways: by sums over batches, and by letters.
    batches = make_batches(config, chains)
    sums = training.evaluate(make_task(config, model, batches, batches), params, batches.once())
    for name in ("q8", "q3", "nll"):
        assert metrics[f"test_{name}"] == pytest.approx(sums[name], rel=1e-5)
    letters = (quick_run.path / "test-predictions.txt").read_text().splitlines()
    assert letters[0::4] == [f">{each.id}" for each in chains]
    assert letters[1::4] == [each.sequence for each in chains]
    pairs = [
        pair
        for true, own in zip(letters[2::4], letters[3::4], strict=True)
        for pair in zip(true, own, strict=True)
    ]
    right = np.mean([true == own for true, own in pairs])
    assert metrics["test_q8"] == pytest.approx(right, abs=1e-6)
    assert 0 < metrics["test_majority_q8"] < metrics["test_majority_q3"] < 1
    assert 0 <= metrics["test_sov3"] <= 1
    assert metrics["test_chains"] == config.limit
    assert ("test_unrelated_q8" in metrics) == (metrics["test_related_chains"] > 0)


def test_sequences_of_a_file_are_predicted(quick_run, tmp_path, capsys):
    file = tmp_path / "some.fasta"
    file.write_text(">first protein\x0bACD\nmkvlAAG\r\nXW\n\n>second\nAC\n")
    command = ["protein_structure", "predict", "--run", str(quick_run.path), str(file)]
    assert program.main([*command, "--pictures", str(tmp_path / "pictures")]) == 0
    told = capsys.readouterr()
    tables = [line for line in told.out.splitlines() if line and not line.startswith(("#", "position"))]
    assert [line.split("\t")[1] for line in tables] == list("MKVLAAGXWAC")
    for line in tables:
        _, _, state, *shares = line.split("\t")
        assert sum(map(float, shares)) == pytest.approx(1, abs=1e-3)
        assert state == STATES8[int(np.argmax(list(map(float, shares))))]
    assert "X (unknown) at 8" in told.err
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_what_cannot_be_predicted_is_told(quick_run, tmp_path, capsys):
    file = tmp_path / "some.fasta"
    file.write_text(">first\nAC7\n")
    command = ["protein_structure", "predict", "--run", str(quick_run.path)]
    assert program.main([*command, str(file)]) == 1
    assert "position 3" in capsys.readouterr().err
    assert program.main([*command, str(tmp_path / "none.fasta")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "packed.fasta").write_bytes(b"\x1f\x8b\x08\xff")
    assert program.main([*command, str(tmp_path / "packed.fasta")]) == 1
    assert "unpack it" in capsys.readouterr().err
    assert program.main([*command, str(file), "--alignments", str(tmp_path)]) == 1
    assert "leave out --alignments" in capsys.readouterr().err


def test_a_model_of_profiles_reads_alignments(tmp_path, real_data, capsys):
    run = run_quickly(tmp_path, real_data, "--model", "window", "--train.steps", "10", "--limit", "8").path
    (tmp_path / "some.fasta").write_text(">first protein\nACD\n")
    command = ["protein_structure", "predict", "--run", str(run), str(tmp_path / "some.fasta")]
    assert program.main(command) == 1
    assert "give --alignments" in capsys.readouterr().err
    command += ["--alignments", str(tmp_path)]
    assert program.main(command) == 1
    assert "first.a3m cannot be read" in capsys.readouterr().err
    shares = []
    for others in (">b\nACD\n", ">b\nCCD\n"):
        (tmp_path / "first.a3m").write_text(f">a\nACD\n{others}")
        assert program.main(command) == 0
        shares.append(capsys.readouterr().out)
    assert shares[0] != shares[1]


@pytest.mark.full
def test_the_large_model_is_a_run_like_any_other(tmp_path, real_data):
    flags = ["--model", "large", "--train.steps", "20", "--train.evaluate-every", "10"]
    run = run_quickly(tmp_path, real_data, *flags)
    assert run.config["optimizer"] == "rmsprop"
    losses = [entry.metrics["nll"] for entry in run.metrics("train")]
    assert losses[-1] < losses[0]
    saved = load_model(models.of_run(run.path, "protein_structure"))
    chains = datasets.load("protein-nr25", real_data).test[: run.config["limit"]]
    found = report.figures(report.score(predict_chains([saved], chains)))
    assert found["q8"] == pytest.approx(run.figures()["test_q8"])


def test_an_ensemble_is_the_mean_of_its_members(quick_run, tmp_path, real_data):
    other = run_quickly(tmp_path, real_data, "--inputs", "sequence", "--train.seed", "2").path
    both = run_quickly(tmp_path, real_data, "--members", str(quick_run.path), str(other))
    members = [load_model(models.of_run(path, "protein_structure")) for path in (quick_run.path, other)]
    test = datasets.load("protein-nr25", real_data).test[: both.config["limit"]]
    one, two = (predict_chains([member], test).probabilities for member in members)
    wanted = ["".join(STATES8[k] for k in (a + b).argmax(axis=1)) for a, b in zip(one, two, strict=True)]
    assert (both.path / "test-predictions.txt").read_text().splitlines()[3::4] == wanted
    assert wanted != ["".join(STATES8[k] for k in a.argmax(axis=1)) for a in one]
    alone = [Run.open(path).figures() for path in (quick_run.path, other)]
    assert both.figures()["parameters"] == sum(figures["parameters"] for figures in alone)


def test_members_of_another_data_set_are_refused(quick_run, tmp_path, real_data):
    with pytest.raises(training.ConfigError, match="is of --dataset nr25, and not of flip"):
        run_quickly(tmp_path, real_data, "--dataset", "flip", "--members", str(quick_run.path))


def test_a_finished_run_that_is_resumed_has_the_same_figures(quick_run):
    before = json.loads((quick_run.path / "summary.json").read_text())["metrics"]
    command_line.main("protein_structure", EXPERIMENT, ["--resume", str(quick_run.path)])
    assert json.loads((quick_run.path / "summary.json").read_text())["metrics"] == before


def test_what_stands_beside_the_figures_of_a_test_set():
    sequences = [drawn(60, seed) for seed in range(4)]
    states = ["H" * 60, "E" * 60, "H" * 60, "C" * 60]
    chains = [chain(sequence, each) for sequence, each in zip(sequences, states, strict=True)]
    parts = datasets.Splits((chains[0]._replace(states="E" * 60), chains[1]), (), tuple(chains[:3]))
    right = np.tile(np.eye(3)[0] * 0.98 + 0.01, (60, 1))
    whole = Predictions(chains, [right] * 4, STATES3)
    known = [each.sequence for each in parts.train]
    related = frozenset(each.test for each in overlaps(sequences[:3], known))
    found = beside(whole.of(range(3)), whole, Loaded(parts, related, (chains[3],)))
    counts = {name: found[name] for name in ("chains", "residues", "related_chains", "dropped_chains")}
    assert counts == {"chains": 3, "residues": 180, "related_chains": 2, "dropped_chains": 1}
    assert found["majority_q3"] == pytest.approx(1 / 3)
    assert found["unrelated_q3"] == 1
    assert found["whole_q3"] == 0.5
    assert found["nll"] == pytest.approx(-(2 * math.log(0.99) + math.log(0.01)) / 3)


def test_the_page_has_the_figures_of_records():
    records = load_records(RESULTS, "protein_structure")
    text = page.page(records)
    for label, (first, *_) in by_label(records).items():
        assert f"**{label}**" in text
        assert f"{first.command}   # {label}" in text
    papers = [line for line in page.page([]).splitlines() if any(each.source in line for each in page.PAPERS)]
    assert len(papers) >= len(page.PAPERS)


def test_a_row_says_what_it_does_not_share_with_the_first():
    first, *rest = (
        Record("protein_structure", label, "python", config, 1, metrics, "cpu", 60.0, "c", {})
        for label, config, metrics in (
            ("nr25-blstm", {"dataset": "nr25", "epochs": 8}, {"parameters": 1000.0, "test_q8": 0.7}),
            ("nr25-lstm", {"dataset": "nr25", "epochs": 8}, {"parameters": 1040.0, "test_q8": 0.6}),
            ("nr25-rnn", {"dataset": "nr25", "epochs": 4}, {"parameters": 700.0, "test_q8": 0.5}),
        )
    )
    lines = page.page([first, *rest]).splitlines()
    rows = {line.split("**")[1]: line for line in lines if line.startswith("| **nr25")}
    assert "4 epochs and not 8, 30% fewer parameters" in rows["nr25-rnn"]
    assert not any("(" in rows[label] for label in ("nr25-blstm", "nr25-lstm"))


def test_an_unfinished_run_says_so(quick_run, tmp_path):
    (tmp_path / "config.json").write_text((quick_run.path / "config.json").read_text())
    with pytest.raises(RecordError, match="has not finished"):
        load_model(models.of_run(tmp_path, "protein_structure"))
