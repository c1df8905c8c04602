"""From a command line to a finished run, the same way for every experiment.

An experiment is a module with a frozen dataclass `Config` (a subclass of `CommonConfig`), a function
`preset(config)` and a function `run(config, run)`. Its flags are the fields of `Config`. Defaults may depend
on choices such as the data set: flags are read once to see the choices, `preset` gives the defaults that
belong to them, and the flags are read again on top, so that what a person gives always wins.
"""

import dataclasses
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import tyro

from lstmjax import native, parallel
from lstmjax.checkpoint import CheckpointError
from lstmjax.environment import device
from lstmjax.record import RecordError, Run
from lstmjax.train import ConfigError, TrainConfig, TrainingError

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


class Experiment(Protocol):
    """What a module in `experiments` offers; ``prepare(config)``, if there, runs before JAX does anything."""

    Config: type[Any]

    def preset(self, config: Any) -> Any:
        """The defaults that belong to the choices in ``config``."""

    def run(self, config: Any, run: Run) -> None:
        """Train, evaluate, and write everything into the folder of ``run``."""


def main(name: str, experiment: Experiment, arguments: Sequence[str]) -> Run:
    """Run an experiment as its command line says; returns the run, finished."""
    program = f"python -m experiments {name}"
    config = parse(experiment, arguments, program)
    getattr(experiment, "prepare", lambda config: None)(config)
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
        for each in (from_mapping(experiment.Config, run.config), config)
    )
    if before != now:
        raise ConfigError("--resume goes on with the run's own config; other flags need a run of their own.")


def parse(experiment: Experiment, arguments: Sequence[str], program: str) -> Any:
    """The config that the flags say; exits with a message and a suggestion at an unknown flag."""

    def read(default: Any) -> Any:
        return tyro.cli(
            experiment.Config, prog=program, args=arguments, default=default, description=experiment.__doc__
        )

    choices = read(experiment.Config())
    if choices.resume is None:
        return read(experiment.preset(choices))
    return read(from_mapping(experiment.Config, Run.open(choices.resume).config))


def from_mapping(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A config dataclass from what `config.json` holds of it.

    Raises:
      ConfigError: the fields are not those of ``kind``: the run was made by another version.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    if names != set(values):
        raise ConfigError(
            f"the recorded config does not fit {kind.__qualname__}: missing {sorted(names - set(values))}, "
            f"unknown {sorted(set(values) - names)}. The run was made by another version of the experiment."
        )
    hints = typing.get_type_hints(kind)
    return kind(**{name: _from_json(hints[name], value) for name, value in values.items()})


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


def config_of(path: Path, experiment: str, kind: type[Config]) -> Config:
    """The config of a run of an experiment; errors are those of `open_run` and `from_mapping`."""
    return from_mapping(kind, open_run(path, experiment).config)


MODEL = "model.safetensors"
"""The best parameters of a run, in its folder."""


def finished_run(path: Path, experiment: str, kind: type[Config], otherwise: str = "") -> tuple[Config, Path]:
    """The config of a run that has finished, and the file of its best parameters.

    Raises:
      RecordError: there is no such run, or it has no model: that of `output_of`, with ``otherwise``.
      ConfigError: the run was made by another version.
    """
    return config_of(path, experiment, kind), output_of(path, MODEL, otherwise)


def output_of(run: Path, name: str, otherwise: str = "") -> Path:
    """A file that a run writes when it is done.

    Args:
      run: the run's folder.
      name: of the file.
      otherwise: another reason why it may not be there, for the error.

    Raises:
      RecordError: it is not there.
    """
    if not (run / name).is_file():
        raise RecordError(f"{run} has no {name}: the run has not finished{otherwise}.")
    return run / name


def _from_json(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(Any, hint), value)
    if hint is Path:
        return Path(value)
    return tuple(value) if typing.get_origin(hint) is tuple else value
