"""One run on several hosts: the processes of `jax.distributed`, which all do the same steps.

Each process has the whole program, and its devices have their rows of each batch (`parallel`). The first one
writes the run and prints; the others write to a folder of their own, which is removed.
"""

import atexit
import functools
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.config import ConfigError
from lstmjax.training.record import Run

HEARTBEAT_SECONDS = 20
"""Time without a sign of life after which a process counts as dead, and the others end."""

AGREE_EVERY = 10
"""Steps after which processes tell each other of signals."""


def initialize(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Connect the processes of a run; to be called before JAX is used, by all of them.

    Args:
      coordinator: ``host:port`` of the first process, which listens there and on no other interface.
      processes: how many there are.
      process: the number of this one, from 0. What is None is read off the environment of SLURM, Open MPI or
        Kubernetes (`jax.distributed.initialize`).

    Raises:
      ConfigError: some of the three are missing, or there is no connection.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            coordinator_bind_address=coordinator if process == 0 else None,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--distributed: the processes could not be connected ({' '.join(str(error).split())[:300]}). "
            "Give --coordinator HOST:PORT, --processes N and --process I, the same but for I everywhere."
        ) from error


def is_first() -> bool:
    """Whether this process writes the run."""
    return jax.process_index() == 0


def count() -> int:
    """The number of processes; 1 where nothing is distributed."""
    return jax.process_count()


def end_if_lost(error: Exception) -> None:
    """End this process if an error is of communication, since JAX would wait for the process that is lost."""
    if count() > 1 and re.match(r"[A-Z_]+: ", str(error)):  # the name of a status of XLA
        reason = " ".join(str(error).split())[:200]
        print(f"another process of the run has ended: {reason}", file=sys.stderr)
        print("End the others, and start all again with --resume.", file=sys.stderr, flush=True)
        os._exit(1)


def own_rows(batch_size: int) -> slice:
    """The rows of a batch that this process needs: those of its devices, if rows divide evenly, else all."""
    devices = jax.devices()
    if count() == 1 or batch_size % len(devices):
        return slice(None)
    own = [number for number, device in enumerate(devices) if device.process_index == jax.process_index()]
    rows = batch_size // len(devices)
    return slice(min(own) * rows, (max(own) + 1) * rows)


def largest(number: int) -> int:
    """The largest number that any process gives; all must call it."""
    if count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def run_of_first(run: Run | None) -> Run:
    """The run of the first process; all must call it.

    Args:
      run: of the first process, where it is new or goes on; of the others, None.

    Returns:
      The run itself; for the others, one in a folder of their own, with its config and its newest checkpoint.
    """
    files: dict[str, bytes] = {}
    if run is not None:
        latest = Checkpoints(run.path / "checkpoints", run=run.identity).latest()
        names = ["config.json", *([] if latest is None else [f"checkpoints/step-{latest:08d}.safetensors"])]
        names += ["summary.json"] if run.finished else []
        files = {name: (run.path / name).read_bytes() for name in names}
    names = json.loads(_of_first(json.dumps(list(files)).encode()))
    contents = [_of_first(files.get(name, b"")) for name in names]
    if run is not None:
        return run
    folder = Path(tempfile.mkdtemp(prefix="lstmjax-"))
    atexit.register(functools.partial(shutil.rmtree, folder, ignore_errors=True))
    for name, content in zip(names, contents, strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return Run.open(folder)


def _of_first(content: bytes) -> bytes:
    """The bytes that the first process gives."""
    own = np.frombuffer(content, np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(own))))
    padded = np.zeros(size, np.uint8)
    padded[: len(own)] = own[:size]
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes()


def gathered(tree: Any) -> Any:
    """Arrays of the mesh as arrays of the host, whole, if there are several processes; all must call it."""
    if count() == 1:
        return tree

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(one, tree)
