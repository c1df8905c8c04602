"""Several random seeds and settings: `NAME --train.seeds 0:8`, and `sweep NAME --set hidden=64,128`.

Every seed of every setting is a run with a folder of its own, and recorded like any other. Runs that differ
in seed and learning rate alone train as one program (`lstmjax.training.joint`), if the experiment trains by
`learning.learn`. All others train one after the other, in the same process.
"""

import contextlib
import dataclasses
import itertools
import json
import random
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from experiments.common import command_line, mapped
from experiments.common.command_line import CommonConfig, from_mapping, open_run
from experiments.common.experiment import Experiment
from lstmjax.training import ConfigError, TrainingError
from lstmjax.training.checkpoint import write_atomically
from lstmjax.training.record import RecordError, Run, read_json

SEEDS = "--train.seeds"
PLAN, SUMMARY, PLOT = "sweep.json", "summary.json", "sweep.png"
"""The files of a sweep's folder: its runs, their statistics, and a picture of one metric."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of a sweep; all others are those of the experiment."""

    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A flag and its values, such as `hidden=64,128`; of several, all combinations are run."""
    seeds: Annotated[str, tyro.conf.arg(name="train.seeds")] = ""
    """Random seeds, such as `0:32`, which is 0 to 31, or `1,2,5`; by default the one of the experiment."""
    random: int = 0
    """Run only so many combinations, drawn at random; 0 for all."""
    together: int = 32
    """Maximum number of runs that train as one program: all of their parameters are in memory."""
    metric: str = ""
    """The metric to plot; by default the first of the validation set."""
    resume: Path | None = None
    """Folder of a sweep to resume, in runs/sweeps."""
    share: str = ""
    """Do only a part of the runs: `0/4` is the first of four. Hosts with one folder of runs do one each."""
    plan: bool = False
    """Write the sweep's folder and start no run: --resume does, with a --share on each host."""


@dataclasses.dataclass
class Entry:
    """A run of a sweep."""

    setting: dict[str, str]
    run: Run
    config: Any


def is_asked_for(arguments: Sequence[str]) -> bool:
    """Whether the arguments of an experiment are those of a sweep."""
    return arguments[:1] == ["sweep"] or any(each.partition("=")[0] == SEEDS for each in arguments)


def main(name: str, experiment: Experiment, arguments: Sequence[str]) -> Path:
    """Do a sweep, or what is left of it; returns its folder.

    Raises:
      ConfigError: a flag is wrong.
      TrainingError: some runs have failed; the others have finished.
    """
    words = ["sweep", name, *arguments[1:]] if arguments[:1] == ["sweep"] else [name, *arguments]
    command = shlex.join(["python", "-m", "experiments", *words])
    options, flags = tyro.cli(
        Options,
        prog=f"python -m experiments sweep {name}",
        args=arguments[arguments[:1] == ["sweep"] :],
        return_unknown_args=True,
    )
    number, count = share_of(options.share)
    if options.resume is not None and flags:
        raise ConfigError(f"--resume goes on with the sweep's own flags, not with {' '.join(flags)}.")
    if options.share and options.resume is None:
        raise ConfigError(
            "--share is of a sweep that all hosts have: `--plan` writes its folder once, and each host goes "
            "on with `--resume FOLDER --share 0/4`."
        )
    with _compiled_once():
        if options.resume is None:
            folder, entries = _new(name, experiment, options, flags, command)
        else:
            folder, entries = options.resume, _opened(name, experiment, options.resume)
        print(f"sweep folder: {folder}")
        if options.plan:
            print(f"`sweep {name} --resume {folder}` starts it, on several hosts with a --share each.")
            return folder
        first, end = (len(entries) * each // count for each in (number, number + 1))
        try:
            failures = _run(experiment, entries[first:end], options.together)
        except KeyboardInterrupt as interruption:
            interruption.add_note(f"`sweep {name} --resume {folder}` goes on with all runs.")
            raise
    _summarize(folder, entries, options.metric)
    if failures:
        raise TrainingError("\n  ".join([f"{len(failures)} of {len(entries)} runs failed:", *failures]))
    return folder


@contextlib.contextmanager
def _compiled_once() -> Iterator[None]:
    """Let runs of one process share what is compiled, if nothing else says where it is kept."""
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lstmjax-") as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", None)


