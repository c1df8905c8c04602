"""The results page: single digits, unseen speakers and strings."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table
from experiments.speech_recognition.data import SPEAKERS
from lstmjax.training.record import Record

PAPER = "bidirectional LSTM 98.4, four speakers, random split of 80, 10 and 10 % (github.com/eonu/fsdd)"
"""The README of that repository, read in a stored copy."""

INTRODUCTION = (
    "Which digits are said? The data are the 3,000 recordings of the Free Spoken Digit Dataset: six speakers "
    "at 8 kHz. Networks are bidirectional LSTMs with CTC (Graves, Mohamed and Hinton 2013), and, for "
    "strings, also a decoder with attention on top of them (listen, attend and spell, Chan et al. 2016). "
    "They have two bidirectional layers, where the paper has three to five for the phonemes of TIMIT, which "
    "is not free: its figures are of other data, and are not repeated here.",
    "Figures are means ± sample standard deviation over seeds. Hyperparameters were chosen on validation "
    "data; the test is read once a seed. Minutes are of one core that much other work shared.",
)

TITLES = {
    "digits": "Single digits",
    "unseen-speaker": "Single digits of unseen speakers",
    "strings": "Strings of digits",
}

REMARKS = {
    "digits": (
        "The official split: recordings 0 to 4 of each speaker and digit are the test, 5 to 9 the validation "
        "set. All speakers are in all parts, so this says nothing of new speakers. The digit is the "
        "likeliest of the ten; without the knowledge that it is one, by the likeliest class of each step, as "
        "many are right as the third column says.",
        f"The nearest published figure that we found, of other data: {PAPER}.",
    ),
    "unseen-speaker": (
        "Six networks learn side by side, from the same batches; the loss of each leaves out one speaker, of "
        "whom it is tested on all 500 recordings. No published figure of this split was found. The "
        "validation set has recordings of the five speakers that a network is trained on.",
        "Features, size and number of passes were chosen with `--inner`, which leaves out a second speaker "
        "of each network and validates on that one: 80 % before (energies down to -60 dB, no changes, no "
        "microphones, 64 units, 12 passes), 85 % with all. The test of an earlier recipe had been read once "
        "(77.3 % on average, 67.8 % for the worst speaker).",
    ),
    "strings": (
        "Recordings of one speaker, joined to strings of one to seven digits with gaps of up to 0.3 s, a "
        "quarter of them none; 1,000 strings from recordings of the official test split. Speakers say each "
        "digit by itself, so this is easier than digits that run into each other. The word error rate counts "
        "substitutions, deletions and insertions (jiwer); beam search has 8 hypotheses. **strings-las** "
        "starts with the layers of **strings-blstm**, whose CTC loss also goes on with a weight of 0.3.",
    ),
}


PICTURES = {
    "strings-blstm": (
        "A string of the validation set, the probabilities of its digits at each step of 40 ms, and their "
        "likeliest alignment."
    ),
    "strings-las": "The same string, and what the decoder with attention looks at for each digit.",
}
"""What the pictures of labels show."""


def _percent(records: Sequence[Record], metric: str, digits: int = 2) -> str:
    return mean_of(records, metric, digits, 100)


def _seeds(records: Sequence[Record]) -> str:
    return ", ".join(str(record.seed) for record in records)


COLUMNS = {
    "digits": {"test_accuracy": "test, % right", "valid_accuracy": "validation, %", "test_exact": "free, %"},
    "unseen-speaker": {
        "test_accuracy": "mean over speakers, % right",
        "test_accuracy_min": "worst speaker, %",
        "test_accuracy_max": "best speaker, %",
        "valid_accuracy": "known speakers, %",
    },
    "strings": {
        "test_wer": "word error rate, %",
        "test_wer_beam": "with beam search, %",
        "test_string_error": "strings with errors, %",
        "valid_exact": "validation, strings right, %",
    },
}
"""Metrics of the tables and their titles."""


def _comparison(records: Sequence[Record], columns: dict[str, str]) -> str:
    rows = [["networks", *columns.values(), "seeds", "parameters", "minutes (median)"]]
    for label, chosen in by_label(records).items():
        figures = [_percent(chosen, metric) for metric in columns]
        parameters = f"{chosen[0].metrics['parameters']:,.0f}"
        rows.append([f"**{label}**", *figures, _seeds(chosen), parameters, minutes(chosen)])
    return table(rows)


def _speakers(records: Sequence[Record]) -> str:
    rows = [["speaker left out", *SPEAKERS]]
    for label, chosen in by_label(records).items():
        shares = [_percent(chosen, f"test_accuracy_{speaker}", 1) for speaker in SPEAKERS]
        rows.append([f"**{label}**, % right", *shares])
    return table(rows)


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = ["# Speech recognition", *INTRODUCTION]
    for dataset, title in TITLES.items():
        own = [record for record in records if record.config["dataset"] == dataset]
        if own:
            parts += [f"## {title}", *REMARKS[dataset], _comparison(own, COLUMNS[dataset])]
            parts += [_speakers(own)] if dataset == "unseen-speaker" else []
            for label, remark in PICTURES.items():
                if any(record.label == label for record in own):
                    parts += [remark, f"![{remark}](pictures/{label}/example.png)"]
            parts.append(commands(own))
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


MAIN = {
    "digits-blstm": ("test_accuracy", "% of single digits right", "98.4 (other split, github.com/eonu/fsdd)"),
    "digits-unseen-speaker": ("test_accuracy", "% right of speakers never heard", ""),
    "strings-blstm": ("test_wer", "word error rate, %", ""),
    "strings-las": ("test_wer", "word error rate, %", ""),
}
"""Rows of the README's table: metric, unit, published figure."""


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    found = by_label(records)
    return [
        Row("spoken digits", label, unit, paper, _percent(found[label], metric), found[label])
        for label, (metric, unit, paper) in MAIN.items()
        if label in found
    ]


PAGE = Page(page, results)
