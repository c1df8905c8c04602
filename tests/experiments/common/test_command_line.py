"""The command line: the list, presets, flags that win, suggestions, resume."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from experiments import __main__ as program
from experiments.common import command_line
from experiments.polyphonic_music import EXPERIMENT
from lstmjax.training import TrainConfig


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
