"""The results page: sentences that are right, and which words are wrong, by model."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, seeds, table, titled
from lstmjax.training.record import Record

MEANINGS = {
    "digits1-s2vt": "one digit, S2VT",
    "digits1-attention": "one digit, S2VT with temporal attention",
    "digits1-pooling": "one digit, mean of the frames",
    "digits2-s2vt": "two digits, S2VT",
    "digits1-sync-draw": "one digit, sentences of Sync-DRAW, S2VT",
}
"""What the labels of the records mean, in their order on the page."""

IN_README = ("digits1-s2vt", "digits2-s2vt")

FIGURES = {
    "test_exact": "sentences right",
    "test_bleu4": "BLEU-4",
    "test_seen_exact": "sentences right, combinations seen",
    "test_digit": "digits right",
    "test_direction": "directions right",
    "test_speed": "speeds right",
}

INTRODUCTION = (
    "Handwritten digits of MNIST move over 16 to 20 frames of 32 x 32 pixels, and a sentence tells what "
    'happens: "the digit 3 moves up slowly then left quickly", "the digit 3 moves up slowly and bounces '
    'while the digit 7 moves left quickly". Videos of the training are drawn anew at every step.',
    "The test has 1,000 videos of images of MNIST's test part, and every digit begins with a motion that it "
    "never has in training: of the 80 combinations of digit and direction, 16 are held out. The column with "
    "combinations seen is of 1,000 further videos, of test images and the other 64 combinations. All models "
    "are selected on validation images with these 64, so nothing was chosen by what is held out.",
    "Sentences are written by greedy decoding; BLEU-4 is sacrebleu's, of words parted by spaces. The last "
    "columns are the shares of right words of a kind, each given the right words before it.",
    "The convolutions first learn to name digits in single frames, as those of the papers had learnt to "
    "classify photographs; all else is learnt from the sentences.",
    "There is no published figure for these videos. The papers report METEOR on YouTube clips (MSVD), 29.8 "
    "for S2VT (Venugopalan et al. 2015, arXiv:1505.00487), with features of networks that were trained on "
    "photographs; a folder with such features and captions trains here with `--folder`.",
)

TWO = (
    "The model for two digits is trained on videos of one for its first {alone} steps: with two from the "
    "beginning it did not learn directions at all. On combinations that it has seen it is right as the table "
    "says. On those held out it fails, and the [sentences](pictures/digits2-s2vt/test.txt) show how: it sees "
    "both digits and both motions, and gives each digit the motion of the other. Of two digits that both "
    "move in a way that is held out, the exchange is mostly a sentence that training has, and what never "
    "occurs there counts for more than what is seen. The aim of 75 % is not reached."
)

POOLING = (
    "The mean of the frames has no order of events. The model that reads it can name a digit, and see from "
    "the smear along which line it moved, but not which way: the column of directions shows it."
)


def _row(label: str, records: Sequence[Record]) -> list[str]:
    figures = [
        mean_of(records, metric, digits=1, scale=1 if metric.endswith("bleu4") else 100) for metric in FIGURES
    ]
    parameters = f"{records[0].metrics['parameters']:,.0f}"
    return [titled(label, MEANINGS), *figures, str(seeds(records)), parameters, minutes(records)]


def _two(records: Sequence[Record]) -> str:
    return TWO.format(alone=f"{records[0].config['alone_steps']:,}")


def _pictures(labels: Sequence[str]) -> list[str]:
    return [
        f"![Videos of the test with the sentences of {label}](pictures/{label}/test.gif)"
        for label in IN_README
        if label in labels
    ]


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    grouped = by_label(records)
    order = sorted(grouped, key=lambda label: [*MEANINGS, label].index(label))
    header = ["model", *(f"{title}, %" for title in FIGURES.values()), "seeds", "parameters", "minutes"]
    parts = [
        "# Video to text",
        *INTRODUCTION,
        table([header, *(_row(label, grouped[label]) for label in order)]),
        *([_two(grouped["digits2-s2vt"])] if "digits2-s2vt" in grouped else []),
        *([POOLING] if "digits1-pooling" in grouped else []),
        "Mean ± sample standard deviation over seeds; minutes are the median of a run on one core, which "
        "other work shared.",
        *_pictures(order),
        commands([record for label in order for record in grouped[label]]),
        "Built by `make pages` from the records in this folder.",
    ]
    return "\n\n".join(parts) + "\n"


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    grouped = by_label(records)
    return [
        Row(
            MEANINGS[label].split(",")[0].replace("digit", "moving digit"),
            label,
            "% of sentences right",
            "",
            mean_of(grouped[label], "test_exact", digits=1, scale=100),
            grouped[label],
        )
        for label in IN_README
        if label in grouped
    ]


PAGE = Page(page, results)
