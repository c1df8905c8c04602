"""The part of the results page that is about reading."""

from collections.abc import Sequence

from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table
from lstmjax.training.record import Record

WORDS = "words-blstm"
"""The label of the records of words."""

TITLES = {
    "lowercase-blstm": "UNIPEN, lower-case letters",
    "digits-blstm": "UNIPEN, digits",
    "pendigits-blstm": "PenDigits, official split",
}
"""Labels of the records of single characters."""

PUBLISHED = {"pendigits-blstm": "3 nearest neighbours 97.8 (pendigits.names, UCI 1998)"}

INTRODUCTION = (
    "## Reading words",
    "Words of UNIPEN, of upper and lower case, in a split by writers that is ours "
    "(`experiments/datasets/unipen.py`): nobody published figures of these words, and ours stand with "
    "that split. Words of quality BAD are in no part. Graves et al. 2009 report 79.7 % of words right "
    "(abstract) for lines of another data set, with a language model: it does not compare.",
    "The target was a CER of 8 % within an hour on two cores; the record had an hour of one shared core. "
    "The recipe was chosen on validation: CER 8.3 % there after 3 passes of 64 and 128 units, 7.0 after 8, "
    "6.2 with 80 and 160 units, dropout 0.3 and 14 passes. The test of the first two had been read (11.6 and "
    "10.0 %). The writers of the test split are harder to read than those of the validation split.",
    "Errors are edit distances by characters (CER), upper and lower case being different, and the share"
    " of words with any error (WER). Unseen words are those that no writer of the training split has "
    "written; the worst writer is the one of the test split with the highest CER.",
)

LANGUAGE = (
    "### Language models",
    "The same network with other searches: the best path, label by label; prefix beam search with 16 "
    "beams; with 5-grams of the letters of the different words of the training split, of which weight "
    "and bonus are chosen on the validation split; with the list of the different words of all splits, "
    "each equally likely, so that no word is unknown. A user's own list is given to `recognise` by "
    "`--words`.",
)

ADAPTATION = (
    "### Adaptation to a writer",
    "The network is fine-tuned to the first 50 words of a writer of the test split, as `recognise "
    "--adapt` does, and reads the others of the same writer; the rates are of these words alone.",
)

INFEASIBLE = (
    "Four points of a path are one frame, and CTC needs a frame for each letter and one more between "
    "equal letters. {train:.0f} inks of the training split have fewer, {valid:.0f} of the validation "
    "split and {test:.0f} of the test split: their labels are of more than was written, such as Houston"
    " for one letter. Runs list them in `infeasible.txt`. They have no loss in training, and count as "
    "they are read in tests."
)

CHARACTERS = (
    "## Reading single characters",
    "The same layers, and the mean of their outputs is read out: no CTC. The splits of UNIPEN are those"
    " of the words; figures that were published of its letters and digits are of other splits.",
)


def section(records: Sequence[Record]) -> list[str]:
    """The paragraphs about reading; none without records."""
    words = [record for record in records if record.label == WORDS]
    others = {label: own for label, own in by_label(records).items() if label in TITLES}
    parts: list[str] = []
    if words:
        parts += [*INTRODUCTION, _words(words), _infeasible(words[0]), commands(words)]
        for (title, text), rows in ((LANGUAGE, _language(words)), (ADAPTATION, _adaptation(words))):
            parts += [title, text, rows] if rows else []
        parts += [
            "### Pictures",
            "First misread words of twelve writers of the test split. Each "
            "letter has the colour of the points that CTC aligns with it; below are the probabilities "
            "of the letters, frame by frame. Frames without a letter have the colour of the nearest "
            "one.",
            f"![Misread words](pictures/{WORDS}/errors.png)",
        ]
    if others:
        parts += [
            *CHARACTERS,
            _characters(others),
            commands([each for own in others.values() for each in own]),
        ]
    return parts


def _per_cent(records: Sequence[Record], metric: str, digits: int = 1) -> str:
    return mean_of(records, metric, digits, 100)


def _words(records: Sequence[Record]) -> str:
    columns = {
        "test_cer": "CER, %",
        "test_wer": "WER, %",
        "test_cer_unseen": "CER of unseen words, %",
        "test_wer_unseen": "WER of unseen words, %",
        "test_cer_worst_writer": "CER of the worst writer, %",
        "valid_cer": "CER of validation, %",
    }
    rows = [["network", *columns.values(), "epochs", "parameters", "seeds", "minutes (median)"]]
    for label, own in by_label(records).items():
        figures = [_per_cent(own, name) for name in columns]
        epochs, parameters = str(own[0].config["epochs"]), f"{own[0].metrics['parameters']:,.0f}"
        rows.append([f"**{label}**", *figures, epochs, parameters, str(len(own)), minutes(own)])
    return table(rows)


def _infeasible(record: Record) -> str:
    counts = {part: record.metrics[f"{part}_infeasible"] for part in ("train", "valid", "test")}
    return INFEASIBLE.format(**counts)


def _language(records: Sequence[Record]) -> str:
    own = [record for record in records if "test_cer_ngram" in record.metrics]
    if not own:
        return ""
    names = {
        "": "best path (greedy)",
        "_beam": "beam search",
        "_ngram": "beam search, 5-grams of letters",
        "_lexicon": "beam search, list of words",
    }
    rows = [["search", "CER, %", "WER, %", "CER of unseen words, %", "WER of unseen words, %"]]
    for name, title in names.items():
        metrics = ("test_cer", "test_wer", "test_cer_unseen", "test_wer_unseen")
        rows.append([title, *(_per_cent(own, f"{metric}{name}") for metric in metrics)])
    return table(rows)


def _adaptation(records: Sequence[Record]) -> str:
    own = [record for record in records if "test_cer_after_adaptation" in record.metrics]
    if not own:
        return ""
    metrics = own[0].metrics
    rows = [
        ["writers", "CER before, %", "CER after, %", "writers with a lower CER, %"],
        [
            f"{metrics['test_adaptation_writers']:.0f}",
            _per_cent(own, "test_cer_before_adaptation"),
            _per_cent(own, "test_cer_after_adaptation"),
            _per_cent(own, "test_adaptation_better", 0),
        ],
    ]
    return table(rows)


def _characters(records: dict[str, list[Record]]) -> str:
    head = ["data", "network", "accuracy, %", "worst writer, %", "validation, %", "parameters", "seeds"]
    rows = [[*head, "minutes (median)", "published, %"]]
    for label, own in records.items():
        figures = [_per_cent(own, f"{name}", 2) for name in ("test_accuracy", "test_accuracy_worst_writer")]
        figures += [
            _per_cent(own, "valid_accuracy", 2),
            f"{own[0].metrics['parameters']:,.0f}",
            str(len(own)),
        ]
        rows.append([TITLES[label], f"**{label}**", *figures, minutes(own), PUBLISHED.get(label, "")])
    return table(rows)


def rows(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    found = []
    for label, own in by_label(records).items():
        if label == WORDS:
            found.append(Row("UNIPEN, words", label, "CER, %", "", _per_cent(own, "test_cer"), own))
        elif label in TITLES:
            ours, paper = _per_cent(own, "test_accuracy", 2), PUBLISHED.get(label, "")
            found.append(Row(TITLES[label], label, "% right", paper, ours, own))
    return found
