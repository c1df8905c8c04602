"""Runs and records: the folder of a run of an experiment, and the one file that is kept of it.

The folder of a run, `runs/<experiment>/<time>-<seed>/`, holds

* `config.json`: experiment, command, config, seed, and when it started;
* `metrics.jsonl`: one line for each `Run.log`, in order;
* `sessions.json`: the start of each session of the run, its commit, device and versions, and whether it
  read the test set;
* `summary.json`: the final metrics and the provenance of the run, once it has finished;
* `lock`: who writes to the run now, while a process does (`Run.lock`);
* `checkpoints/`, and the figures and samples that the experiment writes.

`keep` makes a record of a finished run, and tables are built from `load_records`. All files are strict JSON;
a float that is not finite is one of the strings "NaN", "Infinity", "-Infinity". A line of metrics, sessions
and summary have the CRC-32 of their other fields, `crc32`, which is checked.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import platform
import re
import time
import typing
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, NamedTuple, SupportsFloat, TextIO, TypeVar

import jax
import numpy as np

from lstmjax.training.checkpoint import PathLike, write_atomically
from lstmjax.training.environment import commit, device, versions

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_NAMES = {"experiment": r"[a-z0-9_]+", "label": r"[a-z0-9-]+"}
_T = TypeVar("_T")


class RecordError(ValueError):
    """A run folder or a record that is invalid."""


class Entry(NamedTuple):
    """One line of `metrics.jsonl`; `seconds` is the active time of the run until then."""

    step: int
    kind: str
    seconds: float
    metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Session:
    """One process of a run; a run that is never resumed has one session."""

    started: str
    """Time of its start, UTC."""
    commit: str
    device: str
    versions: dict[str, str]
    tested: bool
    """Whether it read the test set."""
    backend: str = ""
    """What computed recurrent layers, `Run.backend`; records from before it was introduced have none."""
    together: int = 1
    """Number of runs that were trained as one program (`fit_jointly`), this one among them."""


@dataclasses.dataclass(frozen=True)
class Record:
    """The record of a run, in `<results>/<experiment>/<label>-seed<seed>.json`.

    The file name has no seed if the seed is 0: for results without randomness, such as timings. Commit,
    device and versions are those of the last session. Records from before sessions were introduced have none.
    """

    experiment: str
    label: str
    command: str
    config: dict[str, Any]
    seed: int
    metrics: dict[str, float]
    device: str
    seconds: float
    commit: str
    versions: dict[str, str]
    tested_before: bool = False
    """Whether the test set had been read before the metrics were computed: by an earlier session of the run,
    or by the run whose record this one replaced."""
    sessions: list[Session] = dataclasses.field(default_factory=list)
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The kept model of the run: dtype, bytes, and the SHA-256 of each file; empty if none is kept."""

    @property
    def file(self) -> Path:
        """Path of the record, relative to the results folder."""
        seed = f"-seed{self.seed}" if self.seed else ""
        return Path(self.experiment, f"{self.label}{seed}.json")


class Statistic(NamedTuple):
    """Mean and sample standard deviation of a metric over seeds; the latter is NaN for a single seed."""

    mean: float
    deviation: float
    seeds: int


class Summary(NamedTuple):
    """The records of one label: the statistic of each metric, and the mean duration in seconds."""

    metrics: dict[str, Statistic]
    seconds: float


class _Header(NamedTuple):
    """The content of `config.json`."""

    experiment: str
    command: str
    config: dict[str, Any]
    seed: int
    started: str


