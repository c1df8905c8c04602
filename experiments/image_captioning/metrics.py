"""How well captions fit their references: BLEU-1 to 4, CIDEr-D, and exact sentences.

All is computed on `data.words`: lower case, without punctuation. Published figures are of the tokenizer of
the Penn Treebank, which also parts ``man's`` into two tokens, and drops punctuation as well.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import sacrebleu

Words = Sequence[str]
ORDERS = (1, 2, 3, 4)


def figures(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """BLEU-1 to 4 from 0 to 100, CIDEr-D from 0 to 10, and the share of captions that equal a reference."""
    found = {f"bleu{order}": bleu(candidates, references, order) for order in ORDERS}
    exact = [
        any(list(one) == list(each) for each in known)
        for one, known in zip(candidates, references, strict=True)
    ]
    return found | {"cider": float(cider_d(candidates, references).mean()), "exact": float(np.mean(exact))}


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]], order: int) -> float:
    """Corpus BLEU of n-grams up to an order, without smoothing (Papineni et al. 2002)."""
    texts = [" ".join(one) for one in candidates]
    streams = list(itertools.zip_longest(*([" ".join(each) for each in known] for known in references)))
    metric = sacrebleu.BLEU(max_ngram_order=order, tokenize="none", smooth_method="none", force=True)
    return float(metric.corpus_score(texts, streams).score)


def cider_d(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]], sigma: float = 6.0
) -> np.ndarray:
    r"""CIDEr-D of each candidate, with the factor 10 of the paper.

    .. math::
       \frac{10}{4 m} \sum_{n=1}^{4} \sum_{j=1}^{m} e^{-(l_c - l_j)^2 / 2 \sigma^2}
       \frac{\min(g^n_c, g^n_j) \cdot g^n_j}{\lVert g^n_c \rVert \lVert g^n_j \rVert}

    where g are counts of n-grams times the logarithm of the number of pictures over the number of those that
    have the n-gram in a reference (1 if none has), l are lengths, and m is the number of references.

    Source: Vedantam, Zitnick and Parikh 2015 (arXiv:1411.5726), equations 2 and 6; as in the authors' code, l
      is the number of words.
    """
    grams = [[_grams(words) for words in known] for known in references]
    having = Counter(gram for known in grams for gram in set(itertools.chain(*known)))
    pictures = math.log(len(references))

    def weighted(counts: Counter[Words]) -> tuple[dict[Words, float], np.ndarray]:
        values = {gram: n * (pictures - math.log(max(having[gram], 1))) for gram, n in counts.items()}
        squares = np.zeros(len(ORDERS))
        for gram, value in values.items():
            squares[len(gram) - 1] += value**2
        return values, np.sqrt(squares)

    scores = []
    for candidate, known, counted in zip(candidates, references, grams, strict=True):
        ours, norm = weighted(_grams(candidate))
        score = 0.0
        for reference, counts in zip(known, counted, strict=True):
            theirs, other = weighted(counts)
            products = np.zeros(len(ORDERS))
            for gram in ours.keys() & theirs.keys():
                products[len(gram) - 1] += min(ours[gram], theirs[gram]) * theirs[gram]
            lengths = norm * other
            cosines = np.divide(products, lengths, out=products, where=lengths > 0)
            score += math.exp(-((len(candidate) - len(reference)) ** 2) / (2 * sigma**2)) * cosines.mean()
        scores.append(10 * score / len(known))
    return np.array(scores)


def _grams(words: Words) -> Counter[Words]:
    """The counts of n-grams of orders 1 to 4."""
    return Counter(
        tuple(words[start : start + order]) for order in ORDERS for start in range(len(words) - order + 1)
    )
