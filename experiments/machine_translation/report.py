"""Reports on translations: comparable metrics, tables, plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sacrebleu
from jaxtyping import Float
from matplotlib.figure import Figure

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"
"""The sacrebleu signature: how BLEU is computed, on raw text."""

LOWERCASE_SIGNATURE = SIGNATURE.replace("case:mixed", "case:lc")
"""The same of BLEU without case, the nearest to the BLEU of papers on tokenized words in lower case."""

LENGTHS = ((1, 8), (9, 12), (13, 16), (17, 100))
"""Ranges of the number of words of a source sentence, bounds included, for BLEU by length."""


class Translations(NamedTuple):
    """Sources, references and hypotheses."""

    sources: Sequence[str]
    references: Sequence[str]
    hypotheses: Sequence[str]


def bleu(translations: Translations, lowercase: bool = False) -> float:
    """Corpus BLEU, from 0 to 100; without case, if requested."""
    hypotheses, references = list(translations.hypotheses), [list(translations.references)]
    return float(sacrebleu.corpus_bleu(hypotheses, references, lowercase=lowercase).score)


def figures(name: str, translations: Translations) -> dict[str, float]:
    """BLEU with and without case, chrF, BLEU by the length of the source, and the ratio of hypotheses'
    lengths to those of references."""
    chrf = sacrebleu.corpus_chrf(list(translations.hypotheses), [list(translations.references)]).score
    words, wanted = (
        sum(len(text.split()) for text in texts)
        for texts in (translations.hypotheses, translations.references)
    )
    found = {f"{name}_bleu": bleu(translations), f"{name}_chrf": float(chrf)}
    found[f"{name}_lowercase_bleu"] = bleu(translations, lowercase=True)
    found[f"{name}_length_ratio"] = words / max(wanted, 1)
    lengths = np.array([len(source.split()) for source in translations.sources])
    for shortest, longest in LENGTHS:
        chosen = np.flatnonzero((lengths >= shortest) & (lengths <= longest)).tolist()
        if len(chosen):
            part = Translations(*([side[index] for index in chosen] for side in translations))
            found[f"{name}_bleu_of_{shortest}_to_{longest}_words"] = bleu(part)
    return found


def write_table(translations: Translations, path: Path, count: int = 50) -> None:
    """Write the first translations, with their sources and references."""
    lines = (
        f"source     {source}\nreference  {reference}\nours       {hypothesis}\n"
        for source, reference, hypothesis in list(zip(*translations, strict=True))[:count]
    )
    path.write_text("\n".join(lines), "utf-8")


def write_hypotheses(translations: Translations, path: Path) -> None:
    """Write the hypotheses, one a line."""
    path.write_text("\n".join(translations.hypotheses) + "\n", "utf-8")


def draw_lengths(found: dict[str, dict[str, float]], name: str, path: Path) -> None:
    """Plot BLEU by the length of the source.

    Args:
      found: the results of `figures`, by the name of each model.
      name: name of the test set.
      path: the image file to write.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for model, values in found.items():
        keys = [f"{name}_bleu_of_{shortest}_to_{longest}_words" for shortest, longest in LENGTHS]
        places = [place for place, key in enumerate(keys) if key in values]
        axes.plot(places, [values[keys[place]] for place in places], "o-", label=model)
    axes.set_xticks(range(len(LENGTHS)), [f"{shortest} to {longest}" for shortest, longest in LENGTHS])
    axes.set(xlabel="words of the source", ylabel="BLEU", title=name, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_attention(
    weights: Float[np.ndarray, "target source"],
    source: Sequence[str],
    target: Sequence[str],
    path: Path,
) -> None:
    """Plot attention weights, one row per subword of the translation."""
    figure = Figure(figsize=(2 + 0.32 * len(source), 1.5 + 0.28 * len(target)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights, cmap="gray_r", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), source, rotation=70, ha="left")
    axes.set_yticks(range(len(target)), target)
    axes.xaxis.tick_top()
    figure.savefig(path, dpi=110)