class Run:
    """The folder of one run, created by `Run.create` or opened by `Run.open`.

    Its `path`, `experiment`, `command`, `config` (as JSON gives it back) and `seed` are attributes.

    Example:
      >>> import tempfile
      >>> run = Run.create(tempfile.mkdtemp(), "adding", {"hidden": 8}, seed=1, command="...")
      >>> run.log(10, {"loss": 0.5})
      >>> run.finish({"test_loss": 0.25})
      >>> [(entry.step, entry.metrics) for entry in Run.open(run.path).metrics("train")]
      [(10, {'loss': 0.5})]
    """

    def __init__(self, path: Path, header: _Header) -> None:
        self.path = path
        self.experiment, self.command, self.config, self.seed, self._started = header
        self._clock_zero = time.monotonic()
        self._session_started, self._commit, self._session = _now(), commit(), -1
        self._sinks: list[Callable[[Entry], None]] = []
        self._is_locked = False
        self.backend = ""
        """What computes recurrent layers in this session, for the record."""
        self.together = 1
        """Number of runs that are trained as one program in this session, for the record."""
        self.siblings: tuple[Run, ...] = ()
        """Runs, this one among them, that differ in seed and learning rate alone and are still to be trained:
        whoever trains this one may train all as one program (`fit_jointly`), and then leaves none here."""
        self.productive_seconds = 0.0
        """Active time in training steps that count, not repeated after a kill; `fit` sets it."""

    @property
    def identity(self) -> str:
        """SHA-256 (hex) of what the run is: experiment, command, config, seed and start."""
        header = _Header(self.experiment, self.command, self.config, self.seed, self._started)
        return hashlib.sha256(_json(header._asdict())).hexdigest()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer of the run within the block, and remove what a killed writer left half done.

        The lock is the operating system's, on the file `lock`, which names its owner: it ends with the
        process, however that ends. A lock within a lock of the same object has no effect.

        Raises:
          RecordError: another process writes to the run; the message names it.
        """
        if self._is_locked:
            yield
            return
        with open(self.path / "lock", "a+", encoding="utf-8") as file:
            _lock(file, self.path)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}, since {_now()}\n")
            file.flush()
            for leftover in self.path.rglob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False
                file.truncate(0)

    @classmethod
    def create(
        cls, root: PathLike, experiment: str, config: Mapping[str, Any], seed: int, command: str
    ) -> "Run":
        """Create a run folder, `<root>/<experiment>/<UTC time>-<seed>`; `-2` and so on if it exists.

        Args:
          root: the folder of all runs.
          experiment: its name: lower case letters, digits and underscores.
          config: numbers, text, None, and mappings and sequences of these. An enum member becomes
            its name, a path its text, a tuple a list.
          seed: the random seed of the run.
          command: the command line that reproduces the run.

        Raises:
          RecordError: the name has other characters, or the config other values; the message says where.
        """
        now = _now()
        fields = _Header(experiment, command, dict(config), seed, now)._asdict()
        header = _build(_Header, _plain(fields), "a new run")
        path = _make_folder(Path(root, experiment, f"{re.sub('[-:]', '', now)}-{header.seed}"))
        write_atomically(path / "config.json", _json(header._asdict(), indent=2))
        return cls(path, header)

    @classmethod
    def open(cls, path: PathLike) -> "Run":
        """Open a run, to read it or to resume it; nothing is written yet.

        Its clock resumes from the last recorded time, that of a logged line or of the summary. So all
        sessions count, repeated steps included, but not what a killed session did after its last line.

        Raises:
          RecordError: this is not a run folder, or a file in it is damaged; the message names file and line.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise RecordError(
                f"{path} is no run folder, or its run was killed before it began: it has no config.json. "
                "Start a new run."
            )
        header = _build(_Header, read_json(path / "config.json"), path / "config.json")
        run = cls(path, header)
        times = [entry.seconds for entry in run.metrics()]
        if (path / "summary.json").is_file():
            summary = read_json(path / "summary.json")
            times.append(_checked(summary.get("seconds"), float, f"{path}/summary.json: seconds"))
        run._clock_zero -= max(times, default=0.0)
        return run

    @property
    def finished(self) -> bool:
        """Whether the run has a summary."""
        return (self.path / "summary.json").is_file()

    def figures(self) -> dict[str, float]:
        """The final metrics.

        Raises:
          RecordError: the run has not finished.
        """
        path = self.path / "summary.json"
        if not path.is_file():
            raise RecordError(f"{self.path} has no summary.json: the run has not finished.")
        return _checked(read_json(path).get("metrics"), dict[str, float], f"{path}: metrics")

    def sessions(self) -> list[Session]:
        """The sessions that wrote to the run, in order.

        Raises:
          RecordError: `sessions.json` is damaged.
        """
        path = self.path / "sessions.json"
        if not path.is_file():
            return []
        return _checked(read_json(path).get("sessions"), list[Session], f"{path}: sessions")

    def mark_tested(self) -> None:
        """Record that this session reads the test set; must be called before it does."""
        self._write_session(tested=True)

    def _write_session(self, tested: bool = False) -> list[Session]:
        """Add this session to `sessions.json` if it is missing, and return all sessions."""
        sessions = self.sessions()
        if self._session < 0:
            self._session = len(sessions)
            started = (self._session_started, self._commit, device(), versions())
            sessions.append(Session(*started, tested, self.backend, self.together))
        elif tested and not sessions[self._session].tested:
            sessions[self._session] = dataclasses.replace(sessions[self._session], tested=True)
        else:
            return sessions
        fields = {"sessions": [dataclasses.asdict(session) for session in sessions]}
        write_atomically(self.path / "sessions.json", _json(_sealed(fields), indent=2))
        return sessions

    def log(self, step: int, metrics: Mapping[str, SupportsFloat], kind: str = "train") -> None:
        """Append the metrics of a step to `metrics.jsonl`, flushed to survive a kill.

        Metrics are Python numbers, or NumPy or JAX scalars; they become floats.

        Raises:
          RecordError: a metric is not a number.
        """
        fields = {"step": step, "kind": kind, "seconds": self.seconds, "metrics": dict(metrics)}
        entry = _build(Entry, _plain(fields), f"metrics of step {step}")
        if self._session < 0:
            self._write_session()
        with open(self.path / "metrics.jsonl", "ab+") as file:
            file.seek(max(file.tell() - 1, 0))
            if file.read(1) not in (b"", b"\n"):  # a killed session left an incomplete line
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(_json(_sealed(entry._asdict())))
        for sink in tuple(self._sinks):
            try:
                sink(entry)
            except Exception as error:  # a run does not end because something beside it does not work
                self._sinks.remove(sink)
                warnings.warn(f"metrics are no longer sent to {sink!r}: {error!r}", stacklevel=2)

    def add_sink(self, sink: Callable[[Entry], None]) -> None:
        """Also pass every entry that `log` writes to a function; should it fail, a warning says so."""
        self._sinks.append(sink)

    def metrics(self, kind: str | None = None) -> list[Entry]:
        """Read the logged metrics, of one kind or all; an incomplete last line of a killed run is ignored.

        Raises:
          RecordError: the file is damaged; the message names the line.
        """
        path = self.path / "metrics.jsonl"
        *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
        entries = []
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            entries.append(_build(Entry, _parse(line, where), where))
        return [entry for entry in entries if kind in (None, entry.kind)]

    def rewind(self, step: int) -> None:
        """Drop the log entries after a step, and the summary if there is one, to resume from a checkpoint."""
        entries = self.metrics()
        kept = [entry for entry in entries if entry.step <= step]
        if len(kept) < len(entries):
            lines = b"".join(_json(_sealed(entry._asdict())) for entry in kept)
            write_atomically(self.path / "metrics.jsonl", lines)
            (self.path / "summary.json").unlink(missing_ok=True)

    @property
    def seconds(self) -> float:
        """Active time of the run so far, summed over its sessions."""
        return round(time.monotonic() - self._clock_zero, 3)

    def set_clock(self, seconds: float) -> None:
        """Set the active time until now, where the run shares its time with others."""
        self._clock_zero = time.monotonic() - seconds

    def finish(self, metrics: Mapping[str, SupportsFloat]) -> None:
        """Write `summary.json`: the final metrics, and all fields of a `Record` except the label.

        Beside them stands the goodput: the share of the active time that went into training steps that count.
        The commit is the one at the start of the last session.
        """
        metrics = _checked(_plain(dict(metrics)), dict[str, float], "summary: metrics")
        sessions, seconds = self._write_session(), self.seconds
        summary = {
            "experiment": self.experiment,
            "command": self.command,
            "config": self.config,
            "seed": self.seed,
            "metrics": metrics,
            "device": device(),
            "seconds": seconds,
            "goodput": round(self.productive_seconds / max(seconds, 1e-9), 4),
            "commit": self._commit,
            "versions": versions(),
            "tested_before": sum(session.tested for session in sessions) > 1,
            "sessions": [dataclasses.asdict(session) for session in sessions],
            "started": self._started,
            "finished": _now(),
        }
        write_atomically(self.path / "summary.json", _json(_sealed(summary), indent=2))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lock(file: TextIO, path: Path) -> None:
    """Lock an open file until it is closed.

    Raises:
      RecordError: it is locked.
    """
    if fcntl is None:  # Windows has no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        raise RecordError(f"{path} is in use: {owner} writes to it. Wait for it, or end it.") from None


