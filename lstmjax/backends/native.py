"""The recurrence of a cell in C++ for CPUs: compiled for this machine on first use, then cached.

``native.cc`` describes what it does and why. It is compiled with the installed C++ compiler (``$CXX``, else
c++, g++ or clang++; about ten seconds) into the user's cache, under a name that changes with the source, the
compiler, the processor and jaxlib. What is cached is loaded only if its checksum fits and nobody else could
have written it, and else compiled anew; without a cache each process compiles for itself. If it cannot be
compiled, `load` returns the reason and cells run without it. ``LSTMJAX_NATIVE=0`` turns it off.
"""

import ctypes
import functools
import hashlib
import itertools
import logging
import math
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from lstmjax.backends import codegen
from lstmjax.backends.primitives import Kernels, primitives, run_avals, run_keeping_avals, transposed_avals
from lstmjax.backends.recurrence import counts, leaves_before
from lstmjax.backends.scan import Masks
from lstmjax.cells.elementwise import StagedCell
from lstmjax.sharding import vary_alike

VARIABLE = "LSTMJAX_NATIVE"
SOURCE = Path(__file__).with_name("native.cc")
HEADER = Path(__file__).with_name("vectors.h")
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-w")
DTYPES = ("float32", "float64")
TINY = 64
"""Rows times hidden units squared of a model: up to this, XLA runs many such models faster."""

_log = logging.getLogger(__name__)


class NativeError(RuntimeError):
    """Native code is not available on this machine; the message gives the reason."""


@functools.cache
def load() -> str | None:
    """Compile the library if needed, load it, and register it with XLA.

    Returns:
      None, or the reason why native code is not available. The result is cached for the process.
    """
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE}=0 turns it off"
    try:
        handler = jax.ffi.pycapsule(_library().cell)
    except Exception as error:  # whatever is wrong with it, programs run without it
        _log.warning("LSTMs run without native code, which is slower: %s", error)
        return str(error)
    jax.ffi.register_ffi_target("lstmjax_cell", handler, platform="cpu")
    return None


def load_cell(cell: StagedCell) -> str | None:
    """Compile the functions of a cell if needed, and load them.

    Returns:
      None, or the reason why there is no native code for the cell.
    """
    if cell.dtype != cell.param_dtype or str(cell.dtype) not in DTYPES:
        return f"native code is for {' and '.join(DTYPES)} throughout"
    try:
        return load() or _load_functions(codegen.source_of(cell), len(cell.stages))
    except codegen.UnsupportedError as error:
        return str(error)


@functools.cache
def _load_functions(source: codegen.Source, stages: int) -> str | None:
    """Compile, load and register functions of units of stages; the reason, if that is not possible."""
    try:
        library = _load_library(source.name, source.text)
        for stage in range(stages):
            functions = [getattr(library, f"{name}{stage}") for name in ("forward", "keeping", "backward")]
            _library().register_functions(source.name.encode(), stage, *functions)
    except Exception as error:  # as above
        _log.warning("a cell runs without native code, which is slower: %s", error)
        return str(error)
    return None


def folder() -> Path:
    """The cache of libraries: ``$XDG_CACHE_HOME/lstmjax/native``, else ``~/.cache/lstmjax/native``.

    Raises:
      RuntimeError: the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lstmjax" / "native"


@functools.cache
def _library() -> ctypes.CDLL:
    """The library of the loop, for which all functions of cells are registered."""
    return _load_library()


def _load_library(stem: str = "lstm", text: str = "") -> ctypes.CDLL:
    """A library from the cache if it is sound there, else compiled and, if that is possible, cached.

    Args:
      stem: the beginning of its name.
      text: its program; by default that of `SOURCE`.
    """
    compiler = _compiler()
    identity = (_output([*compiler, "--version"]), *compiler[1:], _processor(), jaxlib.__version__, *FLAGS)
    text = text or SOURCE.read_text("utf-8")
    digest = hashlib.sha256("\0".join((text, HEADER.read_text("utf-8"), *identity)).encode()).hexdigest()
    name = f"{stem}-{digest[:16]}.so"
    cached: Path | None = None
    try:
        cached = folder() / name
        fault = _fault(cached)
    except RuntimeError as error:
        fault = str(error)
    if cached is not None and not fault:
        return ctypes.CDLL(str(cached))
    _log.info("compiling %s for this processor, once (%s)", stem, fault)
    with tempfile.TemporaryDirectory(prefix="lstmjax-") as scratch:  # only the user may read it
        source, built = Path(scratch) / f"{stem}.cc", Path(scratch) / name
        source.write_text(text, "utf-8")
        folders = ("-isystem", jax.ffi.include_dir(), "-iquote", str(HEADER.parent))
        _output([*compiler, *FLAGS, *folders, str(source), "-o", str(built)])
        if cached is not None:
            try:
                _keep(built.read_bytes(), cached)
            except OSError as error:
                _log.warning("native code cannot be cached, each process compiles it: %s", error)
        return ctypes.CDLL(str(built))


def _fault(path: Path) -> str:
    """Why a cached library must not be loaded: others could have written it, or it is damaged."""
    try:
        for each in (path.parent, path, _checksum(path)):
            status = os.lstat(each)
            kind = stat.S_ISDIR if each == path.parent else stat.S_ISREG
            if not kind(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"{each} is a link, or may be written by others"
            if hasattr(os, "getuid") and status.st_uid not in (0, os.getuid()):
                return f"{each} belongs to another user"
        if hashlib.sha256(path.read_bytes()).hexdigest() != _checksum(path).read_text("ascii"):
            return f"{path} is damaged"
    except FileNotFoundError:
        return "it is not cached yet"
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _keep(library: bytes, path: Path) -> None:
    """Write a library and its checksum into the cache, so that a file has its old or its new content.

    Raises:
      OSError: it cannot be written, or others may write there too.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path.parent} may be written by others: chmod go-w")
    for to, content in ((path, library), (_checksum(path), hashlib.sha256(library).hexdigest().encode())):
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:  # readable by the user only
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, to)
            except BaseException:
                os.unlink(file.name)
                raise


