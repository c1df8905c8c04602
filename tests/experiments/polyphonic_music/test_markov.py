"""The baseline without memory: what it counts, against sums written out key by key."""

import math

import numpy as np
import pytest

from experiments import __main__ as program
from experiments import datasets
from experiments.common import command_line
from experiments.polyphonic_music import EXPERIMENT, markov


def roll(*frames):
    """Frames that are lists of sounding keys."""
    found = np.zeros((len(frames), 88), np.uint8)
    for time, keys in enumerate(frames):
        found[time, keys] = 1
    return found


TRAIN = (roll([5], [5], [], [5, 7]), roll([], [7]))


def test_transitions_are_counted_with_one_more_of_each():
    chains = markov.count(TRAIN)
    # Key 5, silent before: sounds 2 times of 4, in the first sequence at its beginning and its end.
    assert chains.probability[:, 5] == pytest.approx([(2 + 1) / (4 + 2), (1 + 1) / (2 + 2)])
    assert chains.probability[:, 7] == pytest.approx([(2 + 1) / (6 + 2), 1 / 2])
    assert chains.probability[:, 0] == pytest.approx([1 / (6 + 2), 1 / 2])


def test_figures_are_sums_over_keys_and_means_over_frames_or_sequences():
    test = (roll([5], [5], []), roll([7], []))
    found = markov.figures(datasets.Splits(TRAIN, test[:1], test))
    others = -86 * math.log(7 / 8)

    def loss(five, seven):
        return others - math.log(five) - math.log(seven)

    first = [loss(1 / 2, 5 / 8), loss(1 / 2, 5 / 8), loss(1 / 2, 5 / 8)]
    second = [loss(1 / 2, 3 / 8), loss(1 / 2, 1 / 2)]
    assert found["test_nll"] == pytest.approx((first[1] + first[2] + second[1]) / 3)
    assert found["test_nll_all_frames"] == pytest.approx(sum(first + second) / 5)
    assert found["test_nll_by_sequence"] == pytest.approx(((first[1] + first[2]) / 2 + second[1]) / 2)
    assert found["valid_nll"] == pytest.approx((first[1] + first[2]) / 2)


def test_it_is_a_run_without_a_model(tmp_path, capsys):
    run = command_line.main(
        "polyphonic_music", EXPERIMENT, ["--quick", "--cell", "markov", "--runs", str(tmp_path)]
    )
    assert run.figures()["parameters"] == 2 * 88
    assert [session.tested for session in run.sessions()] == [True]
    assert program.main(["polyphonic_music", "generate", "--run", str(run.path)]) == 1
    assert "trains no model" in capsys.readouterr().err