def _make_folder(path: Path) -> Path:
    """Create a folder of this name or, if it exists already, with -2, -3, ... appended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        free = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            free.mkdir()
            break
        except FileExistsError:
            continue
    return free


def keep(run_path: PathLike, label: str, results_root: PathLike, *, replace: bool = False) -> Path:
    """Keep the summary of a finished run as the record of its experiment, label and seed.

    Args:
      run_path: the folder of the run.
      label: name of the configuration: lower case letters, digits and hyphens.
      results_root: the folder of all results.
      replace: whether it may overwrite the record of another run.

    Returns:
      The record's file.

    Raises:
      RecordError: the run has no summary, the label is invalid, or there is another record.
    """
    record = record_of(run_path, label)
    file = Path(results_root) / record.file
    if file.exists():
        if same_run(read_record(file), record):
            return file
        if not replace:
            raise RecordError(f"{file} is the record of another run: choose a label, or replace it")
        record = dataclasses.replace(record, tested_before=True)
    return write_record(results_root, record)


def record_of(run_path: PathLike, label: str) -> Record:
    """The record that a finished run would have; nothing is written.

    Raises:
      RecordError: the run has no summary, or the label is invalid.
    """
    path = Path(run_path, "summary.json")
    if not path.is_file():
        raise RecordError(f"{run_path} has no summary.json: it is no run, or has not finished")
    summary = {**read_json(path), "label": label}
    fields = {
        name: value for name, value in summary.items() if name not in ("started", "finished", "goodput")
    }
    return _build(Record, fields, path)


def same_run(one: Record, other: Record) -> bool:
    """Whether two records are of one run, ignoring the fields on models and earlier test-set reads."""
    plain = (dataclasses.replace(each, tested_before=False, model={}) for each in (one, other))
    first, second = (_json(dataclasses.asdict(each)) for each in plain)
    return first == second


def write_record(results_root: PathLike, record: Record) -> Path:
    """Write a record to its file in the results folder."""
    file = Path(results_root) / record.file
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, _json(dataclasses.asdict(record), indent=2))
    return file


def read_record(path: PathLike) -> Record:
    """Read the record in a file.

    Raises:
      RecordError: the file is not what `keep` writes; the message names the file and the field.
    """
    return _build(Record, read_json(Path(path)), path)


def load_records(results_root: PathLike, experiment: str | None = None) -> list[Record]:
    """Read all records, or those of one experiment, in order of experiment, label and seed.

    Raises:
      RecordError: a file is not what `keep` writes; the message names the file and the field.
    """
    records = []
    for path in Path(results_root).glob(f"{experiment or '*'}/*.json"):
        record = read_record(path)
        if path.relative_to(results_root) != record.file:
            raise RecordError(f"{path}: experiment, label and seed say it should be {record.file}")
        records.append(record)
    return sorted(records, key=lambda record: (record.experiment, record.label, record.seed))


def summarize(records: Iterable[Record]) -> dict[tuple[str, str], Summary]:
    """Group records by (experiment, label) and summarize each group; seeds may have different metrics."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.experiment, record.label), []).append(record)
    summaries = {}
    for group, members in groups.items():
        names = dict.fromkeys(name for member in members for name in member.metrics)
        values = {n: [m.metrics[n] for m in members if n in m.metrics] for n in names}
        metrics = {name: _statistic(numbers) for name, numbers in values.items()}
        summaries[group] = Summary(metrics, sum(m.seconds for m in members) / len(members))
    return summaries


