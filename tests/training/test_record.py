"""Runs and records: what is written is read back, killed runs go on, and nothing wrong gets in."""

import dataclasses
import enum
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from lstmjax.training import environment, record
from lstmjax.training.record import Record, RecordError, Run


class Color(enum.Enum):
    RED = 1


class Rank(enum.IntEnum):
    FIRST = 1


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "adding", {"hidden": 8}, seed=1, command="python -m experiments")


def killed_while_logging(run: Run, half: bytes = b'{"step": 9, "ki') -> None:
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(half)


def a_record(**changes: object) -> Record:
    fields = {
        "experiment": "adding",
        "label": "lstm-8",
        "command": "python -m experiments adding",
        "config": {"hidden": 8, "paths": ["a", None]},
        "seed": 1,
        "metrics": {"test_loss": 0.5},
        "device": "cpu (2 cores, AMD EPYC)",
        "seconds": 12.5,
        "commit": "unknown",
        "versions": {"python": "3.11.7"},
    }
    return Record(**{**fields, **changes})


def write(results: Path, entry: Record) -> Path:
    path = results / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(entry)))
    return path


numbers = st.one_of(st.floats(), st.integers(-(2**53), 2**53))
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), st.integers(), finite),
    lambda children: st.one_of(st.lists(children), st.dictionaries(st.text(), children)),
    max_leaves=8,
)


def test_a_run_is_found_again_as_it_was_made(run, tmp_path):
    found = Run.open(run.path)
    for name in ("path", "experiment", "command", "config", "seed"):
        assert getattr(found, name) == getattr(run, name)
    assert run.path.parent == tmp_path / "adding"
    assert re.fullmatch(r"\d{8}T\d{6}Z-1", run.path.name)
    assert found.metrics() == []


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_config_is_read_back(tmp_path_factory, config):
    run = Run.create(tmp_path_factory.getbasetemp(), "any", config, 0, "")
    assert Run.open(run.path).config == run.config == config


def test_config_values_that_json_lacks_become_what_a_person_would_write(tmp_path):
    config = {
        "path": Path("a/b"),
        "enum": Color.RED,
        "rank": Rank.FIRST,
        "tuple": (1, (None, True)),
        "numpy": np.int32(7),
        "jax": jnp.float32(0.5),
        "clip": math.inf,
        "nested": {"rate": np.float64(1e-3)},
    }
    run = Run.create(tmp_path, "adding", config, 3, "")
    expected = {
        "path": "a/b",
        "enum": "RED",
        "rank": "FIRST",
        "tuple": [1, [None, True]],
        "numpy": 7,
        "jax": 0.5,
        "clip": "Infinity",
        "nested": {"rate": 1e-3},
    }
    assert run.config == Run.open(run.path).config == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": {"b": [1, {2}]}}, r"config\.a\.b\[1\]: \{2\} cannot be kept"),
        ({"a": {1: 2}}, r"config\.a: \{1: 2\} cannot"),
        ({"a": np.ones(2)}, r"config\.a: array"),
    ],
)
def test_a_config_that_cannot_be_kept_says_where(tmp_path, config, message):
    with pytest.raises(RecordError, match=message):
        Run.create(tmp_path, "adding", config, 0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../up", "Adding", "a b"])
def test_an_experiment_has_a_plain_name(tmp_path, name):
    with pytest.raises(RecordError, match="field experiment"):
        Run.create(tmp_path, name, {}, 0, "")


def test_runs_of_the_same_second_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "_now", lambda: "2026-11-23T23:10:00Z")
    names = [Run.create(tmp_path, "adding", {}, 1, "").path.name for _ in range(3)]
    assert names == ["20261123T231000Z-1", "20261123T231000Z-1-2", "20261123T231000Z-1-3"]


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(st.lists(st.tuples(st.integers(0, 99), st.dictionaries(st.text(), numbers))))
def test_any_metrics_are_read_back(tmp_path_factory, logged):
    run = Run.create(tmp_path_factory.getbasetemp(), "any", {}, 0, "")
    for step, metrics in logged:
        run.log(step, metrics)
    entries = Run.open(run.path).metrics()
    assert [(entry.step, entry.kind) for entry in entries] == [(step, "train") for step, _ in logged]
    for entry, (_, metrics) in zip(entries, logged, strict=True):
        np.testing.assert_equal(entry.metrics, metrics)
    for line in (run.path / "metrics.jsonl").read_text().splitlines() if logged else []:
        json.loads(line, parse_constant=pytest.fail)


