"""The environment of a run: the device, the versions of packages, the commit of the code."""

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import jax

from lstmjax.training.checkpoint import PathLike


def device() -> str:
    """Name the device that JAX computes on: `cpu (2 cores, AMD EPYC)`, `gpu (NVIDIA H100)`."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        count = f"{len(devices)} x " if len(devices) > 1 else ""
        return f"{devices[0].platform} ({count}{devices[0].device_kind})"
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    model = named[1] if named else platform.processor() or platform.machine()
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return f"cpu ({cores} core{'s' if cores > 1 else ''}, {model})"


def versions() -> dict[str, str]:
    """Name the versions of Python and of all installed packages that this one can use, rivals included."""
    try:
        required = importlib.metadata.requires("lstmjax") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    names = [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in required if "extra == 'dev'" not in each]
    found = {"python": platform.python_version()}
    for package in dict.fromkeys(("lstmjax", "jax", "jaxlib", "flax", "optax", "numpy", *sorted(names))):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit(source: PathLike = __file__) -> str:
    """Name the git commit that a source file belongs to; the first answer is cached.

    Returns:
      The hash, with `-dirty` if tracked files differ from it or Python files are not tracked at
      all; `unknown` if there is no git, or it does not track the file.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(source).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    try:
        git("ls-files", "--error-unmatch", Path(source).name)
        commit_hash = git("rev-parse", "HEAD").strip()
        changes = git("status", "--porcelain", "--untracked-files=all").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    is_dirty = any(not line.startswith("??") or line.rstrip('"').endswith(".py") for line in changes)
    return f"{commit_hash}-dirty" if is_dirty else commit_hash