def _statistic(values: list[float]) -> Statistic:
    with np.errstate(all="ignore"):  # a non-finite value makes the statistic non-finite
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return Statistic(float(np.mean(values)), deviation, len(values))


def _plain(value: Any, where: str = "") -> Any:
    """Convert a value to what JSON can represent."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise RecordError(f"{where.lstrip('.')}: {value!r:.80} cannot be kept in JSON")


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(_plain(value), indent=indent, allow_nan=False).encode() + b"\n"


def _sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their checksum."""
    return {**fields, "crc32": zlib.crc32(_json(fields))}


def _parse(text: bytes, where: object) -> dict[str, Any]:
    """Read a JSON object, strictly; a checksum is checked, and left out."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{where} is damaged: it holds no JSON object")
    expected = value.pop("crc32", None)
    if expected is not None and expected != zlib.crc32(_json(value)):
        raise RecordError(f"{where} is damaged: its checksum is not that of its content")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file, strictly.

    Raises:
      RecordError: the file is damaged; the message names the line.
    """
    return _parse(path.read_bytes(), path)


def _build(kind: Callable[..., _T], fields: Mapping[str, Any], where: object) -> _T:
    """Build a `kind` from exactly its fields, each checked against its type."""
    hints = typing.get_type_hints(kind)
    optional = () if not dataclasses.is_dataclass(kind) else _optional(kind)
    for name in {**hints, **fields}:
        if name not in hints or (name not in fields and name not in optional):
            raise RecordError(f"{where}: field {name} is {'missing' if name in hints else 'unknown'}")
    values = {
        name: _checked(fields[name], hints[name], f"{where}: field {name}")
        for name in hints
        if name in fields
    }
    for name, pattern in _NAMES.items():
        if name in values and not re.fullmatch(pattern, values[name]):
            raise RecordError(f"{where}: field {name}, {values[name]!r}, must be {pattern}")
    return kind(**values)


def _optional(kind: Any) -> set[str]:
    """Names of the fields that have defaults."""
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    return {each.name for each in fields if (each.default, each.default_factory) != (missing, missing)}


def _checked(value: Any, hint: Any, where: str) -> Any:
    """Return a value read from JSON as the expected type."""
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        items = typing.get_args(hint)[1]
        return {key: _checked(item, items, f"{where}.{key}") for key, item in value.items()}
    if typing.get_origin(hint) is list and isinstance(value, list):
        (kind,) = typing.get_args(hint)
        return [_checked(item, kind, f"{where}[{number}]") for number, item in enumerate(value)]
    if hint is Session and isinstance(value, dict):
        return _build(Session, value, where)
    if hint is float and value in ("NaN", "Infinity", "-Infinity"):
        value = float(value)
    allowed: Any = {str: str, int: int, bool: bool, float: int | float, Any: object}.get(hint, ())
    if not isinstance(value, allowed) or (isinstance(value, bool) and hint not in (Any, bool)):
        raise RecordError(f"{where}: expected {getattr(hint, '__name__', hint)}, not {value!r}")
    return float(value) if hint is float else value