def test_metrics_have_kinds_and_may_be_arrays_without_axes(run):
    run.log(1, {"loss": jnp.asarray(0.5, jnp.bfloat16)})
    run.log(1, {"loss": np.float32(0.25)}, kind="valid")
    assert [entry.metrics for entry in run.metrics("valid")] == [{"loss": 0.25}]
    assert [entry.metrics for entry in run.metrics()] == [{"loss": 0.5}, {"loss": 0.25}]


@pytest.mark.parametrize("value", [None, True, "low", [1.0], np.ones(2), 1j])
def test_what_is_no_number_is_no_metric(unchecked, run, value):
    with pytest.raises(RecordError, match=r"metrics.*loss"):
        run.log(1, {"loss": value})
    with pytest.raises(RecordError, match="loss: "):
        run.finish({"loss": value})
    assert run.metrics() == []
    assert not (run.path / "summary.json").exists()


def test_half_a_last_line_is_left_out_and_logging_goes_on_after_it(run):
    run.log(1, {"loss": 1.0})
    before = (run.path / "metrics.jsonl").read_bytes()
    killed_while_logging(run)
    again = Run.open(run.path)
    assert [entry.step for entry in again.metrics()] == [1]
    again.log(2, {"loss": 0.5})
    assert [entry.step for entry in again.metrics()] == [1, 2]
    assert (run.path / "metrics.jsonl").read_bytes().startswith(before)


def test_half_an_only_line_is_left_out_too(run):
    killed_while_logging(run)
    again = Run.open(run.path)
    assert again.metrics() == []
    again.log(2, {"loss": 0.5})
    assert [entry.step for entry in again.metrics()] == [2]


def test_rewind_drops_what_is_beyond_a_step(run, monkeypatch):
    for step in (1, 2, 3, 3):
        run.log(step, {"loss": math.nan})
    run.finish({})
    killed_while_logging(run)
    run.rewind(3)
    assert len(run.metrics()) == 4
    assert (run.path / "summary.json").exists()
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *arguments: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            run.rewind(2)
    assert len(run.metrics()) == 4
    run.rewind(2)
    assert (run.path / "metrics.jsonl").read_bytes() == b"".join(lines[:2])
    assert not (run.path / "summary.json").exists()
    run.rewind(0)
    assert run.metrics() == []


def test_seconds_are_summed_over_sessions(run, monkeypatch):
    clock = iter([100.0, 107.0, 200.0, 203.0, 500.0, 501.0])
    monkeypatch.setattr(record.time, "monotonic", lambda: next(clock))
    first = Run.create(run.path.parent.parent, "clock", {}, 1, "")  # at 100
    first.log(1, {})  # at 107, then killed
    second = Run.open(first.path)  # at 200
    second.finish({})  # at 203
    assert json.loads((first.path / "summary.json").read_text())["seconds"] == 10.0
    third = Run.open(first.path)  # at 500
    assert third.seconds == 11.0


def test_open_refuses_what_is_no_run_and_names_damage(run, tmp_path):
    with pytest.raises(RecordError, match="no run folder"):
        Run.open(tmp_path)
    for line in (b"{}", b"[1]", b'{"step": NaN}', b"\0\0", b"\xff"):
        (run.path / "metrics.jsonl").write_bytes(line + b"\n")
        with pytest.raises(RecordError, match=r"metrics\.jsonl, line 1"):
            Run.open(run.path)
    (run.path / "metrics.jsonl").unlink()
    (run.path / "config.json").write_text('{\n"experiment": adding}')
    with pytest.raises(RecordError, match=r"config\.json is damaged: .* line 2"):
        Run.open(run.path)
    (run.path / "config.json").write_text('{"experiment": "adding"}')
    with pytest.raises(RecordError, match=r"config\.json: field command is missing"):
        Run.open(run.path)


