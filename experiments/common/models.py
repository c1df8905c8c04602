"""Models of runs, and kept models: where they are stored, and how they are loaded.

The folder ``model`` of a run contains all files that are needed to use the model: ``config.json``,
``parameters.safetensors``, and files of the experiment, such as vocabularies. `keep` copies it to
``experiments/results/<experiment>/models/<label>`` and writes the SHA-256 of each file into the record, so
that commands work in a fresh clone, and only on the files that were recorded.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import tyro

from experiments.common.command_line import RunConfig, from_mapping, open_run
from lstmjax.nnx import Functional
from lstmjax.training import checkpoint
from lstmjax.training.environment import commit, device, versions
from lstmjax.training.record import Record, RecordError, Session, load_records, read_json, write_record
from lstmjax.types import Key, Params

RESULTS = Path(__file__).parent.parent / "results"
"""The folder of all records."""

PARAMETERS = "parameters.safetensors"

SEAL = "sha256.json"
"""In the folder of a run's model: the SHA-256 of each of its other files."""

LARGEST = 3 * 2**20
"""Maximum bytes of a kept model in its own dtype; a larger one is kept in bfloat16."""

Config = TypeVar("Config", bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class Source:
    """The model that a command uses."""

    run: Path | None = None
    """Folder of a finished run, whose model is used."""
    model: str | None = None
    """Label of a kept model; `python -m experiments models` lists them."""

    def folder(self, experiment: str, default: str) -> Path:
        """The folder of the model.

        Raises:
          RecordError: there is none, both are given, or a kept file is not what was recorded.
        """
        if self.run is not None and self.model is not None:
            raise RecordError("give --run or --model, not both.")
        if self.run is not None:
            return of_run(self.run, experiment)
        return kept(experiment, self.model or default)


Chosen = Annotated[Source, tyro.conf.OmitArgPrefixes]
"""The flags ``--run`` and ``--model`` of a command."""


def folder_in(run: Path) -> Path:
    """The folder of a run's model, created if necessary."""
    folder = run / "model"
    folder.mkdir(exist_ok=True)
    return folder


def seal(run: Path) -> None:
    """Write the checksums of the files of a run's model, if it has one, for `of_run` to compare."""
    folder = run / "model"
    if folder.is_dir():
        files = [file for file in sorted(folder.iterdir()) if file.name != SEAL]
        sums = {file.name: _digest(file) for file in files}
        checkpoint.write_atomically(folder / SEAL, json.dumps(sums, indent=2).encode())


def of_run(run: Path, experiment: str) -> Path:
    """The folder of the model of a finished run, after each file is verified.

    Raises:
      RecordError: there is no such run of the experiment, it has no model, or a file is missing or damaged.
    """
    open_run(run, experiment)
    folder = run / "model"
    if not (folder / PARAMETERS).is_file():
        raise RecordError(f"{run} has no {PARAMETERS}: it has not finished, or trains no model.")
    if (folder / SEAL).exists():  # runs from before it was introduced have none
        _verify(folder, read_json(folder / SEAL), "train it again, or take a copy")
    return folder


def kept(experiment: str, label: str) -> Path:
    """The folder of a kept model, after each file is verified against its record.

    Raises:
      RecordError: there is no model of this label, or a file is missing or damaged.
    """
    records = {record.label: record for record in load_records(RESULTS, experiment) if record.model}
    if label not in records:
        known = ", ".join(sorted(records)) or "none"
        raise RecordError(f"no model of {experiment} is kept under the label {label}; there are {known}.")
    folder = RESULTS / experiment / "models" / label
    _verify(folder, records[label].model["sha256"], "restore it from the repository")
    return folder


def _verify(folder: Path, sums: Mapping[str, str], hint: str) -> None:
    """Raise RecordError unless the files of a folder have these checksums."""
    for name, digest in sums.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise RecordError(f"{folder / name} is missing or damaged: {hint}.")


def config_of(folder: Path, kind: type[Config]) -> Config:
    """The config of the run that trained a model; fields that were added later have their defaults.

    Raises:
      ConfigError: it has unknown fields.
    """
    return from_mapping(kind, read_json(folder / "config.json")["config"], allow_missing=True)


class Saved(NamedTuple, Generic[Config]):
    """A saved model."""

    config: Config
    model: Functional
    params: Params


def load(folder: Path, kind: type[Config], make: Callable[[Config], Functional]) -> Saved[Config]:
    """Load a model, from a folder that `Source` gives; ``make`` makes that of a config."""
    config = config_of(folder, kind)
    model = make(config)
    return Saved(config, model, load_params(folder, model.init))


def save_first(params: Params, run: Path) -> None:
    """Keep only the first of several networks as the model of a run."""
    save_params(folder_in(run), jax.tree.map(lambda leaf: leaf[0], params))


def save_params(folder: Path, params: Params) -> None:
    """Write the parameters of a model."""
    checkpoint.save(folder / PARAMETERS, params)


def load_params(folder: Path, init: Callable[[Key], Params]) -> Params:
    """Load the parameters of a model, in the dtypes of ``init``, whatever their dtype in the file."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    dtype = checkpoint.metadata(folder / PARAMETERS).get("dtype")
    like = shapes if dtype is None else jax.tree.map(lambda leaf: _as(leaf, dtype), shapes)
    params = checkpoint.restore(folder / PARAMETERS, like)
    return jax.tree.map(lambda leaf, shape: jnp.asarray(leaf, shape.dtype), params, shapes)


def _as(leaf: Any, dtype: str) -> Any:
    is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype)) if is_float else leaf


def keep(run: Path, record: Record) -> Record:
    """Keep the model of a run with its record, in bfloat16 if it is large; returns the updated record.

    Raises:
      RecordError: the run has no model.
    """
    source = of_run(run, record.experiment)
    folder = RESULTS / record.experiment / "models" / record.label
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(SEAL))
    dtype = "float32"
    if sum(file.stat().st_size for file in folder.iterdir()) > LARGEST:
        dtype = "bfloat16"
        checkpoint.recast(source / PARAMETERS, folder / PARAMETERS, dtype)
    files = sorted(folder.iterdir())
    about = {
        "dtype": dtype,
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": {file.name: _digest(file) for file in files},
    }
    for other in load_records(RESULTS, record.experiment):  # a label keeps one model, of one seed
        if other.label == record.label and other.model:
            write_record(RESULTS, dataclasses.replace(other, model={}))
    record = dataclasses.replace(record, model=about)
    write_record(RESULTS, record)
    return record


def add_metrics(folder: Path, experiment: str, found: Mapping[str, float], tolerance: float) -> Path:
    """Add metrics that were computed from a kept model to its record, with this session.

    Args:
      folder: the folder of the kept model.
      experiment: its experiment.
      found: the metrics, those that the record has already included.
      tolerance: the most that the latter may differ.

    Returns:
      The record's file.

    Raises:
      RecordError: no record keeps this model, or a metric is not as recorded.
    """
    kept = [each for each in load_records(RESULTS, experiment) if each.model and each.label == folder.name]
    if not kept or folder != RESULTS / experiment / "models" / folder.name:
        raise RecordError(f"{folder} is no kept model: only these have a record to add metrics to.")
    (record,) = kept
    for name, value in found.items():
        if abs(value - record.metrics.get(name, value)) > tolerance:
            raise RecordError(
                f"{name} is {value:.3f}, and not {record.metrics[name]:.3f} as in {record.file}."
            )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    sessions = [*record.sessions, Session(now, commit(), device(), versions(), tested=True)]
    metrics = {**record.metrics, **{name: found[name] for name in found if name not in record.metrics}}
    updated = dataclasses.replace(record, metrics=metrics, sessions=sessions, tested_before=True)
    return write_record(RESULTS, updated)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
