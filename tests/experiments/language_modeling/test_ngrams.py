"""Modified Kneser-Ney against its definition with dictionaries, by hand, and against the literature."""

import collections
import math

import numpy as np
import pytest

from experiments import datasets
from experiments.common.text.vocabulary import Vocabulary
from experiments.language_modeling.ngrams import KneserNey, estimate_discounts

VERSE = """tell me not in mournful numbers life is but an empty dream
for the soul is dead that slumbers and things are not what they seem
life is real life is earnest and the grave is not its goal
dust thou art to dust returnest was not spoken of the soul
not enjoyment and not sorrow is our destined end or way
but to act that each to morrow find us farther than to day
art is long and time is fleeting and our hearts though stout and brave
still like muffled drums are beating funeral marches to the grave
"""
"""Longfellow, A Psalm of Life (1838)."""

WORDS = VERSE.replace("\n", " <eos> ").split()
VOCABULARY = Vocabulary.of(WORDS)
TOKENS = VOCABULARY.encode(WORDS)
END = int(VOCABULARY.encode(["<eos>"])[0])


def model(order, tokens=TOKENS):
    return KneserNey(tokens, len(VOCABULARY), order, END)


def lines_of(tokens):
    line = ["<s>"]
    for token in tokens:
        line.append(int(token))
        if token == END:
            yield line
            line = ["<s>"]
    if len(line) > 1:
        yield line


class Definition:
    """The formula of the module's header, one n-gram after the other."""

    def __init__(self, tokens, vocabulary, order):
        raw = collections.Counter()
        for line in lines_of(tokens):
            for end in range(1, len(line) + 1):
                for length in range(1, min(order, end) + 1):
                    raw[tuple(line[end - length : end])] += 1
        before = collections.defaultdict(set)
        for gram in raw:
            before[gram[1:]].add(gram[0])
        self.counts, self.vocabulary, self.order = {}, vocabulary, order
        for gram, count in raw.items():
            if gram == ("<s>",):
                continue
            counted = len(gram) == order or gram[0] == "<s>"
            self.counts[gram] = count if counted else len(before[gram])
        of_order = {
            n: np.array([c for g, c in self.counts.items() if len(g) == n]) for n in range(1, order + 1)
        }
        self.discounts = {n: estimate_discounts(counts) for n, counts in of_order.items()}

    def probability(self, word, history):
        below = self.probability(word, history[1:]) if history else 1 / self.vocabulary
        following = {g[-1]: c for g, c in self.counts.items() if g[:-1] == history}
        if not following:
            return below
        discounts = self.discounts[len(history) + 1]
        total = sum(following.values())
        freed = sum(discounts[min(count, 3)] for count in following.values())
        count = following.get(word, 0)
        return (count - discounts[min(count, 3)]) / total + freed / total * below

    def probabilities(self, tokens):
        return [
            self.probability(line[place], tuple(line[max(0, place - self.order + 1) : place]))
            for line in lines_of(tokens)
            for place in range(1, len(line))
        ]


@pytest.mark.parametrize("order", [2, 3, 5])
def test_probabilities_are_those_of_the_definition(order):
    """In a text with known and unknown histories, and a last line that does not end."""
    verse = "life is not the grave <eos> not its goal <eos> and the soul is dead that dust"
    text = VOCABULARY.encode(verse.split())
    definition = Definition(TOKENS, len(VOCABULARY), order)
    for tokens in (TOKENS, text):
        np.testing.assert_allclose(
            model(order).probabilities(tokens), definition.probabilities(tokens), rtol=1e-12
        )


@pytest.mark.parametrize("history", ["", "life", "and the", "grave grave"])
def test_probabilities_of_all_words_add_up_to_one(history):
    words = [[*history.split(), word] for word in VOCABULARY.tokens]
    last = [model(3).probabilities(VOCABULARY.encode(text))[-1] for text in words]
    assert sum(last) == pytest.approx(1, rel=1e-12)


def test_a_count_by_hand():
    """Words a, b and the end: lines "a b", "a b", "b". All discounts fall back to 0.5, 1, 1.5.

    Bigrams: (<s> a) 2, (a b) 2, (b end) 3, (<s> b) 1. Before b stand a and <s>, before a <s>, before end b:
    a(b) = 2, a(a) = 1, a(end) = 1, in total 4; what the discounts free is 1 + 0.5 + 0.5 = 2.
    p(b) = (2 - 1) / 4 + 2 / 4 * 1 / 3 = 5 / 12. After a there are 2 in total, of which 1 is freed:
    p(b | a) = (2 - 1) / 2 + 1 / 2 * 5 / 12.
    """
    tokens = np.array([0, 1, 2, 0, 1, 2, 1, 2])
    found = KneserNey(tokens, vocabulary=3, order=2, line_end=2).probabilities(np.array([0, 1]))
    p_a = (1 - 0.5) / 4 + 2 / 4 / 3
    assert found[0] == pytest.approx((2 - 1) / 3 + (1 + 0.5) / 3 * p_a)
    assert found[1] == pytest.approx(1 / 2 + 1 / 2 * 5 / 12)


def test_discounts_are_those_of_chen_and_goodman():
    counts = np.repeat([1, 2, 3, 4, 9], [40, 12, 6, 4, 3])
    y = 40 / (40 + 2 * 12)
    np.testing.assert_allclose(
        estimate_discounts(counts), [0, 1 - 2 * y * 12 / 40, 2 - 3 * y * 6 / 12, 3 - 4 * y * 4 / 6]
    )
    np.testing.assert_array_equal(estimate_discounts(np.array([1, 2, 2])), [0, 0.5, 1, 1.5])


def test_what_cannot_be_counted_is_named():
    with pytest.raises(ValueError, match="order must be at least 2, got 1"):
        model(1)
    with pytest.raises(ValueError, match=r"tokens must lie in 0\.\.\d+"):
        model(2, np.array([0, 10_000]))


def test_the_treebank_has_the_perplexity_of_the_literature(real_data):
    """Mikolov et al. 2011 (ICASSP) give 141.2 for a 5-gram of modified Kneser-Ney on the test set."""
    splits = datasets.load("ptb", real_data)
    vocabulary = Vocabulary.of(splits.train)
    (end,) = vocabulary.encode(["<eos>"]).tolist()
    counted = KneserNey(vocabulary.encode(splits.train), len(vocabulary), 5, end)
    probabilities = counted.probabilities(vocabulary.encode(splits.test))
    assert len(probabilities) == 82_430
    assert math.exp(-np.log(probabilities).mean()) == pytest.approx(141.2, abs=0.05)
