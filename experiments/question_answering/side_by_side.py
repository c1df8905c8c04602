"""Models of one architecture, each with its own data set, trained side by side in one step.

The parameters of all are one pytree whose leaves have a leading axis of models; the loss of a step is the sum
of the models' losses, so that each has its own gradient. Models with data of similar length form a group:
their batches are padded to one shape, and `jax.vmap` runs them together. The groups of a step are run one
after the other; a group of one model is run without vmap.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.training.task import Batch
from lstmjax.types import Key, Params

Item = TypeVar("Item")
Group = tuple[int, ...]
"""Indices of the models that are run together."""


@dataclasses.dataclass(frozen=True, eq=False)
class SideBySide(Generic[Item]):
    """A batch for each of many models, as a function of seed and step.

    The items of each model are sorted into buckets by length. In a step all models have a batch of the same
    bucket index, each with its own bounds. The last batch of a bucket is padded with empty rows.

    Args:
      sets: the items of each model.
      length: returns the length of an item.
      collate: makes a batch from items, their padded length, and the number of rows.
      batch_size: rows of a model's batch.
      bounds: for each model, the maximum length in each bucket, to which it is padded; see `quantiles`.
      groups: the groups of models, see `by_length`; every model is in one of them.
    """

    sets: Sequence[Sequence[Item]]
    length: Callable[[Item], int]
    collate: Callable[[Sequence[Item], int, int], Batch]
    batch_size: int
    bounds: Sequence[tuple[int, ...]]
    groups: tuple[Group, ...]

    @functools.cached_property
    def buckets(self) -> list[list[list[Item]]]:
        """The items of each model in each bucket."""
        found = []
        for items, bounds in zip(self.sets, self.bounds, strict=True):
            places = np.searchsorted(bounds, [self.length(item) for item in items])
            own: list[list[Item]] = [[] for _ in bounds]
            for item, place in zip(items, places, strict=True):
                own[place].append(item)
            found.append(own)
        return found

    @functools.cached_property
    def lots(self) -> list[tuple[int, int]]:
        """Bucket and index of each batch of an epoch, in order."""
        most = [max(len(own[bucket]) for own in self.buckets) for bucket in range(len(self.bounds[0]))]
        return [
            (bucket, number)
            for bucket, items in enumerate(most)
            for number in range(-(-items // self.batch_size))
        ]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that contain every item once."""
        return len(self.lots)

    def at(self, seed: int, step: int) -> tuple[Batch, ...]:
        """The training batches of a step, one for each group; each epoch is shuffled on its own."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(self.steps_per_epoch)
        return self._stacked(self.lots[order[position]], (seed, epoch))

    def once(self) -> Iterator[tuple[Batch, ...]]:
        """Every item once, in a fixed order, for evaluation."""
        return (self._stacked(lot, None) for lot in self.lots)

    def items(self, model: int) -> Iterator[list[Item]]:
        """The items of a model in each batch of `once`."""
        return (self._chosen(model, bucket, number, None) for bucket, number in self.lots)

    def _stacked(self, lot: tuple[int, int], seed: tuple[int, int] | None) -> tuple[Batch, ...]:
        (bucket, number), found = lot, []
        for group in self.groups:
            length = max(self.bounds[model][bucket] for model in group)
            chosen = [self._chosen(model, bucket, number, seed) for model in group]
            batches = [self.collate(items, length, self.batch_size) for items in chosen]
            found.append(jax.tree.map(lambda *leaves: _stack(leaves), *batches))
        return tuple(found)

    def _chosen(self, model: int, bucket: int, number: int, seed: tuple[int, int] | None) -> list[Item]:
        items, order = self.buckets[model][bucket], np.arange(len(self.buckets[model][bucket]))
        if seed is not None:
            order = np.random.default_rng((*seed, bucket, model)).permutation(order)
        return [items[place] for place in order[number * self.batch_size : (number + 1) * self.batch_size]]


def _stack(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Stack arrays of different shapes, padded with zeros."""
    shape = np.max([leaf.shape for leaf in leaves], axis=0)
    return np.stack([np.pad(leaf, [(0, more) for more in shape - leaf.shape]) for leaf in leaves])


def quantiles(lengths: list[int], shares: Sequence[float], most: int) -> tuple[int, ...]:
    """Quantiles of lengths at the given shares, at most ``most``; the last is replaced by ``most``.

    Example:
      >>> quantiles([1, 2, 3, 4], shares=(0.5, 1.0), most=9)
      (2, 9)
    """
    inner = np.quantile(lengths or [most], shares[:-1], method="inverted_cdf")
    return (*(min(int(bound), most) for bound in inner), most)


def by_length(lengths: Sequence[float], groups: int) -> tuple[Group, ...]:
    """Groups of about equally many models, formed by similar data length.

    Example:
      >>> by_length([3.0, 90.0, 2.0, 80.0], groups=2)
      ((0, 2), (1, 3))
    """
    order = np.argsort(lengths, kind="stable")
    return tuple(tuple(sorted(part.tolist())) for part in np.array_split(order, min(groups, len(order))))


def apply(
    function: Callable[[Params, Batch, Key | None], Any],
    params: Params,
    groups: Sequence[Group],
    batches: Sequence[Batch],
    key: Key | None = None,
) -> list[Any]:
    """Apply ``function(params, batch, key)`` to each model; results are stacked within each group."""
    results = []
    for group, batch in zip(groups, batches, strict=True):
        places = np.array(group)
        own = jax.tree.map(lambda leaf: leaf[places], params)  # noqa: B023 (called at once)
        keys = None if key is None else jax.vmap(functools.partial(jax.random.fold_in, key))(places)
        if len(group) == 1:
            one = jax.tree.map(lambda leaf: leaf[0], (own, batch, keys))
            results.append(jax.tree.map(lambda leaf: leaf[None], function(*one)))
        else:
            results.append(jax.vmap(function)(own, batch, keys))
    return results


def joined(groups: Sequence[Group], results: Sequence[Any]) -> Any:
    """The results of `apply` in one pytree whose leaves have all models in order."""
    places = np.argsort(np.concatenate([np.array(group) for group in groups]))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[places], *results)


def time_steps(
    step: Callable[[Any, Any], tuple[Any, Any]], state: Any, batches: Callable[[int, int], Any], steps: int
) -> dict[int, list[float]]:
    """Seconds of training steps, by the maximum length in the batch; the first of each includes compiling."""
    found: dict[int, list[float]] = {}
    for number in range(steps):
        batch = batches(0, number)
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        longest = max(leaf.shape[-1] for leaf in jax.tree.leaves(batch))
        found.setdefault(longest, []).append(time.perf_counter() - start)
    return found
