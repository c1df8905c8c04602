"""The command line: the list, presets, flags that win, suggestions, resume."""

import dataclasses
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as program
from experiments.common import command_line, terminal
from experiments.datasets import DataError
from experiments.polyphonic_music import EXPERIMENT
from lstmjax.training import TrainConfig
from lstmjax.training.record import Run


def parse(*arguments):
    return command_line.parse(EXPERIMENT, arguments, "music")


def test_the_list_has_a_line_for_each_experiment(capsys):
    assert program.main([]) == 0
    printed = capsys.readouterr().out
    for name, summary in program.EXPERIMENTS.items():
        assert any(line.split(None, 1) == [name, summary] for line in printed.splitlines())


@pytest.mark.parametrize("name", program.EXPERIMENTS)
def test_every_experiment_is_a_module_that_says_what_it_is(name, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main([name, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    trains = issubclass(program.load(name).config, command_line.CommonConfig)
    for flag in ("--quick", "--resume", *(("--train.steps", "--train.seed") if trains else ())):
        assert flag in printed


@pytest.mark.parametrize("flags", [[], ["--quick"], ["--dataset", "jsb"]])
def test_help_shows_the_defaults_of_the_choices(flags, capsys):
    with pytest.raises(SystemExit):
        parse(*flags, "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"(default: {parse(*flags).train.steps})" in shown
    assert f"(default: {parse(*flags).hidden})" in shown


def test_an_unknown_experiment_is_answered_with_the_closest(capsys):
    assert program.main(["polyphonic_musik"]) == 2
    assert "Did you mean polyphonic_music?" in capsys.readouterr().err


def test_an_unknown_flag_is_refused_with_a_suggestion(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--train.stepz", "3")
    assert stop.value.code == 2
    assert "--train.steps" in capsys.readouterr().err


def test_presets_follow_the_choices_and_flags_win():
    assert parse().head == "nade"
    assert parse("--dataset", "jsb").head == "bernoulli"
    assert parse("--dataset", "jsb", "--head", "nade").head == "nade"
    assert parse("--quick").train.steps < parse().train.steps
    assert parse("--quick", "--train.steps", "7", "--hidden", "9").train.steps == 7
    assert parse("--quick", "--hidden", "9").hidden == 9
    assert parse("--dataset", "nottingham").chunk_frames > 0
    assert parse("--dataset", "nottingham", "--chunk-frames", "0").chunk_frames == 0


@pytest.mark.parametrize("name", program.EXPERIMENTS)
@pytest.mark.parametrize("choices", [(), ("--quick",)])
def test_the_config_is_shown_as_flags_that_give_it_again(name, choices, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "main", None)
    assert program.main([name, *choices, "--show-config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [word for line in lines for word in shlex.split(line)]
    experiment = program.load(name)
    assert command_line.parse(experiment, shown, name) == command_line.parse(experiment, choices, name)
    assert ("--quick" if choices else "--no-quick") in lines


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train.log-every", "0"], "train.log_every must be at least 1 step, got 0"),
        (["--hidden", "0"], "hidden must be at least 1, got 0"),
        (["--dropout", "1"], "dropout must lie in [0, 1), got 1"),
        (["--dataset", "bach"], "bach"),
    ],
)
def test_bad_settings_are_named(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(["polyphonic_music", *flags])
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_had_is_told_in_one_line(capsys, tmp_path):
    assert program.main(["polyphonic_music", "--resume", str(tmp_path)]) == 1
    assert f"{tmp_path} is no run folder" in capsys.readouterr().err
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "JSB_Chorales.mat").write_bytes(b"damaged")
    arguments = ["--dataset", "jsb", "--data-dir", str(tmp_path), "--runs", str(tmp_path)]
    assert program.main(["polyphonic_music", *arguments]) == 1
    assert "JSB_Chorales.mat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("language_modeling generate --tokens -1", "--tokens: it must be at least 0, got -1"),
        (
            "language_modeling generate --temperature -1",
            "--temperature: it must be a finite number of at least 0",
        ),
        (
            "language_modeling generate --temperature nan",
            "--temperature: it must be a finite number of at least 0",
        ),
        ("language_modeling generate --top-p 0", "--top-p: it must be in (0, 1], got 0"),
        ("polyphonic_music generate --frames 0", "--frames: it must be at least 1, got 0"),
        ("long_term_memory streams --seed 12345678901234567890", "--seed: it must be in 0..2**32 - 1"),
        ("long_term_memory --train.seed 12345678901234567890", "train.seed must be less than 2**32"),
        ("long_term_memory --train.clip-norm inf", "train.clip_norm must be a finite number, got inf"),
        (
            "question_answering --train.learning-rate nan",
            "train.learning_rate must be a finite number, got nan",
        ),
    ],
)
def test_numbers_out_of_range_are_refused_with_their_flag(command, message, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(command.split())
    assert stop.value.code == 2
    words = capsys.readouterr().err.replace("│", " ").split()  # tyro draws a box around messages
    assert message in " ".join(words)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("long_term_memory --forget-bias nan", "--forget-bias must be a finite number, got nan"),
        ("long_term_memory --quick --runs FILE", "FILE"),
        ("long_term_memory --quick --runs FILE/within", "FILE/within"),
        ("question_answering ask --file FOLDER/none", "FOLDER/none cannot be read: No such file or directory. "),
        ("question_answering ask --file BINARY", "BINARY is no UTF-8 text"),
        ("polyphonic_music --resume RUN", "RUN is a run of long_term_memory, not of polyphonic_music"),
        ("long_term_memory --resume DEEP", "config.json is damaged: maximum recursion depth"),
        ("long_term_memory --resume WRONG", "the recorded config has 'ten' for hidden, expected"),
        ("machine_translation translate --beams 100000", "beams must be at most 1000, got 100000"),
        (
            "machine_translation translate --length-penalty nan",
            "length_penalty must not be negative, got nan",
        ),
        ("show FOLDER/none", "FOLDER/none is no run folder"),
        ("record FOLDER/none --label x", "FOLDER/none is no run folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(command, message, tmp_path, capsys):
    places = {name: str(tmp_path / name.lower()) for name in ("FILE", "BINARY", "RUN", "DEEP", "WRONG")}
    places["FOLDER"] = str(tmp_path)
    Path(places["FILE"]).write_text("")
    Path(places["BINARY"]).write_bytes(bytes(range(256)))
    for name, change in (("RUN", ""), ("DEEP", ""), ("WRONG", "ten")):
        config = dataclasses.asdict(program.load("long_term_memory").config())
        run = Run.create(tmp_path, "long_term_memory", {**config, "hidden": change or 16}, 1, "test")
        run.path.rename(places[name])
    (Path(places["DEEP"]) / "config.json").write_text("[" * 100_000)
    for name, place in places.items():
        command, message = command.replace(name, place), message.replace(name, place)
    assert program.main(command.split()) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_closed_standard_input_is_an_error_and_bytes_that_are_no_text_are_replaced(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        next(terminal.lines_of(None))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a man\r\n\xff\n")))
    assert list(terminal.lines_of(Path("-"))) == ["a man", "\ufffd"]


def test_a_reader_that_ends_early_is_no_traceback():
    """As in ``python -m experiments models | head -1``."""
    command = [sys.executable, "-m", "experiments", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, b"")


def test_a_recorded_config_comes_back_equal():
    config = parse("--dataset", "muse", "--runs", "/somewhere", "--train.seed", "5")
    recorded = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    assert command_line.from_mapping(EXPERIMENT.config, recorded) == config
    assert isinstance(config.runs, Path)


def test_a_config_of_another_version_is_refused_by_name():
    recorded = dataclasses.asdict(TrainConfig()) | {"momentum": 0.9}
    del recorded["warmup"]
    with pytest.raises(ValueError, match=r"missing \['warmup'\], unknown \['momentum'\]"):
        command_line.from_mapping(TrainConfig, recorded)


def test_tensorboard_gets_the_metrics_of_the_run(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: PLC0415

    written = []
    monkeypatch.setattr(
        EventFileWriter, "add_event", lambda self, event, *rest, **more: written.append(event)
    )

    def run(config, run):
        run.log(3, {"nll": 0.5}, kind="valid")

    experiment = dataclasses.replace(EXPERIMENT, run=run)
    command_line.main("polyphonic_music", experiment, ["--tensorboard", "--runs", str(tmp_path)])
    values = [
        (value.tag, value.simple_value, event.step) for event in written for value in event.summary.value
    ]
    assert ("valid/nll", 0.5, 3) in values