def _compiler() -> list[str]:
    """The compiler and its own arguments: ``$CXX`` may be a path, or words such as ``ccache g++ -m64``."""
    wanted = os.environ.get("CXX", "").strip()
    if not wanted:
        found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
        if found is None:
            raise NativeError("there is no C++ compiler: install g++.")
        return [found]
    try:
        name, *arguments = [wanted] if shutil.which(wanted) else shlex.split(wanted)
    except ValueError as error:
        raise NativeError(f"$CXX={wanted!r} names no compiler: {error}.") from error
    found = shutil.which(name)
    if found is None:
        raise NativeError(f"there is no C++ compiler {name!r} ($CXX).")
    return [found, *arguments]


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _output(command: list[str]) -> str:
    """What a command prints; in English where it can, and readable whatever its encoding."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            check=False,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise NativeError(f"{command[0]} failed: {lines[0] if lines else f'status {done.returncode}'}")
    return done.stdout


def _foreign(
    avals: Callable[..., Any], backward: bool, in_place: Callable[[StagedCell], dict[int, int]] | None = None
) -> Callable[..., Any]:
    """A function of operands and masks that calls native code.

    Args:
      avals: maps the abstract operands to the abstract results.
      backward: whether it is the backward pass.
      in_place: of a cell, from operands to the results that take their place in memory.
    """
    weights = 3 - backward

    def call(*operands: jax.Array, masks: Masks, cell: StagedCell, **flags: bool) -> Any:
        first = weights * len(cell.stages)  # of the operands with rows
        models, rows = operands[first].shape[:2]
        if (models > 1 and rows * cell.hidden**2 <= TINY) or load_cell(cell) is not None:
            return NotImplemented
        none = vary_alike(jnp.zeros((0, 0, 0), bool), like=operands)
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands]
        results = avals(*shapes, masked=(False, False), cell=cell, **flags)
        places = in_place(cell) if in_place else {}
        # As matrices, since that is what products are: XLA would copy what is reshaped and then replaced.
        foreign = jax.ffi.ffi_call(
            "lstmjax_cell",
            [x.update(shape=_flat(x)) if i in places.values() else x for i, x in enumerate(results)],
            vmap_method="sequential",
            input_output_aliases=places,
        )
        found = foreign(
            *(x.reshape(_flat(x)) if i in places else x for i, x in enumerate(operands)),
            *(none if mask is None else mask for mask in masks),
            functions=codegen.source_of(cell).name,
            leaves=np.array([len(leaves) for leaves in leaves_before(cell)], np.int64),
            inputs=np.array([stage.structure.inputs for stage in cell.stages], np.int64),
            reverse=flags["reverse"],
            backward=backward,
        )
        return [x.reshape(result.shape) for x, result in zip(found, results, strict=True)]

    return call


def _flat(array: Any) -> tuple[int, int]:
    """The shape with all axes but the last joined."""
    return math.prod(array.shape[:-1]), array.shape[-1]


def _projected_to_totals(cell: StagedCell) -> dict[int, int]:
    """Pre-activations take the place of the projected inputs."""
    stages, state, kept, _ = counts(cell)
    return _in_place(cell, range(3 * stages, 4 * stages), _starts(2 * state, kept))


def _totals_to_gradients(cell: StagedCell) -> dict[int, int]:
    """Gradients of pre-activations take their place."""
    stages, _, kept, terms = counts(cell)
    return _in_place(cell, _starts(2 * stages, kept), _starts(0, terms))


def _starts(first: int, sizes: Iterable[int]) -> Iterable[int]:
    """The places where consecutive groups of arrays of these sizes begin."""
    return itertools.accumulate(sizes, initial=first)


def _in_place(cell: StagedCell, operands: Iterable[int], results: Iterable[int]) -> dict[int, int]:
    """Of each stage, an operand and a result of the same columns, which are computed unit by unit."""
    each = zip(cell.stages, operands, results, strict=False)
    return {operand: result for stage, operand, result in each if stage.structure.summed}


NATIVE = primitives(
    "native",
    Kernels(
        run=_foreign(run_avals, backward=False),
        run_keeping=_foreign(run_keeping_avals, backward=False, in_place=_projected_to_totals),
        transposed=_foreign(transposed_avals, backward=True, in_place=_totals_to_gradients),
    ),
    platform="cpu",
)
"""The recurrence in C++ on CPU, once `load_cell` has returned None for the cell."""
