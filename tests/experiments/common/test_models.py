"""Models of runs and kept ones: what is kept is what was recorded, and is read whatever its dtype."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as program
from experiments.common import command_line, models, pages
from experiments.datasets import DataError
from experiments.gate_ablation import search
from lstmjax.training import checkpoint
from lstmjax.training.record import Record, RecordError, Run, load_records, write_record


def init(key):
    return {"kernel": jax.random.normal(key, (40, 50)), "steps": jnp.int32(7)}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A finished run with a model, and a folder of results of its own."""
    monkeypatch.setattr(models, "RESULTS", tmp_path / "results")
    config = dataclasses.asdict(command_line.CommonConfig())
    run = Run.create(tmp_path, "adding", config, seed=1, command="python -m experiments adding")
    folder = models.folder_in(run.path)
    models.save_params(folder, init(jax.random.key(3)))
    (folder / "config.json").write_bytes((run.path / "config.json").read_bytes())
    (folder / "vocabulary.json").write_text("[]")
    run.mark_tested()
    run.finish({"test_loss": 0.5})
    return run


def a_record(run: Run) -> Record:
    session = run.sessions()[0]
    rest = (run.figures(), session.device, 1.0, session.commit, session.versions)
    record = Record(run.experiment, "lstm", run.command, run.config, run.seed, *rest)
    write_record(models.RESULTS, record)
    return record


@pytest.mark.parametrize(("largest", "dtype"), [(2**20, "float32"), (1000, "bfloat16")])
def test_a_kept_model_is_that_of_the_run_in_the_dtype_that_its_record_says(
    finished, monkeypatch, largest, dtype
):
    monkeypatch.setattr(models, "LARGEST", largest)
    kept = models.keep(finished.path, a_record(finished))
    assert kept.model["dtype"] == dtype
    assert load_records(models.RESULTS) == [kept]
    folder = models.kept("adding", "lstm")
    assert kept.model["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    expected, params = init(jax.random.key(3)), models.load_params(folder, init)
    assert params["kernel"].dtype == jnp.float32
    rounded = expected["kernel"].astype(dtype).astype(jnp.float32)
    np.testing.assert_array_equal(params["kernel"], rounded)
    assert int(params["steps"]) == 7
    assert models.config_of(folder, command_line.CommonConfig) == command_line.CommonConfig()


@pytest.mark.parametrize("name", ["parameters.safetensors", "vocabulary.json", "config.json"])
def test_a_damaged_or_missing_file_is_refused(finished, name):
    models.keep(finished.path, a_record(finished))
    path = models.kept("adding", "lstm") / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordError, match=f"{name} is missing or damaged"):
        models.kept("adding", "lstm")
    path.unlink()
    with pytest.raises(RecordError, match=f"{name} is missing or damaged"):
        models.kept("adding", "lstm")


def test_a_label_keeps_the_model_of_one_seed(finished):
    first = a_record(finished)
    models.keep(finished.path, first)
    second = dataclasses.replace(first, seed=2)
    models.keep(finished.path, second)
    assert [bool(record.model) for record in load_records(models.RESULTS)] == [False, True]
    models.kept("adding", "lstm")


def test_metrics_are_added_to_the_record_of_a_kept_model_only_beside_equal_ones(finished):
    before = models.keep(finished.path, a_record(finished))
    folder = models.kept("adding", "lstm")
    path = models.add_metrics(folder, "adding", {"test_loss": 0.52, "test_error": 0.25}, tolerance=0.1)
    (record,) = load_records(models.RESULTS)
    assert path == models.RESULTS / record.file
    assert record.metrics == {"test_loss": 0.5, "test_error": 0.25}
    assert (record.tested_before, record.model) == (True, before.model)
    assert [session.tested for session in record.sessions] == [True]
    with pytest.raises(RecordError, match=r"test_loss is 0.700, and not 0.500 as in adding/lstm-seed1.json"):
        models.add_metrics(folder, "adding", {"test_loss": 0.7}, tolerance=0.1)
    with pytest.raises(RecordError, match="is no kept model"):
        models.add_metrics(finished.path / "model", "adding", {}, tolerance=0.1)


