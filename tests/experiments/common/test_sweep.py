"""Sweeps: every run is what it is alone, whether runs train as one program or one after the other."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as program
from experiments.common import command_line, sweep
from experiments.common.command_line import CommonConfig
from experiments.common.experiment import Experiment, Page
from experiments.common.learning import finish, learn
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.training.record import Run, record_of


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of a polynomial that is fitted."""

    degree: int = 2
    alone: bool = False
    """Do not train by `learn`."""
    train: training.TrainConfig = dataclasses.field(
        default_factory=lambda: training.TrainConfig(steps=6, evaluate_every=3, learning_rate=0.1)
    )


def make_task(degree):
    def errors(params, x):
        return Mean.of(jnp.square(jnp.polyval(params, x) - jnp.sin(x)))

    def loss(params, x, key):
        mean = errors(params, x + 0.1 * jax.random.normal(key, x.shape))
        return mean.compute(), {"error": mean}

    return training.Task.plain(
        init=lambda key: jax.random.normal(key, (degree + 1,)),
        loss=loss,
        batch=lambda seed, step: np.random.default_rng((seed, step)).random(8, np.float32),
        evaluate=lambda params, x: {"error": errors(params, x)},
        valid=lambda: [np.linspace(0, 1, 8, dtype=np.float32)],
        monitor="error",
    )


def run(config, run):
    task = make_task(config.degree)
    if config.alone:
        params = training.fit(task, config.train, run).best.params
    else:
        params = learn(task, config.train, run).params
    finish(run, {"valid_error": training.evaluate(task, params, task.valid())["error"]})


EXPERIMENT = Experiment("fit a polynomial", Config, run, Page(lambda records: ""))


def main(folder, *arguments):
    """The folder of a sweep, its plan and its summary."""
    done = sweep.main("polynomial", EXPERIMENT, [*arguments, "--runs", str(folder)])
    return done, *(json.loads((done / name).read_text()) for name in (sweep.PLAN, sweep.SUMMARY))


def test_each_run_is_what_it_is_alone(tmp_path, capsys):
    flags = ("--set", "degree=1,2", "--set", "train.learning_rate=0.1,0.03", "--train.seeds", "3,5")
    folder, plan, summary = main(tmp_path, "sweep", *flags)
    assert {name.name for name in folder.iterdir()} == {sweep.PLAN, sweep.SUMMARY, sweep.PLOT}
    assert capsys.readouterr().out.count("4 runs as one program") == 2  # one for each degree
    assert len(plan["runs"]) == 8
    values = {}
    for each in plan["runs"]:
        joint = Run.open(tmp_path / each["run"])
        own = [word for name, value in each["setting"].items() for word in (f"--{name}", value)]
        arguments = [*own, "--train.seed", str(joint.seed), "--runs", str(tmp_path / "alone")]
        alone = command_line.main("polynomial", EXPERIMENT, arguments)
        assert joint.figures() == pytest.approx(alone.figures(), rel=1e-4)
        assert {**joint.config, "runs": ""} == {**alone.config, "runs": ""}
        assert len(joint.sessions()) == 1
        assert record_of(joint.path, "kept").seed in (3, 5)
        values.setdefault(repr(each["setting"]), []).append(alone.figures()["valid_error"])
    assert [row["seeds"] for row in summary["settings"]] == [[3, 5]] * 4
    for row in summary["settings"]:
        assert row["together"] == [4, 4]
        found, want = row["metrics"], np.array(values[repr(row["setting"])])
        assert found["valid_error"] == pytest.approx(want.mean(), rel=1e-4)
        assert found["valid_error_std"] == pytest.approx(want.std(ddof=1), rel=1e-2)


def test_an_experiment_that_trains_in_its_own_way_queues(tmp_path, capsys):
    _, _, summary = main(tmp_path, "--alone", "--train.seeds", "0:2")
    assert "one by one" in capsys.readouterr().out
    (row,) = summary["settings"]
    assert (row["seeds"], row["together"]) == ([0, 1], [1, 1])


