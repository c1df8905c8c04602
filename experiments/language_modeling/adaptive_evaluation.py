r"""Adaptive evaluation: a language model adapts to the test text, to each word only after its prediction.

*Neural cache*: the words that followed outputs :math:`h_i` similar to the current one become more likely,

.. math::
    p(w) = (1 - \lambda) \, p_{\mathrm{model}}(w)
           + \lambda \sum_{i < t} [x_{i+1} = w] \, \mathrm{softmax}_i (\theta \, h_t \cdot h_i)

over the last positions i. Source: Grave, Joulin and Usunier 2017 (arXiv:1612.04426).

*Dynamic evaluation*: after each segment of text the parameters take a gradient step on its loss, and decay
towards their initial values; both are scaled by the root mean square :math:`r` of their training gradients,

.. math:: w \leftarrow w - \eta \, g / (r + \epsilon) + \min(\lambda \, r / \bar r, 1) \, (w_0 - w).

Source: Krause, Kahembwe, Murray and Renals 2018 (arXiv:1709.07432).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.streams import TokenStream, Window
from lstmjax.types import Params, State

WindowLoss = Callable[[Params, State, Window], tuple[State, Mean]]
"""The state after a window, and the negative log-likelihood of its targets."""


class Reading(NamedTuple):
    """The predictions of a model for a text, each token given all before it."""

    outputs: np.ndarray
    """``[tokens, hidden]``: the output that predicts each token."""
    targets: np.ndarray
    """``[tokens]``."""
    probabilities: np.ndarray
    """``[tokens]``: the probabilities of the targets."""


def read(model: Functional, params: Params, tokens: Int[np.ndarray, " tokens"], window: int = 400) -> Reading:
    """Evaluate a model on a text; the first token is not predicted."""

    @jax.jit
    def advance(params: Params, state: State, window: Window) -> tuple[State, jax.Array, jax.Array]:
        module = model.bind(params)
        state, outputs = module.outputs(window.inputs, state)
        log_probabilities = jax.nn.log_softmax(module.logits(outputs[-1][0]))
        return state, outputs[-1][0], log_probabilities[jnp.arange(window.inputs.shape[1]), window.targets[0]]

    state, found = model.bind(params).initial_state((1,)), []
    for piece in TokenStream(tokens, batch_size=1, time=window).once():
        state, outputs, log_probabilities = advance(params, state, piece)
        length = int(piece.lengths[0])
        found.append((outputs[:length], piece.targets[0, :length], np.exp(log_probabilities[:length])))
    outputs, targets, probabilities = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Reading(outputs, targets, probabilities)


def cache_probabilities(
    reading: Reading, size: int, theta: float, block: int = 256
) -> Float[np.ndarray, " tokens"]:
    """Probability of each target under a cache of the last ``size`` positions; 0 where the cache is empty."""
    count = len(reading.targets)
    found = np.zeros(count)
    for start in range(0, count, block):
        end, begin = min(start + block, count), max(start - size, 0)
        scores = theta * (reading.outputs[start:end] @ reading.outputs[begin:end].T)
        age = np.arange(start, end)[:, None] - np.arange(begin, end)
        scores = np.where((age > 0) & (age <= size), scores, -np.inf)
        highest = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - np.where(np.isfinite(highest), highest, 0))
        right = reading.targets[start:end, None] == reading.targets[None, begin:end]
        total = weights.sum(axis=1)
        found[start:end] = np.divide(
            (weights * right).sum(axis=1), total, out=np.zeros(end - start), where=total > 0
        )
    return found


def mix(model: np.ndarray, cache: np.ndarray, weight: float) -> np.ndarray:
    """Interpolated probabilities of model and cache; for the first token, those of the model alone."""
    mixed = (1 - weight) * model + weight * cache
    mixed[:1] = model[:1]
    return mixed


class Choice(NamedTuple):
    """The cache hyperparameters that are best on a text, and the perplexity there."""

    perplexity: float
    theta: float
    weight: float


def choose(reading: Reading, size: int, thetas: Iterable[float], weights: Iterable[float]) -> Choice:
    """The theta and the weight with the lowest perplexity of a text."""
    weights, found = list(weights), []
    for theta in thetas:
        cache = cache_probabilities(reading, size, theta)
        found += [Choice(perplexity(mix(reading.probabilities, cache, w)), theta, w) for w in weights]
    return min(found)


def perplexity(probabilities: Float[np.ndarray, " tokens"]) -> float:
    """The exponential of the mean negative log-probability."""
    return float(np.exp(-np.log(probabilities).mean()))


def mean_squares(loss: WindowLoss, params: Params, state: State, windows: Iterable[Window]) -> Params:
    """The mean over windows of the squared gradient of their mean loss, which scales dynamic evaluation."""

    @jax.jit
    def add(total: Params, state: State, window: Window) -> tuple[Params, State]:
        (_, state), gradients = _gradient(loss, params, state, window)
        return jax.tree.map(lambda sum_, g: sum_ + g * g, total, gradients), state

    total, count = jax.tree.map(jnp.zeros_like, params), 0
    for window in windows:
        total, state = add(total, state, window)
        count += 1
    return jax.tree.map(lambda leaf: leaf / max(count, 1), total)


def _gradient(
    loss: WindowLoss, params: Params, state: State, window: Window
) -> tuple[tuple[Mean, State], Params]:
    def mean(params: Params) -> tuple[jax.Array, tuple[Mean, State]]:
        after, nll = loss(params, state, window)
        return nll.compute(), (nll, after)

    (_, (nll, after)), gradients = jax.value_and_grad(mean, has_aux=True)(params)
    return (nll, after), gradients


def evaluate_dynamically(
    loss: WindowLoss,
    params: Params,
    state: State,
    windows: Iterable[Window],
    squares: Params,
    rate: float,
    decay: float,
    epsilon: float = 1e-5,
) -> float:
    """The perplexity of a text under dynamic evaluation; each window is a segment.

    Args:
      loss: the loss of a window.
      params: initial parameters.
      state: initial state.
      windows: the text, in one row.
      squares: the result of `mean_squares`.
      rate: eta.
      decay: lambda.
      epsilon: bounds the step of parameters whose training gradients are zero.
    """
    roots = jax.tree.map(jnp.sqrt, squares)
    leaves = jax.tree.leaves(roots)
    average = sum(leaf.sum() for leaf in leaves) / sum(leaf.size for leaf in leaves)
    pulls = jax.tree.map(lambda root: jnp.minimum(decay * root / average, 1.0), roots)

    @jax.jit
    def advance(now: Params, state: State, window: Window) -> tuple[Params, State, Mean]:
        (nll, state), gradients = _gradient(loss, now, state, window)
        step = jax.tree.map(
            lambda w, g, root, pull, start: w - rate * g / (root + epsilon) + pull * (start - w),
            *(now, gradients, roots, pulls, params),
        )
        return step, state, nll

    total, weight, now = 0.0, 0.0, params
    for window in windows:
        now, state, nll = advance(now, state, window)
        total, weight = total + float(nll.total), weight + float(nll.weight)
    return float(np.exp(total / weight))
