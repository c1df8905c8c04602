r"""Interpolated modified Kneser-Ney smoothing: n-grams, a baseline for neural language models.

.. math::
    p(w \mid h) &= \frac{a(hw) - D(a(hw))}{\sum_x a(hx)} + b(h) \, p(w \mid h') \\
    b(h) &= \frac{\sum_{x: a(hx) > 0} D(a(hx))}{\sum_x a(hx)}

where h' is the history h without its first word, and below the empty history is the uniform distribution. The
count a of an n-gram of the highest order, or of one that begins a line, is its frequency; that of any other
is the number of different words that precede it. Each order has three discounts D, for counts of 1, 2, and 3
or more, estimated from the numbers of n-grams with counts of 1, 2, 3 and 4.

Source: Chen and Goodman 1998 (TR-10-98, Harvard); counts as in Heafield et al. 2013 (ACL), that is KenLM.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts for orders in which no n-gram has one of the counts for the estimate (as in KenLM)."""


class Order(NamedTuple):
    """The statistics of the n-grams of one length; the id of an n-gram is its index in the keys."""

    keys: np.ndarray
    """``[n-grams]``, sorted: id of the history among the n-grams one shorter, times base, plus word."""
    counts: np.ndarray
    """``[n-grams]``: a."""
    discounts: np.ndarray
    """``[4]``: D of counts 0, 1, 2, and 3 or more."""
    totals: np.ndarray
    """``[histories]``: the sum of a over all words after each history."""
    weights: np.ndarray
    """``[histories]``: b, the weight of the shorter history; 1 where no word follows."""


