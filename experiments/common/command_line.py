"""From a command line to a finished run, the same way for every experiment.

The flags of an experiment are the fields of its config. Defaults may depend on choices, such as the data set:
flags are read once to see the choices, the experiment's ``preset`` gives the defaults that belong to them,
and the flags are read again on top, so that what a person gives always wins.
"""

import dataclasses
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from experiments.common.experiment import Experiment
from lstmjax.backends import native
from lstmjax.training import TrainingError, parallel
from lstmjax.training.checkpoint import CheckpointError
from lstmjax.training.config import ConfigError, TrainConfig
from lstmjax.training.environment import device
from lstmjax.training.record import RecordError, Run

ERRORS = (CheckpointError, ConfigError, RecordError, TrainingError)
"""What may go wrong without a fault in the code: told in a line, without a traceback."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The flags that every experiment has."""

    quick: bool = False
    """Shrink everything to under a minute on two cores; the whole path still runs."""
    data_dir: Path | None = None
    """Folder of the data sets; by default $LSTMJAX_DATA, or else a cache that is downloaded to."""
    runs: Path = Path("runs")
    """Folder under which the run's own folder is made."""
    keep_memory: bool = True
    """Let the C library keep freed memory: quicker steps on CPU, a larger process."""
    resume: Path | None = None
    """A run's folder: go on with that run, with its config, where its last checkpoint is."""

    @property
    def seed(self) -> int:
        """What everything random comes from; 0 where the figures are not of chance."""
        return 0


@dataclasses.dataclass(frozen=True)
class CommonConfig(RunConfig):
    """The flags that every experiment with a training has."""

    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    @property
    def seed(self) -> int:
        """What everything random comes from."""
        return self.train.seed


Config = TypeVar("Config", bound=RunConfig)


def main(name: str, experiment: Experiment, arguments: Sequence[str]) -> Run:
    """Run an experiment as its command line says; returns the run, finished."""
    program = f"python -m experiments {name}"
    config = parse(experiment, arguments, program)
    experiment.prepare(config)
    print(_host(config.keep_memory and parallel.keep_memory()))
    if config.resume is not None:
        run = open_run(config.resume, name)
        _check_resume(experiment, config, run)
        if run.finished:
            print(f"{run.path} has finished: its summary stays as it is.")
            return run
    else:
        command = shlex.join(["python", "-m", "experiments", name, *arguments])
        run = Run.create(config.runs, name, dataclasses.asdict(config), config.seed, command)
    print(f"run folder: {run.path}", flush=True)
    experiment.run(config, run)
    return run


def _host(memory_kept: bool) -> str:
    """What the run has to compute with."""
    kept = "kept" if memory_kept else "given back"
    if jax.default_backend() != "cpu":
        return f"host: {device()}; freed memory is {kept}"
    return f"host: {device()}; native LSTM code: {native.load() or 'yes'}; freed memory is {kept}"


def _check_resume(experiment: Experiment, config: Any, run: Run) -> None:
    """Refuse to go on with a run as another one: its folder says how it began, and so would its record."""
    before, now = (
        dataclasses.replace(each, resume=None, data_dir=None, runs=Path(), keep_memory=True)
        for each in (from_mapping(experiment.config, run.config), config)
    )
    if before != now:
        raise ConfigError("--resume goes on with the run's own config; other flags need a run of their own.")


def parse(experiment: Experiment, arguments: Sequence[str], program: str) -> Any:
    """The config that the flags say; exits with a message and a suggestion at an unknown flag."""

    def read(default: Any) -> Any:
        return tyro.cli(
            experiment.config,
            prog=program,
            args=arguments,
            default=default,
            description=experiment.description,
        )

    choices = read(experiment.config())
    if choices.resume is None:
        return read(experiment.preset(choices))
    return read(from_mapping(experiment.config, Run.open(choices.resume).config))


def from_mapping(kind: type[Config], values: Mapping[str, Any], allow_missing: bool = False) -> Config:
    """A config dataclass from what `config.json` holds of it.

    Args:
      kind: the dataclass.
      values: its fields, as JSON has them.
      allow_missing: give fields that are missing their defaults, as for a model of an earlier version.

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
    return kind(**{name: _from_json(hints[name], value, allow_missing) for name, value in values.items()})


def check_numbers(
    config: Any,
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    rates: Sequence[str] = (),
    within: str = "",
) -> None:
    """Raise ConfigError unless numbers of a config are in their range; those that are None are not checked.

    Args:
      config: a dataclass.
      positive: names of fields that must be at least 1.
      not_negative: of fields that must be at least 0.
      rates: of fields that must be from 0 to below 1.
      within: what stands before a name on the command line.
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
    """A run of an experiment.

    Raises:
      RecordError: there is no run, or it is one of another experiment.
    """
    run = Run.open(path)
    if run.experiment != experiment:
        raise RecordError(f"{path} is a run of {run.experiment}, not of {experiment}.")
    return run


def _from_json(hint: Any, value: Any, allow_missing: bool) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(Any, hint), value, allow_missing)
    if hint is Path:
        return Path(value)
    return tuple(value) if typing.get_origin(hint) is tuple else value
