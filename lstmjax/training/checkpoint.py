"""Checkpoints: one safetensors file each, written atomically and verified when read.

A file holds the leaves of a pytree under their paths (`jax.tree_util.keystr`), so any reader of
safetensors can open it. Its one metadata entry, `lstmjax`, is a JSON text that begins with the
SHA-256 of the whole file (the 64 characters of the digest itself counted as zeros), followed by the
type of each leaf. Equal trees with equal metadata give equal files.
"""

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

PathLike: TypeAlias = str | os.PathLike[str]

_FORMAT = 1
_NO_DIGEST = b"0" * 64
# A file is 8 bytes of header length, the header, the data; the digest comes first in the header.
_BEFORE_DIGEST = b'{"__metadata__":{"lstmjax":"{\\"sha256\\":\\"'
_DIGEST = slice(8 + len(_BEFORE_DIGEST), 8 + len(_BEFORE_DIGEST) + len(_NO_DIGEST))

# Every release of safetensors can name these dtypes; values of any other are stored as bytes.
_NATIVE_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
)
_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
_SCALARS = (bool, int, float, complex)


class CheckpointError(ValueError):
    """A tree that cannot be saved, or a file that does not match the requested tree."""


class DamagedCheckpointError(CheckpointError):
    """A file that differs from what `save` wrote."""


