"""What a run says of its test set: figures, tables, pictures, and the states that it gave every residue."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from experiments import structure_metrics, structure_pictures
from experiments.datasets.proteins import STATES3, Chain
from experiments.residues import membership
from experiments.structure_metrics import SOV

TABLES, PREDICTIONS = "states.md", "test-predictions.txt"
"""Files in a run's folder."""


class Predictions(NamedTuple):
    """Chains, and the probabilities of their residues' states."""

    chains: Sequence[Chain]
    probabilities: Sequence[Float[np.ndarray, "residues states"]]
    states: str

    @property
    def as_classes(self) -> "Predictions":
        """The same of the three classes, by the sums of their states' probabilities."""
        chains = [chain._replace(states=structure_metrics.reduce(chain.states)) for chain in self.chains]
        classes = membership(self.states)
        return Predictions(chains, [each @ classes for each in self.probabilities], STATES3)

    @property
    def found(self) -> list[str]:
        """The likeliest state of each residue."""
        return ["".join(self.states[number] for number in each.argmax(axis=1)) for each in self.probabilities]

    @property
    def confusion(self) -> Int[np.ndarray, "true predicted"]:
        """How many residues of each state were predicted to be in each."""
        true, valid = ([getattr(chain, name) for chain in self.chains] for name in ("states", "valid"))
        return structure_metrics.confusion(true, self.found, valid, self.states)

    @property
    def overlaps(self) -> list[SOV]:
        """The segment overlap of each chain."""
        return [
            structure_metrics.segment_overlap(chain.states, found, self.states, chain.valid)
            for chain, found in zip(self.chains, self.found, strict=True)
        ]


def kinds(predictions: Predictions) -> tuple[Predictions, ...]:
    """Predictions of the states, and, where there are more than three, of the classes."""
    return (predictions,) if predictions.states == STATES3 else (predictions, predictions.as_classes)


def figures(predictions: Predictions) -> dict[str, float]:
    """Shares of residues that are right, overlaps (means over chains), precision and recall of each state.

    ``q8, sov8, precision8_H, recall8_H`` and so on, and the same with 3 for the classes. What is not defined,
    such as the precision of a state that was never predicted, is left out.
    """
    named: dict[str, float] = {}
    for each in kinds(predictions):
        count, confusion = len(each.states), each.confusion
        named[f"q{count}"] = structure_metrics.accuracy(confusion)
        _, named[f"sov{count}"] = structure_metrics.mean_over_chains(each.overlaps)
        shares = structure_metrics.precision_and_recall(confusion)
        for name, values in zip(("precision", "recall"), shares, strict=True):
            for state, value in zip(each.states, values.tolist(), strict=True):
                named[f"{name}{count}_{state}"] = value
    return {name: value for name, value in named.items() if not np.isnan(value)}


def majority(trainings: Sequence[Chain], tests: Sequence[Chain], states: str) -> Predictions:
    """Every residue in each state as often as in training: its likeliest one is the commonest of all."""
    known = "".join(
        state for chain in trainings for state, valid in zip(chain.states, chain.valid, strict=True) if valid
    )
    shares = np.array([known.count(state) for state in states]) / len(known)
    return Predictions(tests, [np.tile(shares, (len(chain.sequence), 1)) for chain in tests], states)


def write(predictions: Predictions, folder: Path) -> None:
    """Tables and pictures by state, the predictions of all chains, and pictures of some."""
    tables = [
        structure_metrics.table(each.confusion, each.overlaps, each.states) for each in kinds(predictions)
    ]
    (folder / TABLES).write_text("\n\n".join(tables) + "\n", "utf-8")
    for each in kinds(predictions):
        count, confusion = len(each.states), each.confusion
        structure_pictures.draw_confusion(confusion, each.states, folder / f"confusion{count}.png")
        structure_pictures.draw_per_class(confusion, each.states, folder / f"precision_and_recall{count}.png")
    (folder / TABLES).write_text("\n\n".join(tables) + "\n", "utf-8")
    lines = [
        f">{chain.id}\n{chain.sequence}\n{_known(chain)}\n{found}\n"
        for chain, found in zip(predictions.chains, predictions.found, strict=True)
    ]
    (folder / PREDICTIONS).write_text("".join(lines), "utf-8")
    for title, index in some(predictions).items():
        chain = predictions.chains[index]
        structure_pictures.draw_chain(
            chain.id,
            chain.sequence,
            predictions.probabilities[index],
            predictions.states,
            folder / f"chain-{title}.png",
            chain.states,
            chain.valid,
        )


def some(predictions: Predictions) -> dict[str, int]:
    """The chains with the smallest, the median and the largest share of residues right."""
    shares = []
    for chain, found in zip(predictions.chains, predictions.found, strict=True):
        right = np.array([own == other for own, other in zip(chain.states, found, strict=True)], bool)
        shares.append(right[chain.valid].mean() if chain.valid.any() else 0.0)
    order = np.argsort(shares, kind="stable")
    return {"worst": int(order[0]), "median": int(order[len(order) // 2]), "best": int(order[-1])}


def _known(chain: Chain) -> str:
    """The true states, with a hyphen where they do not count."""
    return "".join(state if valid else "-" for state, valid in zip(chain.states, chain.valid, strict=True))
