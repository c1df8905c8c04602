"""Regularizers of parameters or outputs: pure functions, with explicit random keys.

Those that change parameters are called at each training step, before the parameters are used, with a key for
that step; the cell itself is unchanged and runs with any backend. (If a cell draws its own noise with
`lstmjax.Cell.sample`, that comes afterwards.)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from lstmjax.types import Array, Key, Params, at_least_float32


def weight_noise(key: Key, params: Params, stddev: float) -> Params:
    r"""Parameters with Gaussian noise added: :math:`w + \epsilon, \epsilon \sim N(0, \mathrm{stddev}^2)`.

    Redrawn at each training step and left out in evaluation, the noise acts as a simple minimum description
    length penalty on the weights.

    Args:
      key: random key of this step.
      params: any pytree of floating point arrays.
      stddev: standard deviation of the noise, the same for all weights; 0 returns the parameters.

    Returns:
      A pytree like ``params``, dtypes kept.

    Source: Jim, Giles and Horne 1996 (IEEE Trans. Neural Networks 7(6)); for LSTMs: Graves 2011 (NIPS).
    """
    if stddev == 0:
        return params
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + stddev * jax.random.normal(k, jnp.shape(leaf), leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def weight_drop(
    key: Key, params: Params, rate: float, names: tuple[str, ...] = ("recurrent_kernel",)
) -> Params:
    r"""Parameters with weights of the recurrent kernels dropped: :math:`m \odot R / (1 - \mathrm{rate})`.

    The same weights are dropped at all steps of a sequence and in all rows, so the cell keeps its fastest
    backend.

    Args:
      key: random key of this step.
      params: any pytree of arrays in named tuples or dictionaries, such as those of a stack of cells.
      rate: fraction of the weights that is dropped, from 0 to below 1; 0 returns the parameters.
      names: of the arrays whose weights are dropped.

    Returns:
      A pytree like ``params``.

    Raises:
      ValueError: the rate is not in ``[0, 1)``, or no array has one of the names.

    Source: Wan et al. 2013 (ICML, DropConnect); Merity, Keskar and Socher 2018 (arXiv:1708.02182).

    Example:
      >>> import lstmjax
      >>> params = lstmjax.lstm(8, 8).init(jax.random.key(0))
      >>> dropped = weight_drop(jax.random.key(1), params, 0.5)
      >>> bool((dropped.kernel == params.kernel).all()), 90 < int((dropped.recurrent_kernel == 0).sum()) < 166
      (True, True)
    """
    _check_rate("weight_drop", rate)
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    named = [bool(path) and _name(path[-1]) in names for path, _ in leaves]
    if not any(named):
        raise ValueError(f"weight_drop: no array of the parameters is named {' or '.join(names)}.")
    if rate == 0:
        return params
    keys = jax.random.split(key, len(leaves))
    changed = [
        _drop(k, leaf, rate, leaf.shape) if chosen else leaf
        for k, (_, leaf), chosen in zip(keys, leaves, named, strict=True)
    ]
    return jax.tree.unflatten(structure, changed)


def embedding_dropout(
    key: Key, table: Float[Array, "vocabulary features"], rate: float
) -> Float[jax.Array, "vocabulary features"]:
    r"""An embedding table with random rows dropped: a word is dropped everywhere in the batch, or nowhere.

    Rows are 0 with probability ``rate``, else multiplied by :math:`1 / (1 - \mathrm{rate})`.

    Args:
      key: random key of this step.
      table: ``[vocabulary, features]``.
      rate: fraction of the words that is dropped, from 0 to below 1; 0 returns the table.

    Raises:
      ValueError: the rate is not in ``[0, 1)``.

    Source: Gal and Ghahramani 2016 (arXiv:1512.05287, section 4.2).

    Example:
      >>> table = embedding_dropout(jax.random.key(0), jnp.ones((100, 2)), 0.2)
      >>> sorted({tuple(row) for row in table.tolist()})
      [(0.0, 0.0), (1.25, 1.25)]
    """
    _check_rate("embedding_dropout", rate)
    return jnp.asarray(table) if rate == 0 else _drop(key, table, rate, (table.shape[0], 1))


def activation_penalty(
    outputs: Float[Array, "*batch time features"], lengths: Integer[Array, "*batch"] | None = None
) -> Float[jax.Array, ""]:
    r"""The mean square of the outputs, to be added to the loss with a factor: :math:`\mathrm{mean}(h_t^2)`.

    Merity et al. apply it to the outputs after dropout, with a factor of 2 for their language models.

    Args:
      outputs: ``[..., time, features]``.
      lengths: integers ``[...]``; outputs beyond a row's length, NaN included, are ignored.

    Returns:
      A scalar of the outputs' dtype or float32, whichever is wider; 0 without valid steps.

    Raises:
      ValueError: ``lengths`` does not have the shape of the batch.

    Source: Merity, McCann and Socher 2017 (arXiv:1708.01009).

    Example:
      >>> float(activation_penalty(jnp.array([[3.0], [1.0], [7.0]]), lengths=jnp.array(2)))
      5.0
    """
    return _mean_square(outputs, lengths, 0)


def temporal_activation_penalty(
    outputs: Float[Array, "*batch time features"], lengths: Integer[Array, "*batch"] | None = None
) -> Float[jax.Array, ""]:
    r"""The mean square of the changes of the outputs between steps: :math:`\mathrm{mean}((h_{t+1} - h_t)^2)`.

    Merity et al. apply it to the outputs before dropout, with a factor of 1 for their language models.

    Args:
      outputs: ``[..., time, features]``.
      lengths: integers ``[...]``; outputs beyond a row's length, NaN included, are ignored.

    Returns:
      A scalar of the outputs' dtype or float32, whichever is wider; 0 without valid steps.

    Raises:
      ValueError: ``lengths`` does not have the shape of the batch.

    Source: Merity, McCann and Socher 2017 (arXiv:1708.01009).

    Example:
      >>> float(temporal_activation_penalty(jnp.array([[3.0], [1.0], [7.0]]), lengths=jnp.array(2)))
      4.0
    """
    return _mean_square(outputs, lengths, 1)


def _mean_square(outputs: Array, lengths: Array | None, order: int) -> jax.Array:
    """The mean square of the differences of the given order between valid steps."""
    *batch_shape, time, features = outputs.shape
    if lengths is None:
        lengths = jnp.full(batch_shape, time)
    if lengths.shape != tuple(batch_shape):
        raise ValueError(f"lengths must have the batch shape {tuple(batch_shape)}, got {lengths.shape}.")
    valid = (jnp.arange(time) < lengths[..., None])[..., None]
    values = jnp.where(valid, outputs, jnp.zeros_like(outputs)).astype(at_least_float32(outputs.dtype))
    squares = jnp.diff(values, n=order, axis=-2) ** 2
    counted = valid[..., order:, :]
    count = counted.sum() * features
    total = jnp.where(counted, squares, jnp.zeros_like(squares)).sum()
    return total / jnp.maximum(count, 1).astype(total.dtype)


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"{name}: the rate must be from 0 to below 1, got {rate!r}.")


def _drop(key: Key, values: Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """Inverted dropout with a mask of the given shape, which is broadcast."""
    keep = jax.random.bernoulli(key, jnp.float32(1 - rate), shape)  # the same with float64 enabled
    return jnp.where(keep, values / (1 - rate), jnp.zeros_like(values))


def _name(entry: object) -> object:
    """Name of a field of a named tuple, or key of a dictionary."""
    return getattr(entry, "name", getattr(entry, "key", None))
