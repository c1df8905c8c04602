"""Features, labels and metrics of residues."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from experiments.datasets.chains import AMINO_ACIDS, REDUCTION, STATES3, Chain, one_hot
from lstmjax.losses import cross_entropy
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.batching import PairBatches, Pairs, pad
from lstmjax.types import Array, Key, Params

UNKNOWN = -1
"""The label of a residue that does not count."""


def features(
    sequence: str, profile: Float[np.ndarray, "residues 20"] | None
) -> Float[np.ndarray, "residues features"]:
    """Input features of a chain: 20 for each residue, 60 with a profile, float32.

    The one-hot amino acid, zeros if it is unknown; the entries of the profile, which are in [0, 1]; and their
    square roots, which spread the small values.

    Raises:
      ValueError: sequence and profile differ in length.
    """
    if profile is None:
        return one_hot(sequence)
    if len(profile) != len(sequence):
        raise ValueError(f"features: a profile of {len(profile)} rows for {len(sequence)} residues.")
    return np.concatenate([one_hot(sequence), profile, np.sqrt(profile)], axis=1, dtype=np.float32)


def width(with_profile: bool) -> int:
    """Number of `features` of a residue."""
    return features("", np.zeros((0, len(AMINO_ACIDS)), np.float32) if with_profile else None).shape[1]


def batches(
    chains: Sequence[Chain], with_profile: bool, states: str, residues: int, buckets: int
) -> PairBatches:
    """Batches of `features` and `labels`, of at most ``residues`` residues each.

    Raises:
      ValueError: there is no chain, or a profile is missing.
    """
    lacking = [chain.id for chain in chains if with_profile and chain.profile is None]
    if lacking:
        raise ValueError(f"batches: {len(lacking)} chains have no profile, {lacking[0]} among them.")
    sources = [features(chain.sequence, chain.profile if with_profile else None) for chain in chains]
    return PairBatches(sources, [labels(chain, states) for chain in chains], residues, buckets)


def labels(chain: Chain, states: str) -> Int[np.ndarray, " residues"]:
    """Index of each residue's state; `UNKNOWN` for those that do not count."""
    known = np.array([states.find(state) for state in chain.states], np.int32)
    return np.where(chain.valid, known, UNKNOWN).astype(np.int32)


def logits_of(
    model: Functional, params: Params, batch: Pairs, key: Key | None = None
) -> tuple[Float[jax.Array, "batch time states"], Int[jax.Array, "batch time"]]:
    """Logits and labels of all residues of a batch; padding also has the label `UNKNOWN`."""
    source, target = batch.source, jnp.asarray(batch.target.values)
    logits = model.bind(params)(jnp.asarray(source.values), jnp.asarray(source.lengths), key)
    is_there = jnp.arange(target.shape[1]) < jnp.asarray(batch.target.lengths)[:, None]
    return logits, jnp.where(is_there, target, UNKNOWN)


def figures_of(
    states: str, logits: Float[Array, "batch time states"], target: Int[Array, "batch time"]
) -> dict[str, Mean]:
    """The loss in nats, and the accuracies over all states and over three."""
    mask = target != UNKNOWN
    nll = Mean.of(cross_entropy(logits, target, mask), mask)
    sums = three_states(states)
    of_three = (jax.nn.softmax(logits) @ sums).argmax(axis=-1)
    return {
        "nll": nll,
        f"q{len(states)}": Mean.of(logits.argmax(axis=-1) == target, mask),
        "q3": Mean.of(of_three == jnp.asarray(sums.argmax(axis=1))[target], mask),
    }


def three_states(states: str) -> Float[np.ndarray, "states 3"]:
    """Reduction matrix, float32: 1 where a state belongs to one of the three; the identity for three."""
    return np.array([[REDUCTION[state] == known for known in STATES3] for state in states], np.float32)


@functools.partial(jax.jit, static_argnames="model")
def _probabilities(model: Functional, params: Params, values: Array, lengths: Array) -> jax.Array:
    return jax.nn.softmax(model.bind(params)(values, lengths))


def probabilities_of(
    model: Functional, params: Params, batches: PairBatches
) -> list[Float[np.ndarray, "residues states"]]:
    """The state probabilities of each chain's residues, chains in their original order."""
    found: dict[int, np.ndarray] = {}
    for batch in batches.once():
        rows = np.asarray(_probabilities(model, params, *batch.source))
        for item, row, length in zip(batch.items.tolist(), rows, batch.source.lengths, strict=True):
            found[item] = row[:length]
    return [found[item] for item in range(len(batches.sources))]


def probabilities(
    model: Functional, params: Params, features: Float[np.ndarray, "residues features"]
) -> Float[np.ndarray, "residues states"]:
    """The state probabilities of the residues of one chain, which is padded to a power of two."""
    padded = pad([features], time=max(16, 1 << (len(features) - 1).bit_length()))
    return np.asarray(_probabilities(model, params, *padded))[0, : len(features)]