def save(path: PathLike, tree: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write a pytree to one file, atomically: after a failure the file has its previous content.

    Args:
      path: the file; its folder is created if necessary.
      tree: a pytree of JAX arrays, NumPy arrays and scalars of any numeric or boolean dtype and any
        shape, typed PRNG keys, and Python `bool`, `int` (of 64 bits), `float` and `complex`. Each
        must be fully addressable from this process; of several processes, one should save.
      metadata: text to store with the tree.

    Raises:
      CheckpointError: a leaf has another type; the message names it.
      OSError: the file could not be written; an older one is still there.

    Example:
      >>> import tempfile
      >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
      >>> save(path, {"kernel": jnp.ones((2, 3), jnp.float32), "step": 7}, {"epoch": "1"})
      >>> restore(path, {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32), "step": 0})["step"]
      7
    """
    encoded = {name: _encode(name, leaf) for name, leaf in _named_leaves(tree).items()}
    _write(path, encoded, metadata or {})


def recast(source: PathLike, path: PathLike, dtype: str) -> None:
    """Write a copy of a file with its floating-point arrays in another dtype, which the metadata names.

    Raises:
      DamagedCheckpointError: the file is not as it was written.
    """
    text, leaves = _read(source)
    encoded = {}
    for name, (leaf, values) in leaves.items():
        is_array = not leaf.type.startswith("Python") and jnp.issubdtype(values.dtype, jnp.floating)
        encoded[name] = _encode(name, values.astype(jnp.dtype(dtype))) if is_array else (leaf, values)
    _write(path, encoded, {**text, "dtype": dtype})


def _write(path: PathLike, encoded: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    tensors = {name: values for name, (_, values) in encoded.items()}
    leaves = {name: leaf._asdict() for name, (leaf, _) in encoded.items()}
    text = dict(sorted(metadata.items()))
    entry = {"sha256": _NO_DIGEST.decode(), "format": _FORMAT, "leaves": leaves, "metadata": text}
    entry_text = json.dumps(entry, separators=(",", ":"))
    data = bytearray(safetensors.numpy.save(tensors, {"lstmjax": entry_text}))
    if data[_DIGEST] != _NO_DIGEST:
        raise RuntimeError(f"safetensors {safetensors.__version__} lays its header out otherwise")
    data[_DIGEST] = hashlib.sha256(data).hexdigest().encode()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def restore(path: PathLike, like: Any) -> Any:
    """Read what `save` wrote, bit for bit, into a pytree of the structure of `like`.

    Args:
      path: the file.
      like: a pytree with the leaves that were saved; their values do not matter. A leaf that is a NumPy
        array, a NumPy scalar or a Python scalar is restored as the same type. A leaf that is a JAX
        array, a typed key or a `jax.ShapeDtypeStruct` is restored as a JAX array or key, with the
        sharding of that leaf if it has one and is committed to it, else on the default device; its
        weak type is the file's.

    Raises:
      CheckpointError: leaves, shapes or dtypes differ; the message names each.
      DamagedCheckpointError: the file is not as it was written.
      FileNotFoundError: there is no such file.
    """
    leaves = _read(path)[1]
    targets = _named_leaves(like)
    # Files of earlier versions have `params` where modules of lstmjax.nnx now have `weights`.
    now = {name: name.replace("['params']", "['weights']") for name in leaves.keys() - targets.keys()}
    leaves = {now[name] if now.get(name) in targets else name: leaf for name, leaf in leaves.items()}
    expected = {name: _type(leaf) for name, leaf in targets.items()}
    stored = {name: leaf.type for name, (leaf, _) in leaves.items()}
    none = "no such leaf"
    differences = [
        f"leaf {name}: the file has {stored.get(name, none)}, expected {expected.get(name, none)}"
        for name in expected | stored
        if expected.get(name) != stored.get(name)
    ]
    if differences:
        raise CheckpointError("\n  ".join([f"{path} does not fit:", *differences]))
    placed = [_place(name, *leaves[name], target) for name, target in targets.items()]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def metadata(path: PathLike) -> dict[str, str]:
    """Return the text stored with a tree; verifies the file and raises as `restore` does."""
    return _read(path)[0]


def write_atomically(path: PathLike, data: bytes | bytearray) -> None:
    """Replace a file in one step, which is safe against a crash, a kill or a full disk.

    Raises:
      OSError: it could not be written. The old file is still complete; or, if only the last step
        failed, flushing the folder to disk, the new file is complete.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # which a full disk does not name
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Checkpoints:
    """The `keep` newest checkpoints, `step-00001234.safetensors`, in a folder with one writer.

    Example:
      >>> import tempfile
      >>> checkpoints = Checkpoints(tempfile.mkdtemp(), keep=2)
      >>> for step in (10, 20, 30):
      ...     checkpoints.save(step, {"loss": step / 2})
      >>> checkpoints.steps()
      [20, 30]
      >>> checkpoints.restore_latest(like={"loss": 0.0})
      (30, {'loss': 15.0})
    """

    def __init__(self, folder: PathLike, keep: int = 3, run: str = "") -> None:
        """Open the checkpoints of a folder.

        Args:
          folder: the folder.
          keep: number of checkpoints kept.
          run: text that identifies the run and its config; files with another are not read.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self.run = run

    def path(self, step: int) -> Path:
        """Return the file of a step, whether or not it exists."""
        return self.folder / f"step-{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """Return the steps that have a file, damaged ones too, in ascending order."""
        names = [file.name for file in self.folder.glob("step-*.safetensors")]
        matches = [re.fullmatch(r"step-(\d{8,})\.safetensors", name) for name in names]
        return sorted(int(match[1]) for match in matches if match)

    def save(self, step: int, tree: Any, metadata: Mapping[str, str] | None = None) -> None:
        """Save as `save` does, then remove the oldest checkpoints and the leftovers of killed saves.

        Checkpoints of later steps are kept and not counted; `rewind` removes them. What lies in the place of
        the file and is none, such as a folder, is set aside.
        """
        path = self.path(step)
        if path.is_dir():
            path.rename(path.with_name(f"{path.name}.set-aside"))
        save(path, tree, {**(metadata or {}), "run": self.run})
        earlier = [self.path(other) for other in self.steps() if other <= step]
        for file in [*earlier[: -self.keep], *self.folder.glob(".step-*.safetensors.*.tmp")]:
            _remove(file)

    def rewind(self, step: int) -> None:
        """Remove the checkpoints after a step, before training diverges from them."""
        for later in [other for other in self.steps() if other > step]:
            _remove(self.path(later))

    def latest(self) -> int | None:
        """Return the newest step with an intact file of this run, or None if there is no file at all.

        Warns of each newer file that is not; raises a CheckpointError if none is.
        """
        reasons: list[str] = []
        for step in reversed(self.steps()):
            reason = self._fault(self.path(step))
            if reason is None:
                for each in reasons:
                    warnings.warn(f"{each}. Going back to the one of step {step}.", stacklevel=2)
                return step
            reasons.append(reason)
        if reasons:
            raise CheckpointError(
                "\n  ".join([f"no checkpoint in {self.folder} can be resumed from:", *reasons])
            )
        return None

    def _fault(self, path: Path) -> str | None:
        """Why a file is no checkpoint of this run; None if it is one."""
        if not path.is_file():  # a FIFO would be waited for
            return f"{path} is no regular file"
        try:
            found = metadata(path).get("run")
        except (DamagedCheckpointError, OSError) as error:
            return str(error)
        return None if found == self.run else f"{path} is of another run, or of another config of this one"

    def restore_latest(self, like: Any) -> tuple[int, Any] | None:
        """Return `latest()` and its tree, as `restore` gives it; or None if there is no file."""
        step = self.latest()
        return None if step is None else (step, restore(self.path(step), like))


def _remove(path: Path) -> None:
    if not path.is_dir():  # a folder is not ours
        path.unlink(missing_ok=True)


class _Leaf(NamedTuple):
    """The description of a leaf in a file: its type, as messages name it, and how to read its bytes."""

    type: str
    dtype: str
    shape: tuple[int, ...]
    weak_type: bool
    key_implementation: str


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Map paths to leaves, in order; None and empty containers are structure, not leaves."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path) or "root"
        if name in named:
            raise CheckpointError(f"two leaves of the tree have the path {name}")
        named[name] = leaf
    return named


def _type(leaf: Any) -> str:
    """Name the type of a leaf: `float32[3,4]`, `key<fry>[]`, `Python int`."""
    if isinstance(leaf, _ARRAYS):
        return f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]"
    return f"Python {type(leaf).__name__}"


def _encode(name: str, leaf: Any) -> tuple[_Leaf, np.ndarray]:
    """Describe a leaf, and return its values in a dtype that safetensors can name."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    key_implementation = str(jax.random.key_impl(leaf)) if is_key else ""
    try:
        values = np.asarray(jax.random.key_data(leaf) if is_key else leaf, order="C")
        is_number = jnp.issubdtype(values.dtype, np.number) or values.dtype == np.bool_
        if not (is_number and (isinstance(leaf, _ARRAYS) or type(leaf) in _SCALARS)):
            raise TypeError("only numbers (integers of 64 bits), booleans and PRNG keys can")
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"leaf {name}, {_type(leaf)}, cannot be saved: {error}") from error
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    weak = bool(getattr(leaf, "weak_type", False))
    described = _Leaf(_type(leaf), values.dtype.name, values.shape, weak, key_implementation)
    if values.dtype.name not in _NATIVE_DTYPES:
        raw = np.frombuffer(values.tobytes(), np.uint8)
        values = raw.reshape(*values.shape, values.dtype.itemsize)
    return described, values


