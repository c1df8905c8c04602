"""The part of the results page that is about writing."""

import math
from collections.abc import Sequence

from experiments.common.tables import commands, mean_of, minutes, table
from lstmjax.training.record import Record

LABEL = "words-synthesis"
"""Of the records of writing."""

INTRODUCTION = (
    "## Writing",
    "Graves 2013 (arXiv:1308.0850) turns the network round: it writes a given text, point by point. "
    "Here two LSTMs with a window over the text write words of UNIPEN: a mixture of Gaussians for the "
    "next step of the pen, and the end of a stroke. Two things are not as in the paper. The window "
    "moves with the ink, by a learned factor, where the paper's learns its pace from nothing: with "
    "that, a network still wrote strokes that had nothing to do with the text after 1,000 steps. And "
    "the end of a word is an output, which the paper reads off the window. Half of the training words "
    "follow another word of the same writer, so that a word can set the style of the next.",
    "Figures are negative log-likelihoods in nats, of all words of the test split, whose writers are "
    "in no other. They are densities, and so depend on the unit: a letter of ink, the length of a "
    "word's ink by its letters. Points are the corners of strokes simplified to within 0.025 of it, "
    "with uniform noise of one unit of the tablet for what was rounded off. Nothing is clipped, and "
    "no point is left out. The last column is for each point in units of the standard deviations of "
    "steps, which is the scale of the paper.",
    "The paper's own figures are for each line of IAM-OnDB, which has more points, of another tablet: "
    "they cannot be compared with these, and are not repeated. Its form is the same: the sum over the "
    "points of a sequence of the mixture's density and the end of the stroke, equation 26.",
)

PRIMED = (
    "Both rows are of the same words, the second ones of pairs of test words. If the network read the "
    "style of a writer off another word, the second row would be lower. It is not: after so short a "
    "training, about one and a half passes over the words, a style changes what is written less than "
    "it should."
)

LOOP = (
    "### The closed loop",
    "The recogniser of this page reads words of the test split, as their writers wrote them, and as "
    "the network wrote the same texts: in hands that it makes up, and in the hand of the writer after "
    "one other word. The target is a character error rate of at most 1.5 times that of real ink. It "
    "is missed by far: many words are near their texts, with letters too many or too few, and few are "
    "right. What the simplification of strokes alone does is the second row.",
)


def section(records: Sequence[Record]) -> list[str]:
    """The paragraphs about writing; none without its records."""
    own = [record for record in records if record.label == LABEL]
    if not own:
        return []
    parts = [*INTRODUCTION, _likelihoods(own), PRIMED, _primed(own)]
    for name, title in (
        ("styles", "A line after words of real writers, in blue, bias 0.7"),
        ("biases", "A line in hands that the network makes up, by bias"),
        ("window", "A word, and the letters that the window sees most of at each point"),
    ):
        parts.append(f"![{title}](pictures/{LABEL}/{name}.png)")
    looped = [record for record in own if "closed_loop_cer_real" in record.metrics]
    if looped:
        parts += [*LOOP, _loop(looped[0]), f"![Words that were read](pictures/{LABEL}/closed-loop.png)"]
    return [*parts, commands(own)]


def _standard(record: Record) -> str:
    """The negative log-likelihood of a point, in units of the standard deviations of steps."""
    found = [record.metrics.get(f"train_step_deviation_{axis}") for axis in "xy"]
    if None in found:
        return ""
    # The first point of a word has no step.
    share = 1 - 1 / record.metrics["test_points"]
    shift = -share * sum(math.log(each) for each in found if each is not None)
    return f"{record.metrics['test_nll_per_point'] + shift:.3f}"


def _likelihoods(records: Sequence[Record]) -> str:
    head = [
        "network",
        "test, a word",
        "test, a point",
        "validation, a point",
        "points of a word",
        "parameters",
    ]
    figures = [
        mean_of(records, "test_nll", 1),
        mean_of(records, "test_nll_per_point"),
        mean_of(records, "valid_nll_per_point"),
        mean_of(records, "test_points", 1),
        f"{records[0].metrics['parameters']:,.0f}",
        minutes(records),
        _standard(records[0]),
    ]
    return table([[*head, "minutes (median)", "standardized"], [f"**{LABEL}**", *figures]])


def _primed(records: Sequence[Record]) -> str:
    rows = [["words", "a word", "a point"]]
    for name, title in (
        ("test_second", "by themselves"),
        ("test_primed", "after another word of the writer"),
    ):
        rows.append([title, mean_of(records, f"{name}_nll", 1), mean_of(records, f"{name}_nll_per_point")])
    return table(rows)


TITLES = {
    "real": "real ink",
    "simplified": "real ink, simplified and smoothed",
    "written": "written, in a hand of its own",
    "primed": "written, in the hand of the writer",
}
"""What was read in the closed loop, by the beginnings of the names of its metrics."""


def loop_table(cers: dict[str, float]) -> str:
    """Character error rates of the closed loop, by name, such as ``primed_0.5`` for a bias of 0.5."""
    rows = [["ink", "bias", "CER, %", "times that of real ink"]]
    for name, cer in cers.items():
        kind, _, bias = name.partition("_")
        rows.append([TITLES[kind], bias, f"{100 * cer:.1f}", f"{cer / cers['real']:.2f}"])
    return table(rows)


def _loop(record: Record) -> str:
    start = "closed_loop_cer_"
    cers = {name[len(start) :]: value for name, value in record.metrics.items() if name.startswith(start)}
    return f"{record.metrics['closed_loop_words']:.0f} words.\n\n{loop_table(cers)}"
