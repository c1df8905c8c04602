"""From a command line to a finished run, in the same way for every experiment.

The flags of an experiment are the fields of its config. Their defaults may depend on choices, such as the
data set: the flags are parsed once to get the choices, the experiment's ``preset`` gives the defaults for
them, and the flags are parsed again on top, so that explicit flags always take precedence.
"""

import dataclasses
import math
import os
import shlex
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from experiments.common import tensorboard
from experiments.common.experiment import Experiment
from lstmjax.backends import native
from lstmjax.training import TrainingError, distributed, parallel
from lstmjax.training.checkpoint import CheckpointError
from lstmjax.training.config import ConfigError, TrainConfig
from lstmjax.training.environment import device
from lstmjax.training.record import RecordError, Run

ERRORS = (CheckpointError, ConfigError, RecordError, TrainingError)
"""Expected errors, reported in one line without a traceback."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The flags of every experiment."""

    quick: bool = False
    """Reduce all sizes to run in less than a minute on two cores; every stage still runs."""
    data_dir: Path | None = None
    """Folder of the data sets; by default $LSTMJAX_DATA, or else a download cache."""
    runs: Path = Path("runs")
    """Parent folder of the run's folder."""
    keep_memory: bool = True
    """Keep freed memory in the C library: faster steps on CPU, a larger process."""
    tensorboard: bool = False
    """Also write the metrics as TensorBoard events into the run's folder (the extra `tensorboard`)."""
    resume: Path | None = None
    """Folder of a run to resume, with its own config, from its latest checkpoint."""
    distributed: bool = False
    """Be one of several processes, on one host or several, that do one run."""
    coordinator: str | None = None
    """HOST:PORT of the first process; it, --processes and --process are found under SLURM and others."""
    processes: int | None = None
    """Number of processes."""
    process: int | None = None
    """Number of this process, from 0."""

    @property
    def seed(self) -> int:
        """The random seed; 0 if the experiment has no randomness."""
        return 0


@dataclasses.dataclass(frozen=True)
class CommonConfig(RunConfig):
    """The flags of every experiment that trains a model."""

    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    """How to train. `--train.seeds 0:8` does so with several random seeds, see docs/sweeps.md."""

    @property
    def seed(self) -> int:
        """The random seed."""
        return self.train.seed


Config = TypeVar("Config", bound=RunConfig)


def main(name: str, experiment: Experiment, arguments: Sequence[str]) -> Run:
    """Run an experiment with the given command-line arguments; returns the finished run."""
    config = parse(experiment, arguments, f"python -m experiments {name}")
    backend = prepare(experiment, config)
    run = _open(name, experiment, arguments, config, backend) if distributed.is_first() else None
    if distributed.count() > 1:
        run = distributed.run_of_first(run)
    assert run is not None
    if run.finished:
        print(f"{run.path} has finished: its summary stays as it is.")
        return run
    prepare_run(config, run, backend)
    execute(experiment, config, run)
    return run


def prepare(experiment: Experiment, config: Any) -> str:
    """Make the settings of the process, and print them; returns what computes recurrent layers."""
    kept = "kept" if config.keep_memory and parallel.keep_memory() else "given back"
    experiment.prepare(config)
    if config.distributed:
        distributed.initialize(config.coordinator, config.processes, config.process)
        if not distributed.is_first():
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as it runs)
    backend = _backend()
    print(f"host: {device()}; recurrent layers: {backend}; freed memory is {kept}")
    return backend


def prepare_run(config: Any, run: Run, backend: str) -> None:
    """Set what is recorded of a run, and where."""
    run.backend = backend
    if config.tensorboard:
        run.add_sink(tensorboard.sink(run.path))


def execute(experiment: Experiment, config: Any, run: Run) -> None:
    """Do a run, or what is left of it."""
    print(f"run folder: {run.path}", flush=True)
    try:
        with run.lock():
            experiment.run(config, run)
    except KeyboardInterrupt as interruption:
        if distributed.is_first() and any(run.path.glob("checkpoints/step-*")):
            interruption.add_note(f"--resume {run.path} goes on.")
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        distributed.end_if_lost(error)
        raise


def _open(name: str, experiment: Experiment, arguments: Sequence[str], config: Any, backend: str) -> Run:
    """The run that the flags ask for, new or resumed."""
    if config.resume is None:
        command = shlex.join(["python", "-m", "experiments", name, *arguments])
        return Run.create(config.runs, name, dataclasses.asdict(config), config.seed, command)
    run = open_run(config.resume, name)
    _check_resume(experiment, config, run)
    for before in [] if run.finished else run.sessions()[-1:]:
        if (before.device, before.backend or backend) != (device(), backend):
            print(
                f"it was on {before.device}, recurrent layers by {before.backend or backend}: results "
                "differ in rounding from those of a run that stays there."
            )
    return run


SHOW_CONFIG = "--show-config"
"""The flag that prints the config of a run in place of running it."""


