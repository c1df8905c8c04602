"""A baseline without memory: each key is a Markov chain of its own, whatever the other keys do."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from experiments import datasets
from experiments.polyphonic_music.task import with_start_frame


class Chains(NamedTuple):
    """The chains of all keys: ``probability[s, k]``, that key ``k`` sounds in the frame after a frame where
    it sounds (``s = 1``) or does not (``s = 0``); a frame of zeros precedes each sequence."""

    probability: Float[np.ndarray, "2 88"]

    def losses(self, sequence: UInt8[np.ndarray, "time 88"]) -> Float[np.ndarray, " time"]:
        """The negative log-likelihood of each frame given the frame before it, in nats."""
        (started,) = with_start_frame([sequence])
        before, after = started[:-1], started[1:]
        sounds = np.where(before == 1, self.probability[1], self.probability[0])
        return -np.log(np.where(after == 1, sounds, 1 - sounds)).sum(axis=1)


def count(sequences: Sequence[np.ndarray]) -> Chains:
    """The chains of a training set: transitions are counted, with one more of each kind."""
    started = with_start_frame(sequences)
    before = np.concatenate([sequence[:-1] for sequence in started])
    after = np.concatenate([sequence[1:] for sequence in started])
    sounded = np.stack([((before == state) & (after == 1)).sum(axis=0) for state in (0, 1)])
    total = np.stack([(before == state).sum(axis=0) for state in (0, 1)])
    return Chains((sounded + 1) / (total + 2))


def figures(splits: datasets.Splits[np.ndarray]) -> dict[str, float]:
    """The metrics of `task.evaluate_batch` on validation and test set, and the number of parameters."""
    chains = count(splits.train)
    found = {"parameters": float(chains.probability.size)}
    for name, part in (("valid", splits.valid), ("test", splits.test)):
        losses = [chains.losses(sequence) for sequence in part]
        later = [own[1:] for own in losses if len(own) > 1]
        found[f"{name}_nll"] = float(np.concatenate(later).mean())
        found[f"{name}_nll_all_frames"] = float(np.concatenate(losses).mean())
        found[f"{name}_nll_by_sequence"] = float(np.mean([own.mean() for own in later]))
    return found
