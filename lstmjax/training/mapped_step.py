"""The training step, mapped over runs: see `joint`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.training.loop import step_key
from lstmjax.training.parallel import Placement
from lstmjax.training.state import TrainState
from lstmjax.training.task import Batch, Metrics
from lstmjax.types import Params

WIDTH = 4
"""Runs that a call has at least, if there are so many."""

CALL = 2**18
"""Parameters and numbers of batches in a call on a CPU at most, if it has more runs: caches are small."""


class MappedStep:
    """The training step, mapped over runs whose batches have one shape."""

    def __init__(
        self, advance: Callable[..., Any], seeds: Sequence[int], rates: Sequence[float], width: int
    ) -> None:
        self._count = len(seeds)
        self.width = -(-self._count // -(-self._count // width))
        own_seeds, own_rates = np.array(seeds, np.uint32), np.array(rates, np.float32)
        is_same = all(rate == 1 for rate in rates)

        def one(state: TrainState, batch: Batch, seed: jax.Array, rate: jax.Array) -> Any:
            return advance(state, batch, step_key(seed, state.step), None if is_same else rate)

        @functools.partial(jax.jit, donate_argnums=0)
        def all_runs(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            return jax.vmap(one)(state, batch, jnp.asarray(own_seeds), jnp.asarray(own_rates))

        @functools.partial(jax.jit, donate_argnums=0)
        def some_runs(state: TrainState, batch: Batch, chosen: jax.Array) -> tuple[TrainState, Metrics]:
            own = jax.tree.map(lambda leaf: leaf[chosen], state)
            own, metrics = jax.vmap(one)(
                own, batch, jnp.asarray(own_seeds)[chosen], jnp.asarray(own_rates)[chosen]
            )
            none = jax.tree.map(lambda leaf: jnp.zeros((len(seeds), *leaf.shape[1:]), leaf.dtype), metrics)
            return put(state, chosen, own), put(none, chosen, metrics)

        self._all_runs, self._some_runs = all_runs, some_runs

    def narrow(self) -> None:
        """Have fewer runs in a call, since their batches differ in shape."""
        self.width = min(self.width, max(WIDTH, self._count // 4))

    def __call__(
        self, state: TrainState, batches: list[Batch], chosen: list[int], place: Placement
    ) -> tuple[TrainState, Metrics]:
        """The state after a step of the chosen runs, at most `width`, and their metrics alone."""
        if len(chosen) == self._count:
            order = np.argsort(chosen)
            batch = _stacked_batches([batches[number] for number in order])
            state, metrics = self._all_runs(state, place.state(batch))
        else:
            missing = self.width - len(chosen)  # one run several times, with one result
            batch = _stacked_batches([*batches, *batches[:1] * missing])
            state, metrics = self._some_runs(state, batch, np.array([*chosen, *chosen[:1] * missing]))
        return _waited(place.state(state), place), metrics


def width_for(params: Params, batch: Batch) -> int:
    """How many runs a call may have on a CPU."""
    size = sum(np.size(leaf) for tree in (params, batch) for leaf in jax.tree.leaves(tree))
    return max(WIDTH, CALL // max(size, 1))


def kind_of(batch: Batch) -> tuple[Any, ...]:
    """The shapes and dtypes of a batch."""
    return tuple((np.shape(leaf), leaf.dtype) for leaf in jax.tree.leaves(batch))


def _stacked_batches(batches: Sequence[Batch]) -> Batch:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


def put(whole: Any, where: Any, part: Any) -> Any:
    """A tree with the leaves of another at some places of their first axis."""
    return jax.tree.map(lambda leaf, own: leaf.at[where].set(own), whole, part)


def _waited(state: TrainState, place: Placement) -> TrainState:
    """The state; of several CPU devices, after they have computed it, as in `make_step`."""
    several = place.mesh is not None and jax.default_backend() == "cpu"
    return jax.block_until_ready(state) if several else state
