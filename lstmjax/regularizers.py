"""Regularisers that act on parameters: pure functions with explicit keys."""

import jax
import jax.numpy as jnp

from lstmjax.types import Key, Params


def weight_noise(key: Key, params: Params, stddev: float) -> Params:
    r"""Parameters with Gaussian noise added: :math:`w + \epsilon, \epsilon \sim N(0, \mathrm{stddev}^2)`.

    Drawn afresh at each training step and left out of evaluation, it is a simple minimum description length
    penalty on the weights.

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