def _read(path: PathLike) -> tuple[dict[str, str], dict[str, tuple[_Leaf, np.ndarray]]]:
    """Read a file, verify it, and return its metadata and its leaves."""
    data = Path(path).read_bytes()
    blank = data[: _DIGEST.start] + _NO_DIGEST + data[_DIGEST.stop :]
    if hashlib.sha256(blank).hexdigest().encode() != data[_DIGEST]:
        raise DamagedCheckpointError(
            f"{path} is damaged or is no checkpoint of lstmjax (its {len(data)} bytes "
            "do not have the SHA-256 they state): use an older checkpoint or a copy of this one"
        )
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    entry = json.loads(header["__metadata__"]["lstmjax"])
    if entry["format"] != _FORMAT:
        raise CheckpointError(f"{path} has format {entry['format']}, this lstmjax reads {_FORMAT}")
    leaves = {}
    for name, tensor in safetensors.deserialize(data):
        leaf = _Leaf(**entry["leaves"][name])
        values = np.frombuffer(tensor["data"], jnp.dtype(leaf.dtype)).reshape(leaf.shape)
        leaves[name] = leaf, values
    return entry["metadata"], leaves


def _place(name: str, leaf: _Leaf, values: np.ndarray, like: Any) -> Any:
    """Convert stored values to the type of the leaf of `like`, on that leaf's devices."""
    if type(like) in _SCALARS:
        return values.item()
    if isinstance(like, np.ndarray | np.generic):
        return values if isinstance(like, np.ndarray) else values[()]
    array = jax.device_put(values)
    if leaf.weak_type:  # Only Python scalars make arrays of weak type.
        array = jnp.full(values.shape, values.dtype.type(0).item()).at[...].set(array)
    if array.dtype != values.dtype:
        raise CheckpointError(
            f"leaf {name} is {leaf.type}, which JAX makes {array.dtype} here: set jax_enable_x64 "
            "as it was when the checkpoint was saved"
        )
    if leaf.key_implementation:
        array = jax.random.wrap_key_data(array, impl=leaf.key_implementation)
    # An array not committed to a device can be combined with arrays on any device; it must stay so.
    is_committed = getattr(like, "committed", True) and like.sharding is not None
    if is_committed and not like.sharding.is_fully_addressable:  # over several processes
        return jax.make_array_from_callback(values.shape, like.sharding, values.__getitem__)
    return jax.device_put(array, like.sharding) if is_committed else array