def seeds_of(text: str) -> list[int]:
    """The seeds of `0:32` or `1,2,5`.

    Raises:
      ConfigError: it is neither, or a seed occurs twice.
    """
    try:
        first, colon, end = text.partition(":")
        seeds = list(range(int(first), int(end))) if colon else [int(each) for each in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{SEEDS} must be like 0:32, which is 0 to 31, or like 1,2,5; got {text!r}.")
    return seeds


def settings_of(options: Options) -> list[dict[str, str]]:
    """The combinations of the values of all flags.

    Raises:
      ConfigError: a flag has no values.
    """
    axes = []
    for each in options.set:
        name, equals, values = each.partition("=")
        name = name.lstrip("-").replace("_", "-")
        if not (name and equals and values) or name == "train.seed":
            raise ConfigError(
                f"--set must be like hidden=64,128, and seeds are given by {SEEDS}; got {each!r}."
            )
        axes.append([(name, value) for value in values.split(",")])
    settings = [dict(combination) for combination in itertools.product(*axes)]
    if 0 < options.random < len(settings):
        chosen = random.Random(0).sample(range(len(settings)), options.random)
        settings = [settings[number] for number in sorted(chosen)]
    return settings


def share_of(text: str) -> tuple[int, int]:
    """The numbers of `1/4`; without a text, 0 and 1.

    Raises:
      ConfigError: it is something else.
    """
    number, _, count = (text or "0/1").partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise ConfigError(f"--share must be like 0/4, which is the first of four; got {text!r}.")
    return int(number), int(count)


def _new(
    name: str, experiment: Experiment, options: Options, flags: Sequence[str], command: str
) -> tuple[Path, list[Entry]]:
    """A new sweep: its folder, and its runs."""
    planned = []
    for setting in settings_of(options):
        words = [word for flag, value in setting.items() for word in (f"--{flag}", value)]
        config = command_line.parse(experiment, [*flags, *words], f"python -m experiments {name}")
        if not isinstance(config, CommonConfig):
            raise ConfigError(f"{name} has no random seed.")
        if config.distributed or config.resume:
            raise ConfigError(
                "a sweep is divided over hosts by --share, and resumed by `sweep NAME --resume`."
            )
        for seed in seeds_of(options.seeds) if options.seeds else [config.seed]:
            own = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
            planned.append((setting, own))
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    runs = planned[0][1].runs
    folder = runs / "sweeps" / f"{name}-{now}"
    folder.mkdir(parents=True)
    entries = [
        Entry(setting, Run.create(runs, name, dataclasses.asdict(config), config.seed, command), config)
        for setting, config in planned
    ]
    _write_plan(folder, entries)
    return folder, entries


def _path(run: Run) -> str:
    """The path of a run from the parent folder of all runs."""
    return f"{run.experiment}/{run.path.name}"


def _write_plan(folder: Path, entries: Sequence[Entry]) -> None:
    """Write which runs there are, as paths from the parent folder of all runs."""
    plan = [{"run": _path(entry.run), "setting": entry.setting} for entry in entries]
    write_atomically(folder / PLAN, json.dumps({"runs": plan}, indent=2).encode())


def _opened(name: str, experiment: Experiment, folder: Path) -> list[Entry]:
    """The runs of a sweep that was begun before."""
    if not (folder / PLAN).is_file():
        raise RecordError(f"{folder} has no {PLAN}: it is no sweep.")
    entries = []
    for each in read_json(folder / PLAN)["runs"]:
        run = open_run(folder.parent.parent / each["run"], name)
        config = from_mapping(experiment.config, run.config)
        entries.append(Entry(each["setting"], run, config))
    return entries


def _run(experiment: Experiment, entries: Sequence[Entry], together: int) -> list[str]:
    """Do all runs that have not finished; returns what those that cannot have failed by."""
    entries = [entry for entry in entries if not entry.run.finished]
    if not entries:
        return []
    backend = command_line.prepare(experiment, entries[0].config)
    failures = []
    for group in groups_of(entries, together):
        for entry in group:
            command_line.prepare_run(entry.config, entry.run, backend)
        group[0].run.siblings = tuple(entry.run for entry in group) if len(group) > 1 else ()
        for entry in group:
            entry.run.set_clock(max((each.seconds for each in entry.run.metrics()), default=0.0))
            try:
                command_line.execute(experiment, entry.config, entry.run)
            except command_line.ERRORS as error:
                failures.append(f"{entry.run.path}: {error}")
                print(failures[-1])
            if entry is group[0] and group[0].run.siblings:
                print("This experiment does not train seeds as one program: the others follow, one by one.")
    return failures


def groups_of(entries: Sequence[Entry], together: int) -> list[list[Entry]]:
    """Runs that differ in seed and learning rate alone, in groups of at most so many."""
    alike: dict[str, list[Entry]] = {}
    for entry in entries:
        is_zero = float(entry.config.train.learning_rate == 0)  # of which no other is a multiple
        train = dataclasses.replace(entry.config.train, seed=0, learning_rate=is_zero)
        alike.setdefault(repr(dataclasses.replace(entry.config, train=train)), []).append(entry)
    size = max(together, 1)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _summarize(folder: Path, entries: Sequence[Entry], metric: str) -> None:
    """Write, print and plot the statistics of each setting over its finished runs, those of all shares."""
    rows: list[dict[str, Any]] = []
    finished = [entry for entry in entries if entry.run.finished]
    for setting in {repr(entry.setting): entry.setting for entry in entries}.values():
        own = [entry for entry in finished if entry.setting == setting]
        figures = [entry.run.figures() for entry in own]
        names = [name for name in (figures[0] if figures else {}) if all(name in each for each in figures)]
        values = {name: np.array([each[name] for each in figures]) for name in names}
        rows.append(
            {
                "setting": setting,
                "seeds": [entry.run.seed for entry in own],
                "runs": [_path(entry.run) for entry in own],
                "together": [max(session.together for session in entry.run.sessions()) for entry in own],
                "metrics": mapped.spread(values),
                "values": {name: each.tolist() for name, each in values.items()},
            }
        )
    write_atomically(folder / SUMMARY, json.dumps({"settings": rows}, indent=2).encode())
    if sum(entry.run.finished for entry in entries) > len(finished):  # another share has just done one
        return _summarize(folder, entries, metric)
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    _print_table(rows, names)
    valid = [name for name in names if name.startswith("valid_")]
    if metric and metric not in names:
        print(f"There is no metric {metric!r}: there are {', '.join(names)}.")
    if names:
        _plot(rows, metric if metric in names else (valid or names)[0], folder / PLOT)


def _title(setting: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items()) or "as given"


def _print_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    table = Table("setting", "metric", "mean", "std", "min", "max", "seeds")
    for row in rows:
        for number, name in enumerate(each for each in names if each in row["values"]):
            found = [row["metrics"].get(name + suffix) for suffix in ("", "_std", "_min", "_max")]
            texts = ["" if figure is None else f"{figure:.4g}" for figure in found]
            title = "" if number else _title(row["setting"])
            table.add_row(title, name, *texts, str(len(row["seeds"])), end_section=name == names[-1])
    console = Console()
    console.print(table, width=None if console.is_terminal else 120)


def _plot(rows: Sequence[Mapping[str, Any]], metric: str, path: Path) -> None:
    """Plot a metric of all runs, and its mean, by setting."""
    shown = [row for row in rows if metric in row["values"]]
    figure = Figure(figsize=(2 + 1.2 * len(shown), 4), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(shown):
        values = row["values"][metric]
        spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else [0.0]
        axes.plot(place + np.array(spread), values, "o", color="C0", alpha=0.6)
        axes.hlines(row["metrics"][metric], place - 0.25, place + 0.25, color="C1")
    titles = [_title(row["setting"]).replace(", ", "\n") for row in shown]
    axes.set_xticks(range(len(shown)), titles, rotation=45 if len(shown) > 4 else 0)
    axes.set(ylabel=metric, xlim=(-0.6, len(shown) - 0.4), title="each run, and the mean of its setting")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=120)