class KneserNey:
    """A model of order n, estimated from a stream of tokens.

    Histories end at the beginning of a line.

    Args:
      tokens: ``[tokens]``, in ``0..vocabulary - 1``.
      vocabulary: number of distinct tokens.
      order: n, the longest n-gram.
      line_end: the token that ends a line.

    Raises:
      ValueError: ``order`` is below 2, there is no token, or a token is outside the vocabulary.

    Example:
      >>> tokens = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 1, 3])
      >>> model = KneserNey(tokens, vocabulary=4, order=2, line_end=3)
      >>> bool(model.probabilities(tokens).min() > 0)
      True
    """

    def __init__(
        self, tokens: Int[np.ndarray, " tokens"], vocabulary: int, order: int, line_end: int
    ) -> None:
        if order < 2:
            raise ValueError(f"KneserNey: order must be at least 2, got {order}.")
        if not len(tokens) or tokens.min() < 0 or tokens.max() >= vocabulary:
            raise ValueError(f"KneserNey: tokens must lie in 0..{vocabulary - 1}, and there must be one.")
        self.vocabulary, self.line_end = vocabulary, line_end
        self._base = vocabulary + 1  # the words, and the beginning-of-line symbol
        text, places = self._lines(tokens)
        numbers = text.astype(np.int64)
        keys, raw, below = [], [], []  # below: ids of the n-gram without its first word
        for length in range(2, order + 1):
            key, inside = self._keys(numbers, text, places, length)
            unique, first, inverse, counts = np.unique(
                key[inside], return_index=True, return_inverse=True, return_counts=True
            )
            keys.append(unique)
            raw.append(counts)
            below.append(numbers[inside][first])
            numbers = np.full(len(text), -1)
            numbers[inside] = inverse
        followed = np.bincount(below[0], minlength=self._base)
        followed[vocabulary] = 0
        self.unigrams = self._order(np.arange(self._base), followed, np.zeros(self._base, int), 1)
        self.orders = []
        histories = self._base
        for index, unique in enumerate(keys):
            counts = raw[index]
            if index + 1 < len(keys):
                preceded = np.bincount(below[index + 1], minlength=len(unique))
                counts = np.where(preceded > 0, preceded, counts)  # no word precedes the beginning of a line
            self.orders.append(self._order(unique, counts, unique // self._base, histories))
            histories = len(unique)

    @property
    def size(self) -> int:
        """Number of n-grams of all lengths."""
        return self.vocabulary + sum(len(order.keys) for order in self.orders)

    def probabilities(self, tokens: Int[np.ndarray, " tokens"]) -> Float[np.ndarray, " tokens"]:
        """The probability of each token given those before it in its line; the first token begins a line."""
        text, places = self._lines(tokens)
        numbers = text.astype(np.int64)
        uniform = np.full(len(text), 1 / self.vocabulary)
        result = self._interpolate(self.unigrams, np.zeros_like(numbers), numbers, uniform)
        for length, order in enumerate(self.orders, start=2):
            key, inside = self._keys(numbers, text, places, length)
            place = np.minimum(np.searchsorted(order.keys, key), len(order.keys) - 1)
            number = np.where(inside & (order.keys[place] == key), place, -1)
            history = np.where(inside, key // self._base, -1)
            result = self._interpolate(order, history, number, result)
            numbers = number
        return result[text < self.vocabulary]

    def _lines(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens with a beginning-of-line symbol before each line, and the index of each in its line."""
        starts = np.concatenate([[0], np.flatnonzero(tokens[:-1] == self.line_end) + 1])
        text = np.insert(tokens.astype(np.int64), starts, self.vocabulary)
        begins = np.flatnonzero(text == self.vocabulary)
        line = np.cumsum(text == self.vocabulary) - 1
        return text, np.arange(len(text)) - begins[line]

    def _keys(
        self, numbers: np.ndarray, text: np.ndarray, places: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The key of the n-gram that ends at each position, and where there is one with a known history."""
        before = np.concatenate([[-1], numbers[:-1]])
        inside = (places >= length - 1) & (before >= 0)
        return np.where(inside, before * self._base + text, -1), inside

    @staticmethod
    def _order(keys: np.ndarray, counts: np.ndarray, histories: np.ndarray, number: int) -> Order:
        discounts = estimate_discounts(counts)
        totals = np.bincount(histories, counts, minlength=number)
        freed = np.bincount(histories, discounts[np.minimum(counts, 3)], minlength=number)
        weights = np.divide(freed, totals, out=np.ones(number), where=totals > 0)
        return Order(keys, counts, discounts, totals, weights)

    @staticmethod
    def _interpolate(
        order: Order, history: np.ndarray, number: np.ndarray, shorter: np.ndarray
    ) -> np.ndarray:
        """Probabilities given one more word of history, or the shorter one where that is unknown."""
        counts = np.where(number >= 0, order.counts[number], 0)
        kept = counts - order.discounts[np.minimum(counts, 3)]
        totals = np.where(history >= 0, order.totals[history], 0)
        weights = np.where(history >= 0, order.weights[history], 1.0)
        return np.divide(kept, totals, out=np.zeros(len(kept)), where=totals > 0) + weights * shorter


def estimate_discounts(counts: Int[np.ndarray, " ngrams"]) -> Float[np.ndarray, "4"]:
    r"""Discounts of counts 0, 1, 2, and 3 or more (Chen and Goodman 1998, eq. 26).

    :math:`D_j = j - (j + 1) \frac{t_1}{t_1 + 2 t_2} \frac{t_{j+1}}{t_j}`, of the numbers :math:`t_j` of
    n-grams with the count j; `FALLBACK` where one of these is zero or D_j is not in 0..j.
    """
    tally = np.bincount(np.minimum(counts, 5), minlength=6)[1:5]
    if not tally.all():
        return np.array([0.0, *FALLBACK])
    ratio = tally[0] / (tally[0] + 2 * tally[1])
    discounts = [j - (j + 1) * ratio * tally[j] / tally[j - 1] for j in (1, 2, 3)]
    if any(not 0 <= discount <= j for j, discount in enumerate(discounts, start=1)):
        return np.array([0.0, *FALLBACK])
    return np.array([0.0, *discounts])