def test_a_sweep_goes_on(tmp_path, monkeypatch):
    def killed(config, run):
        if config.seed == 1:
            raise KeyboardInterrupt
        EXPERIMENT.run(config, run)

    broken = dataclasses.replace(EXPERIMENT, run=killed)
    with pytest.raises(KeyboardInterrupt) as interruption:
        sweep.main("polynomial", broken, ["--train.seeds", "0:3", "--runs", str(tmp_path)])
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert f"`sweep polynomial --resume {folder}`" in str(interruption.value.__notes__)
    again = sweep.main("polynomial", EXPERIMENT, ["sweep", "--resume", str(folder)])
    assert again == folder
    (row,) = json.loads((folder / sweep.SUMMARY).read_text())["settings"]
    assert row["seeds"] == [0, 1, 2]
    assert len(list((tmp_path / "polynomial").iterdir())) == 3


def test_hosts_do_a_share_each(tmp_path, capsys):
    plan = ["sweep", "--set", "degree=1,2", "--train.seeds", "0:3", "--plan", "--runs", str(tmp_path)]
    folder = sweep.main("polynomial", EXPERIMENT, plan)
    assert [path.name for path in folder.iterdir()] == [sweep.PLAN]
    done = []
    for share in ("1/4", "0/4", "3/4", "2/4"):  # of six runs: one, two, one, two
        sweep.main("polynomial", EXPERIMENT, ["sweep", "--resume", str(folder), "--share", share])
        rows = json.loads((folder / sweep.SUMMARY).read_text())["settings"]
        done.append([row["seeds"] for row in rows])
    assert done == [[[1, 2], []], [[0, 1, 2], []], [[0, 1, 2], [1, 2]], [[0, 1, 2], [0, 1, 2]]]
    assert [row["together"] for row in rows] == [[1, 2, 2], [1, 2, 2]]
    sweep.main("polynomial", EXPERIMENT, ["sweep", "--resume", str(folder), "--share", "29/30"])
    for wrong in ("4/4", "1", "a/b", "-1/2"):
        with pytest.raises(training.ConfigError, match="--share must be like 0/4"):
            sweep.main("polynomial", EXPERIMENT, [*plan, f"--share={wrong}"])
    plans = list(folder.parent.iterdir())
    with pytest.raises(training.ConfigError, match="on with `--resume FOLDER --share 0/4`"):
        sweep.main("polynomial", EXPERIMENT, [*plan[:-3], "--runs", str(tmp_path), "--share", "0/4"])
    assert list(folder.parent.iterdir()) == plans


def test_what_fails_does_not_end_the_others(tmp_path):
    def fails(config, run):
        if config.seed == 1:
            raise training.ConfigError("seed 1 is bad luck")
        EXPERIMENT.run(config, run)

    broken = dataclasses.replace(EXPERIMENT, run=fails)
    with pytest.raises(training.TrainingError, match=r"1 of 3 runs failed:\n.*seed 1 is bad luck"):
        sweep.main("polynomial", broken, ["--train.seeds", "0:3", "--runs", str(tmp_path)])
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert json.loads((folder / sweep.SUMMARY).read_text())["settings"][0]["seeds"] == [0, 2]


def test_seeds():
    assert sweep.seeds_of("0:3") == [0, 1, 2]
    assert sweep.seeds_of("5,1") == [5, 1]
    for wrong in ("", "3:3", "1,1", "a", "1:b"):
        with pytest.raises(training.ConfigError, match=r"0:32, which is 0 to 31"):
            sweep.seeds_of(wrong)


def test_settings():
    options = sweep.Options(set=("hidden=1,2", "train.learning_rate=0.1,0.2,0.3"))
    every = sweep.settings_of(options)
    assert len(every) == 6
    assert every[1] == {"hidden": "1", "train.learning-rate": "0.2"}
    some = sweep.settings_of(dataclasses.replace(options, random=4))
    assert len(some) == 4
    assert all(each in every for each in some)
    for wrong in ("hidden", "=3", "hidden=", "train.seed=1,2"):
        with pytest.raises(training.ConfigError, match="--set must be like"):
            sweep.settings_of(sweep.Options(set=(wrong,)))


def test_the_command_line_leads_there(capsys):
    assert program.main(["sweep", "polyphonic_music", "--train.seeds", "x"]) == 1
    assert program.main(["polyphonic_music", "--train.seeds", "1,1"]) == 1
    assert capsys.readouterr().err.count("must be like 0:32") == 2
    assert program.main(["sweep"]) == program.main(["sweep", "--help"]) == 2
    assert "the name of an experiment comes first" in capsys.readouterr().err
    assert program.main(["sweep", "speed", "--set", "rounds=1,2"]) == 1
    assert "speed has no random seed" in capsys.readouterr().err
