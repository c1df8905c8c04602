"""A cell or layer and its parameters in one file: safetensors, with the cell described as JSON in the header.

The file is a checkpoint (`lstmjax.training.checkpoint`): written atomically, verified by its SHA-256 when
read, and readable by any safetensors reader. It contains no code: the header holds hyperparameters and the
names of this library's kinds of cells.
"""

import dataclasses
import inspect
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import initializers
from lstmjax.cells.cell import Cell
from lstmjax.checks import check_tree
from lstmjax.sequence.layers import Layer
from lstmjax.training import checkpoint
from lstmjax.types import Params


def save(path: checkpoint.PathLike, cell: Cell | Layer, params: Params) -> None:
    """Write a cell or layer of this library and its parameters to one file, for `load`.

    Initializers, such as ``kernel_init``, are stored if they are numbers or those of `lstmjax.initializers`;
    any other is left at its default, since the parameters are already initialized.

    Args:
      path: the file; its folder is made if needed, and an existing file is replaced only when the new one is
        complete.
      cell: any cell or layer that `lstmjax` makes.
      params: its parameters.

    Raises:
      ValueError: the cell, or a cell within it, is not one of this library's, or has an option that cannot be
        stored; or a parameter does not have the shape that the cell makes.
      TypeError: the parameters are not those of the cell.
      OSError: the file could not be written.

    Example:
      >>> import tempfile, lstmjax
      >>> cell = lstmjax.stack(lstmjax.lstm(3, 4), lstmjax.gru(4, 2))
      >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
      >>> save(path, cell, cell.init(jax.random.key(0)))
      >>> again, params = load(path)
      >>> again == cell, params[0].kernel.shape
      (True, (3, 16))
    """
    text = json.dumps(_encode(cell), separators=(",", ":"))
    check_tree("params", params, jax.eval_shape(cell.init, jax.random.key(0)), "cell.init", cell)
    checkpoint.save(path, params, {"cell": text})


def load(path: checkpoint.PathLike) -> tuple[Cell | Layer, Params]:
    """Read the cell or layer and the parameters, bit for bit, that `save` wrote.

    Raises:
      ValueError: the file holds no cell, or one of a kind that this version of the library does not have; as
        a `lstmjax.training.checkpoint.DamagedCheckpointError`, the file is damaged.
      TypeError: parameters of 64 bits need ``jax_enable_x64``; or an option is unknown.
      FileNotFoundError: there is no such file.
    """
    text = checkpoint.metadata(path).get("cell")
    if text is None:
        raise ValueError(
            f"{path} holds no cell, but what lstmjax.training.checkpoint.save wrote: use its restore."
        )
    cell = _decode(json.loads(text), f"{path}")
    return cell, checkpoint.restore(path, jax.eval_shape(cell.init, jax.random.key(0)))


_COMPARABLE = (bool, int, float, np.number, initializers.Initializer)


def _kinds() -> dict[str, type]:
    """Every kind of cell and layer that the library has, by name."""
    kinds: dict[str, type] = {}
    found: list[type] = [Cell, Layer]
    while found:
        kind = found.pop()
        found += kind.__subclasses__()
        if kind.__module__.startswith("lstmjax.") and not inspect.isabstract(kind):
            kinds[kind.__name__] = kind
    return kinds


def _encode(cell: Any) -> dict[str, Any]:
    """The description of a cell as JSON values; options with default values are left out."""
    kind = type(cell).__name__
    if _kinds().get(kind) is not type(cell) or not dataclasses.is_dataclass(cell):
        raise ValueError(
            f"save: {kind} is no cell or layer of lstmjax; save its parameters by "
            "lstmjax.training.checkpoint.save."
        )
    encoded: dict[str, Any] = {"kind": kind}
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        if value is field.default or (isinstance(value, _COMPARABLE) and value == field.default):
            continue
        is_foreign = callable(value) and type(value) not in _initializers().values()
        if is_foreign and (field.name.endswith("_init") or field.name == "forget_bias"):
            continue
        encoded[field.name] = _encode_value(f"{kind}.{field.name}", value)
    return encoded


def _encode_value(where: str, value: Any) -> Any:
    if isinstance(value, Cell | Layer):
        return _encode(value)
    if type(value) in _initializers().values():
        return {"initializer": type(value).__name__, **dataclasses.asdict(value)}
    if isinstance(value, tuple):
        return [_encode_value(where, entry) for entry in value]
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, np.number):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"save: {where} is {value!r}, which no file can hold: only numbers, names and cells.")


def _decode(encoded: Any, path: str) -> Any:
    if isinstance(encoded, list):
        return tuple(_decode(entry, path) for entry in encoded)
    if not isinstance(encoded, dict):
        return encoded
    if "kind" not in encoded:
        if "dtype" in encoded:
            return jnp.dtype(encoded["dtype"])
        name = encoded["initializer"]
        if name in ("lecun_normal", "orthogonal"):  # as earlier versions wrote them
            return getattr(initializers, name)
        if name not in _initializers():
            raise ValueError(f"{path} has the initializer {name}, which this lstmjax does not have.")
        return _initializers()[name](**{field: encoded[field] for field in encoded if field != "initializer"})
    kind = _kinds().get(encoded["kind"])
    if kind is None:
        raise ValueError(
            f"{path} holds a cell of the kind {encoded['kind']}, which this lstmjax does not have."
        )
    options = {name: _decode(value, path) for name, value in encoded.items() if name != "kind"}
    return kind(**options)


def _initializers() -> dict[str, Any]:
    """The kinds of initializers of this library, by name."""
    kinds = initializers.Initializer.__subclasses__()
    return {kind.__name__: kind for kind in kinds if kind.__module__ == initializers.__name__}