def show_config(name: str, experiment: Experiment, arguments: Sequence[str]) -> None:
    """Print the config that the other arguments give, as flags, one a line."""
    others = [argument for argument in arguments if argument != SHOW_CONFIG]
    config = parse(experiment, others, f"python -m experiments {name}")
    for flag in flags(dataclasses.asdict(config)):
        print(shlex.join(flag))


def flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a config by the names of their flags, those of nested configs with a dot."""
    for field, value in values.items():
        name = within + field.replace("_", "-")
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def flags(values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The flags that give the values of a config, each a tuple of words."""
    for name, value in flat(values):
        if isinstance(value, bool):
            first, dot, last = name.rpartition(".")
            yield (f"--{name}" if value else f"--{first}{dot}no-{last}",)
        elif isinstance(value, tuple):
            yield (f"--{name}", *map(str, value))
        else:
            yield f"--{name}", str(value)


def _backend() -> str:
    """What computes recurrent layers."""
    if jax.default_backend() != "cpu":
        return "XLA"
    reason = native.load()
    return f"XLA ({reason})" if reason else "native code"


def _check_resume(experiment: Experiment, config: Any, run: Run) -> None:
    """Refuse to resume a run with another config: its folder and its record have the original config."""
    elsewhere = {
        field.name: field.default for field in dataclasses.fields(RunConfig) if field.name != "quick"
    }
    before, now = (
        dataclasses.replace(each, **elsewhere)
        for each in (from_mapping(experiment.config, run.config), config)
    )
    if before != now:
        raise ConfigError("--resume goes on with the run's own config; other flags need a run of their own.")


def parse(experiment: Experiment, arguments: Sequence[str], program: str) -> Any:
    """The config from the flags; exits with a message and a suggestion at an unknown flag.

    ``--help`` shows the defaults for the choices that are given beside it.
    """

    def read(default: Any, arguments: Sequence[str]) -> Any:
        return tyro.cli(
            experiment.config,
            prog=program,
            args=arguments,
            default=default,
            description=experiment.description,
        )

    choices = read(experiment.config(), [each for each in arguments if each not in ("-h", "--help")])
    if choices.resume is None:
        default = experiment.preset(choices)
    else:
        run = open_run(choices.resume, program.rpartition(" ")[2])
        default = from_mapping(experiment.config, run.config)
    config = read(default, arguments)
    for name, value in flat(dataclasses.asdict(config)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"--{name} must be a finite number, got {value}.")
    return config


def from_mapping(kind: type[Config], values: Mapping[str, Any], allow_missing: bool = False) -> Config:
    """Restore a config dataclass from its values in `config.json`.

    Args:
      kind: the dataclass.
      values: its fields, as parsed from JSON.
      allow_missing: use defaults for missing fields, as for a model of an earlier version.

    Raises:
      ConfigError: the fields are not those of ``kind``: the run was made by another version.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    if set(values) - names or (names - set(values) and not allow_missing):
        raise ConfigError(
            f"the recorded config does not fit {kind.__qualname__}: missing {sorted(names - set(values))}, "
            f"unknown {sorted(set(values) - names)}. The run was made by another version of the experiment."
        )
    hints = typing.get_type_hints(kind)
    return kind(
        **{name: _from_json(name, hints[name], value, allow_missing) for name, value in values.items()}
    )


def check_numbers(
    config: Any,
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    rates: Sequence[str] = (),
    within: str = "",
) -> None:
    """Raise ConfigError unless the numbers of a config are in their ranges; None is not checked.

    Args:
      config: a dataclass.
      positive: names of fields that must be at least 1.
      not_negative: names of fields that must be at least 0.
      rates: names of fields that must be in [0, 1).
      within: prefix of the names on the command line.
    """
    ranges = (
        (positive, "must be at least 1", lambda value: value >= 1),
        (not_negative, "must not be negative", lambda value: value >= 0),
        (rates, "must lie in [0, 1)", lambda value: 0 <= value < 1),
    )
    for names, demand, holds in ranges:
        for name in names:
            value = getattr(config, name)
            if value is not None and not holds(value):
                raise ConfigError(f"{within}{name} {demand}, got {value}.")


def open_run(path: Path, experiment: str) -> Run:
    """Open a run of an experiment.

    Raises:
      RecordError: there is no run, or it belongs to another experiment.
    """
    run = Run.open(path)
    if run.experiment != experiment:
        raise RecordError(f"{path} is a run of {run.experiment}, not of {experiment}.")
    return run


def _from_json(name: str, hint: Any, value: Any, allow_missing: bool) -> Any:
    """A value of a config, checked against its type."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _from_json(
            name, next(each for each in options if each is not type(None)), value, allow_missing
        )
    if origin is tuple and isinstance(value, list):
        return tuple(_from_json(name, options[0], each, allow_missing) for each in value)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(typing.cast(Any, hint), value, allow_missing)
    if origin is typing.Literal:
        fits = value in options
    else:
        kinds: Any = {Path: str, float: (int, float), int: int, str: str, bool: bool}.get(hint, ())
        fits = isinstance(value, kinds) and isinstance(value, bool) == (hint is bool)
    if not fits:
        raise ConfigError(f"the recorded config has {value!r} for {name}, expected {hint}.")
    return Path(value) if hint is Path else value
