"""Cells and layers put together from single cells, and taken apart; models of an ensemble likewise."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell, check_params
from lstmjax.convert.formats import Entry, Format, convertible, kinds
from lstmjax.sequence.bidirectional import Bidirectional, Directions
from lstmjax.sequence.layers import Layer, Layers, layers
from lstmjax.types import Params
from lstmjax.wrappers.dropout import Dropout, HiddenDropout
from lstmjax.wrappers.gradient_clipping import ClipGradient, TruncateGradient
from lstmjax.wrappers.per_step_dropout import RecurrentDropout
from lstmjax.wrappers.stack import Stack, stack

Converted: TypeAlias = tuple[Cell | Layer, Params]
"""A cell or layer, and its parameters."""

FOR_TRAINING = (Dropout, HiddenDropout, RecurrentDropout, ClipGradient, TruncateGradient)
"""Wrappers that compute what their cell does, noise and gradient aside, with its parameters."""


def build(directions: Sequence[Sequence[Entry]]) -> Converted:
    """A cell or layer from cells, lowest layer first, each with one direction or two: forward, backward."""
    parts: list[Converted] = []
    for entries in directions:
        if len(entries) == 1:
            parts.append(entries[0])
        else:
            (forward, forward_params), (backward, backward_params) = entries
            pair = Bidirectional(forward, backward), Directions(forward_params, backward_params)
            parts.append(pair)
    return pile(parts)


def pile(parts: Sequence[Converted]) -> Converted:
    """Stack parts: one part is returned as is, several cells become a stack, other parts become layers."""
    if len(parts) == 1:
        return parts[0]
    cells = [part for part, _ in parts if isinstance(part, Cell)]
    whole = stack(*cells) if len(cells) == len(parts) else layers(*(part for part, _ in parts))
    return whole, tuple(params for _, params in parts)


def take_apart(name: str, form: Format, layer: Cell | Layer, params: Params) -> list[tuple[Entry, ...]]:
    """The inverse of `build`: for each layer, the cell of each direction with its parameters.

    Wrappers that only train differently (`FOR_TRAINING`) are left out, and so is the noise of parameters.

    Raises:
      ValueError: the layer contains something that the format does not support, or a parameter has another
        shape.
      TypeError: the parameters are not those of the layer.
    """
    while isinstance(layer, FOR_TRAINING):
        layer, params = layer.cell, layer.plain(params)
    if isinstance(layer, Stack | Layers):
        parts = layer.cells if isinstance(layer, Stack) else layer.parts
        if not isinstance(params, tuple) or len(params) != len(parts):
            raise TypeError(f"{name}: params must be a tuple with one entry for each part of {layer}.")
        taken = [take_apart(name, form, part, of_part) for part, of_part in zip(parts, params, strict=True)]
        return [entries for part in taken for entries in part]
    if isinstance(layer, Bidirectional):
        if not isinstance(params, Directions):
            raise TypeError(f"{name}: params of a bidirectional layer must be Directions(forward, backward).")
        ways = zip((layer.forward, layer.backward), params, strict=True)
        taken = [take_apart(name, form, cell, of_cell) for cell, of_cell in ways]
        if [len(way) for way in taken] != [1, 1]:
            raise ValueError(f"{name}: each direction must be one cell, not a stack; got {layer}.")
        return [tuple(entries[0] for (entries,) in taken)]
    if not convertible(form, layer):
        raise ValueError(
            f"{name}: only {kinds(form)}, alone or in stack, layers and bidirectional, can be converted; "
            f"got {layer}."
        )
    assert isinstance(layer, Cell)
    check_params(layer, params)
    return [((layer, params),)]  # type: ignore[list-item]


def alike(name: str, form: Format, layer: Cell | Layer, params: Params) -> list[tuple[Entry, ...]]:
    """`take_apart` for libraries whose layers all have the same kind, state sizes, directions and biases.

    Raises:
      ValueError: kinds, sizes, directions or biases differ between layers.
    """
    taken = take_apart(name, form, layer, params)
    if len({len(entries) for entries in taken}) > 1:
        raise ValueError(f"{name}: either all layers or none must be bidirectional, got {layer}.")
    cells = [cell for entries in taken for cell, _ in entries]
    if len({(type(cell), cell.hidden, cell.output_size) for cell in cells}) > 1:
        raise ValueError(
            f"{name}: all cells must be of one kind, with the same hidden size and projection; got {layer}."
        )
    if len({cell.bias or form.always_biased for cell in cells}) > 1:
        raise ValueError(f"{name}: either all cells or none must have bias=False, got {layer}.")
    return taken


def collect(source: Any, inside: Callable[[Any], Any], read_one: Callable[[Any], Entry]) -> Converted:
    """Read one cell, the two cells of a bidirectional layer, or a list of layers."""
    source = inside(source)
    if isinstance(source, Directions):
        return build([[read_one(inside(way)) for way in source]])
    if isinstance(source, list | tuple):
        return pile([collect(entry, inside, read_one) for entry in source])
    return read_one(source)


def spread(
    name: str, form: Format, layer: Cell | Layer, params: Params, write_one: Callable[[Any, Any], Any]
) -> Any:
    """The inverse of `collect`."""
    written = [
        [write_one(cell, of_cell) for cell, of_cell in entries]
        for entries in take_apart(name, form, layer, params)
    ]
    whole = [Directions(*ways) if len(ways) > 1 else ways[0] for ways in written]
    return whole if len(whole) > 1 else whole[0]


def ensemble(models: Sequence[Converted]) -> Converted:
    """Models of equal cells as one, whose parameters have a leading axis of models, for ``jax.vmap``.

    Args:
      models: what ``from_*`` returned for each model.

    Returns:
      The cell or layer, and its parameters, ``[models, ...]``.

    Raises:
      ValueError: there is no model, or their cells differ.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(3, 4)
      >>> states = [lstmjax.convert.to_torch(cell, cell.init(jax.random.key(seed))) for seed in range(5)]
      >>> cell, params = ensemble([lstmjax.convert.from_torch(state) for state in states])
      >>> run = jax.vmap(lambda params: lstmjax.unroll(cell, params, jnp.ones((2, 7, 3)))[1])
      >>> run(params).shape
      (5, 2, 7, 4)
      >>> lstmjax.convert.to_torch(cell, members(params)[0])["weight_hh_l0"].shape
      (16, 4)
    """
    cells = {cell for cell, _ in models}
    if len(cells) != 1:
        raise ValueError(f"ensemble: give models of equal cells, at least one; got {list(cells)}.")
    return cells.pop(), jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params for _, params in models))


def members(params: Params) -> list[Params]:
    """The parameters of each model of an ensemble: the inverse of `ensemble`.

    They may be in this library's form, for ``to_*``, or in that of another whose trees JAX knows (linen,
    Haiku, Equinox), for ``from_*``.

    Raises:
      ValueError: the arrays do not have one leading axis of models.
    """
    leaves, structure = jax.tree.flatten(params)
    sizes = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            "members: all arrays must have one leading axis of models, got shapes "
            f"{[leaf.shape for leaf in leaves]}."
        )
    return [jax.tree.unflatten(structure, [leaf[i] for leaf in leaves]) for i in range(sizes.pop())]