def test_a_run_from_a_commit_outside_the_history_leaves_no_record(finished, monkeypatch, capsys):
    monkeypatch.setattr(pages, "_history", lambda: frozenset({"0123abc"}))
    assert program.main(["record", str(finished.path), "--label", "lstm"]) == 1
    assert "no commit in the history" in capsys.readouterr().err
    assert load_records(models.RESULTS) == []


def test_a_source_is_a_run_or_a_label(finished):
    models.keep(finished.path, a_record(finished))
    kept = models.RESULTS / "adding" / "models" / "lstm"
    assert models.Source().folder("adding", default="lstm") == kept
    assert models.Source(run=finished.path).folder("adding", default="lstm") == finished.path / "model"
    with pytest.raises(RecordError, match="not both"):
        models.Source(run=finished.path, model="lstm").folder("adding", default="lstm")
    with pytest.raises(RecordError, match="kept under the label gru; there are lstm"):
        models.Source(model="gru").folder("adding", default="lstm")
    with pytest.raises(RecordError, match="is a run of adding, not of copying"):
        models.Source(run=finished.path).folder("copying", default="lstm")


def test_a_config_of_an_earlier_version_has_defaults_for_what_is_new(finished):
    values = dict(finished.config)
    del values["keep_memory"]
    kind = command_line.CommonConfig
    assert command_line.from_mapping(kind, values, allow_missing=True) == kind()
    with pytest.raises(command_line.ConfigError, match="missing \\['keep_memory'\\]"):
        command_line.from_mapping(kind, values)
    with pytest.raises(command_line.ConfigError, match="unknown \\['colour'\\]"):
        command_line.from_mapping(kind, values | {"colour": 1}, allow_missing=True)


def test_a_record_from_a_commit_that_is_not_in_the_history_is_refused(finished, monkeypatch):
    record = a_record(finished)
    monkeypatch.setattr(pages, "_history", lambda: frozenset({record.commit}))
    pages.check_commits([record])
    session = dataclasses.replace(finished.sessions()[0], commit="0123abc")
    with pytest.raises(RecordError, match=r"adding/lstm-seed1\.json was made from 0123abc"):
        pages.check_commits([dataclasses.replace(record, sessions=[session])])
    with pytest.raises(RecordError, match="0123abc-dirty"):
        pages.check_commits([dataclasses.replace(record, commit="0123abc-dirty")])
    monkeypatch.setattr(pages, "_history", lambda: None)
    pages.check_commits([dataclasses.replace(record, commit="0123abc")])


def test_models_that_are_kept_in_the_repository_are_listed_and_whole(capsys):
    assert program.main(["models"]) == 0
    listed = capsys.readouterr().out
    total = 0
    for record in load_records(models.RESULTS):
        if record.model:
            assert f"{record.experiment} " in listed
            assert record.label in listed
            models.kept(record.experiment, record.label)
            total += record.model["bytes"]
    assert total < 60e6


KEPT = [(record.experiment, record.label) for record in load_records(models.RESULTS) if record.model]


@pytest.mark.full
@pytest.mark.parametrize(("experiment", "label"), KEPT)
def test_models_that_are_kept_in_the_repository_are_read(experiment, label):
    """By the code of today, whatever names their parameters had."""
    folder, task = models.kept(experiment, label), importlib.import_module(f"experiments.{experiment}.task")
    if experiment == "gate_ablation":
        params = search.load(folder)  # settings and figures of its trials
    elif hasattr(task, "load_model"):
        try:
            params = task.load_model(folder).params
        except DataError as error:  # its network depends on its data
            pytest.skip(str(error))
    else:
        config = models.config_of(folder, task.Config)
        params = models.load_params(folder, task.make_model(config).init)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_copy_in_another_dtype_keeps_what_is_no_float(tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    tree = {"a": jnp.arange(3.0) / 3, "b": jnp.arange(3), "c": 0.1, "d": jnp.bool_(True)}
    checkpoint.save(source, tree, {"epoch": "1"})
    checkpoint.recast(source, copy, "bfloat16")
    assert checkpoint.metadata(copy) == {"epoch": "1", "dtype": "bfloat16"}
    again = checkpoint.restore(copy, tree | {"a": jnp.zeros(3, jnp.bfloat16)})
    np.testing.assert_array_equal(again["a"], tree["a"].astype(jnp.bfloat16))
    assert (again["c"], bool(again["d"]), again["b"].tolist()) == (0.1, True, [0, 1, 2])