def test_a_summary_says_how_it_came_about_and_becomes_a_record(run, tmp_path):
    run.finish({"test_loss": 0.25, "bits": math.inf, "parameters": 1234})
    summary = json.loads((run.path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert {"started", "finished"} <= summary.keys()
    assert {"python", "jax", "jaxlib", "numpy"} <= summary["versions"].keys()
    path = record.keep(run.path, "lstm-8", tmp_path / "results")
    assert path == tmp_path / "results" / "adding" / "lstm-8-seed1.json"
    expected = [field.name for field in dataclasses.fields(Record)]
    assert list(json.loads(path.read_text())) == expected
    (loaded,) = record.load_records(tmp_path / "results")
    assert loaded.metrics == {"test_loss": 0.25, "bits": math.inf, "parameters": 1234}
    assert (loaded.command, loaded.config, loaded.seed) == (run.command, run.config, run.seed)


def test_every_session_of_a_run_is_recorded(run, tmp_path, monkeypatch):
    """A session that wrote nothing is none; a second one that tests says that the test set had been read."""
    assert run.sessions() == []
    run.log(1, {"loss": 1.0})
    Run.open(run.path)  # only looked at
    second = Run.open(run.path)
    monkeypatch.setattr(second, "_commit", "another")
    second.mark_tested()
    third = Run.open(run.path)
    third.mark_tested()
    third.finish({"test_loss": 0.5})
    sessions = third.sessions()
    assert [session.tested for session in sessions] == [False, True, True]
    assert [session.commit == "another" for session in sessions] == [False, True, False]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", session.started) for session in sessions)
    (kept,) = [record.read_record(record.keep(run.path, "lstm-8", tmp_path / "results"))]
    assert kept.sessions == sessions
    assert kept.tested_before


def test_a_record_that_replaces_another_says_that_the_test_set_had_been_read(tmp_path):
    for number in range(2):
        run = Run.create(tmp_path, "adding", {}, seed=1, command="")
        run.mark_tested()
        run.finish({"test_loss": float(number)})
        path = record.keep(run.path, "lstm", tmp_path / "results", replace=True)
        assert record.read_record(path).tested_before == (number == 1)
        before = path.read_bytes()
        assert record.keep(run.path, "lstm", tmp_path / "results") == path
        assert path.read_bytes() == before, "the same run again"


def test_figures_are_read_back_once_a_run_has_finished(run):
    with pytest.raises(RecordError, match="has not finished"):
        run.figures()
    assert not run.finished
    run.finish({"test_loss": math.nan})
    assert run.finished
    np.testing.assert_equal(Run.open(run.path).figures(), {"test_loss": math.nan})


def test_keep_refuses_unfinished_runs_and_bad_labels(run, tmp_path):
    with pytest.raises(RecordError, match=r"has no summary\.json"):
        record.keep(run.path, "lstm", tmp_path / "results")
    run.finish({})
    for label in ("", "LSTM", "a_b", "../a", "a/b", "a\n"):
        with pytest.raises(RecordError, match="field label"):
            record.keep(run.path, label, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_keep_replaces_another_runs_record_only_if_told(run, tmp_path):
    other = Run.create(tmp_path, "adding", {"hidden": 8}, seed=1, command="python -m experiments")
    run.finish({"loss": 1.0})
    other.finish({"loss": 2.0})
    path = record.keep(run.path, "lstm", tmp_path / "results")
    before = path.read_bytes()
    assert record.keep(run.path, "lstm", tmp_path / "results") == path
    with pytest.raises(RecordError, match="another run"):
        record.keep(other.path, "lstm", tmp_path / "results")
    assert path.read_bytes() == before
    record.keep(other.path, "lstm", tmp_path / "results", replace=True)
    assert record.load_records(tmp_path / "results")[0].metrics == {"loss": 2.0}


def test_records_are_loaded_in_order(tmp_path):
    entries = [
        a_record(experiment=experiment, label=label, seed=seed)
        for experiment in ("adding", "copying")
        for label in ("a", "b")
        for seed in (2, 10)
    ]
    for entry in reversed(entries):
        write(tmp_path, entry)
    assert record.load_records(tmp_path) == entries
    assert record.load_records(tmp_path, "copying") == entries[4:]
    assert record.load_records(tmp_path, "none") == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", 1),
        ("config", []),
        ("seed", 1.0),
        ("seed", True),
        ("metrics", {"loss": "low"}),
        ("metrics", {"loss": None}),
        ("metrics", {"loss": True}),
        ("seconds", "long"),
        ("versions", {"jax": 1}),
        ("tested_before", 1),
        ("sessions", [{"started": "now"}]),
        ("sessions", ["first"]),
        ("label", "A B"),
    ],
)
def test_a_record_with_a_wrong_field_names_file_and_field(tmp_path, field, value):
    path = write(tmp_path, a_record())
    path.write_text(json.dumps({**dataclasses.asdict(a_record()), field: value}))
    with pytest.raises(RecordError, match=rf"lstm-8-seed1\.json: field {field}"):
        record.load_records(tmp_path)


def test_a_record_with_other_fields_or_in_another_place_is_refused(tmp_path):
    path = write(tmp_path, a_record())
    fields = dataclasses.asdict(a_record())
    path.write_text(json.dumps({**fields, "extra": 1}))
    with pytest.raises(RecordError, match="field extra is unknown"):
        record.load_records(tmp_path)
    del fields["device"]
    path.write_text(json.dumps(fields))
    with pytest.raises(RecordError, match="field device is missing"):
        record.load_records(tmp_path)
    write(tmp_path, a_record()).rename(path.with_name("lstm-8-seed2.json"))
    with pytest.raises(RecordError, match=r"should be adding/lstm-8-seed1\.json"):
        record.load_records(tmp_path)


def test_summaries_have_mean_deviation_and_number_of_seeds():
    records = [
        a_record(seed=1, metrics={"loss": 1.0, "rare": 5.0}, seconds=10.0),
        a_record(seed=2, metrics={"loss": 2.0}, seconds=20.0),
        a_record(seed=3, metrics={"loss": 3.0}, seconds=60.0),
        a_record(label="bad", metrics={"loss": math.inf}),
    ]
    summaries = record.summarize(records)
    assert list(summaries) == [("adding", "lstm-8"), ("adding", "bad")]
    metrics, seconds = summaries["adding", "lstm-8"]
    assert metrics["loss"] == (2.0, 1.0, 3)
    np.testing.assert_equal(metrics["rare"], (5.0, math.nan, 1))
    assert seconds == 30.0
    assert summaries["adding", "bad"].metrics["loss"].mean == math.inf
    mixed = [a_record(metrics={"loss": value}) for value in (math.inf, 1.0, -math.inf)]
    assert math.isnan(record.summarize(mixed)["adding", "lstm-8"].metrics["loss"].mean)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_is_dirty_when_code_differs_from_it(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit() -> str:
        environment.commit.cache_clear()
        return environment.commit(source)

    source, page = tmp_path / "source.py", tmp_path / "page.md"
    source.write_text("one")
    page.write_text("one")
    assert commit() == "unknown"
    git("init", "--quiet")
    assert commit() == "unknown"
    git("add", "source.py", "page.md")
    git("commit", "--quiet", "--message", "one")
    assert commit() == git("rev-parse", "HEAD")
    (tmp_path / "result.json").write_text("{}")
    assert commit() == git("rev-parse", "HEAD")
    (tmp_path / "new.py").write_text("")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
    (tmp_path / "new.py").unlink()
    page.write_text("two")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
    environment.commit.cache_clear()


def test_device_names_kind_and_model():
    assert re.fullmatch(r"cpu \((1 core|\d+ cores), .+\)|(gpu|tpu) \(.+\)", environment.device())


def test_a_sink_gets_every_entry_and_cannot_end_a_run(tmp_path):
    run = Run.create(tmp_path, "adding", {}, seed=1, command="test")
    seen = []

    def failing(entry):
        raise OSError("the disk is full")

    run.add_sink(failing)
    run.add_sink(seen.append)
    with pytest.warns(UserWarning, match="the disk is full"):
        run.log(1, {"loss": 2.0})
    run.log(2, {"loss": 1.0}, kind="valid")
    assert seen == run.metrics()
    assert [entry.step for entry in seen] == [1, 2]
