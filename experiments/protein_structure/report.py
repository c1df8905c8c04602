"""Reports on a test set: metrics, tables, plots, and the predicted states of every residue."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.datasets.chains import STATES3, Chain
from experiments.protein_structure import metrics, pictures
from experiments.protein_structure.metrics import Scores
from experiments.protein_structure.residues import three_states

TABLES, PREDICTIONS = "states.md", "test-predictions.txt"
"""Files in a run's folder."""


class Predictions(NamedTuple):
    """Chains, and the predicted probabilities of their residues' states."""

    chains: Sequence[Chain]
    probabilities: Sequence[Float[np.ndarray, "residues states"]]
    states: str

    def of(self, places: Sequence[int]) -> "Predictions":
        """The predictions for the chains of these indices."""
        chains = [self.chains[place] for place in places]
        return Predictions(chains, [self.probabilities[place] for place in places], self.states)

    def reduced(self) -> "Predictions":
        """The predictions in three states, by the sums of their probabilities."""
        chains = [chain._replace(states=metrics.reduce(chain.states)) for chain in self.chains]
        sums = three_states(self.states)
        return Predictions(chains, [each @ sums for each in self.probabilities], STATES3)

    def likeliest(self) -> list[str]:
        """The most probable state of each residue."""
        return ["".join(self.states[number] for number in each.argmax(axis=1)) for each in self.probabilities]


def score(predictions: Predictions) -> tuple[Scores, ...]:
    """Scores of the states, and, if there are eight, also of three."""
    three = predictions.states == STATES3
    return tuple(
        metrics.score(
            [chain.states for chain in each.chains],
            each.likeliest(),
            [chain.valid for chain in each.chains],
            each.states,
        )
        for each in ((predictions,) if three else (predictions, predictions.reduced()))
    )


def figures(scores: Sequence[Scores]) -> dict[str, float]:
    """Accuracies, segment overlaps (means over chains), precision and recall of each state.

    ``q8, sov8, precision8_H, recall8_H`` and so on, and the same with 3. Undefined values, such as the
    precision of a state that was never predicted, are left out.
    """
    named: dict[str, float] = {}
    for each in scores:
        count = len(each.states)
        named[f"q{count}"] = metrics.accuracy(each.confusion)
        _, named[f"sov{count}"] = metrics.mean_over_chains(each.overlaps)
        shares = metrics.precision_and_recall(each.confusion)
        for name, values in zip(("precision", "recall"), shares, strict=True):
            for state, value in zip(each.states, values.tolist(), strict=True):
                named[f"{name}{count}_{state}"] = value
    return {name: value for name, value in named.items() if not np.isnan(value)}


def negative_log_likelihood(predictions: Predictions) -> float:
    """The mean over valid residues, in nats."""
    found = []
    for chain, probabilities in zip(predictions.chains, predictions.probabilities, strict=True):
        places = np.flatnonzero(chain.valid)
        found.append(
            probabilities[places, [predictions.states.index(chain.states[place]) for place in places]]
        )
    return float(-np.log(np.concatenate(found), dtype=np.float64).mean())


def majority(train: Sequence[Chain], test: Sequence[Chain], states: str) -> Predictions:
    """The baseline that predicts the state frequencies of the training set for every residue."""
    counts = sum(
        np.bincount(
            [states.index(chain.states[place]) for place in np.flatnonzero(chain.valid)], None, len(states)
        )
        for chain in train
    )
    frequencies = np.asarray(counts) / np.sum(counts)
    return Predictions(test, [np.tile(frequencies, (len(chain.sequence), 1)) for chain in test], states)


def write(predictions: Predictions, scores: Sequence[Scores], folder: Path) -> None:
    """Write tables and plots by state, the predictions of all chains, and plots of some."""
    tables = [metrics.table(each) for each in scores]
    (folder / TABLES).write_text("\n\n".join(tables) + "\n", "utf-8")
    for each in scores:
        count = len(each.states)
        pictures.draw_confusion(each.confusion, each.states, folder / f"confusion{count}.png")
        path = folder / f"precision_and_recall{count}.png"
        pictures.draw_per_class(each.confusion, each.states, path)
    lines = []
    for chain, likeliest in zip(predictions.chains, predictions.likeliest(), strict=True):
        true = metrics.known(chain.states, chain.valid, "-")
        lines += [f">{chain.id}", chain.sequence, true, likeliest]
    (folder / PREDICTIONS).write_text("\n".join(lines) + "\n", "utf-8")
    for title, place in some(predictions).items():
        chain = predictions.chains[place]
        pictures.draw_chain(
            chain.id,
            chain.sequence,
            predictions.probabilities[place],
            predictions.states,
            folder / f"chain-{title}.png",
            chain.states,
            chain.valid,
        )


def some(predictions: Predictions) -> dict[str, int]:
    """The chains of lowest, median and highest accuracy; empty without chains that have valid residues."""
    shares = {}
    for place, (chain, likeliest) in enumerate(zip(predictions.chains, predictions.likeliest(), strict=True)):
        right = [chain.states[residue] == likeliest[residue] for residue in np.flatnonzero(chain.valid)]
        if right:
            shares[place] = np.mean(right)
    order = sorted(shares, key=lambda place: shares[place])
    named = {"worst": order[:1], "median": order[len(order) // 2 :][:1], "best": order[-1:]}
    return {title: places[0] for title, places in named.items() if places}
