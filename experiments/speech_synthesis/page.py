"""The results page: LSTMs beside dense layers, with a published range."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table, titled
from lstmjax.training.record import Record

MODELS = {
    "asterisk-blstm": "bidirectional LSTMs",
    "asterisk-dnn": "dense layers, as many parameters",
}
"""The meanings of the labels."""

COLUMNS = {
    "mcd_db": ("mel-cepstral distortion, dB", 2, 1.0),
    "f0_rmse_hz": ("F0, Hz", 1, 1.0),
    "f0_correlation": ("F0, correlation", 2, 1.0),
    "vuv_error": ("voice, %", 1, 100.0),
    "bap_db": ("aperiodicity, dB", 2, 1.0),
    "duration_rmse_ms": ("durations, ms", 1, 1.0),
}
"""For each metric its title, its decimals, and what it is multiplied by."""

INTRODUCTION = (
    "Speech of one speaker from text: a network gives each phone a duration, another one the parameters "
    "of WORLD's vocoder for every 5 ms. Bidirectional LSTMs are compared with dense layers that have as many "
    "parameters, the same inputs (phones with two neighbours on each side, stress, places in word and "
    "phrase, the place in the phone) and the same outputs, with differences and the most probable "
    "trajectory (MLPG).",
    "Figures are of the 81 prompts of the test split, 2.9 minutes, with the durations that were spoken and "
    "without pauses: errors, the smaller the better, but for the correlation. The prompts repeat each "
    "other, so splits are of families of phrases; 8 % of the word trigrams of the test are in the training "
    "split. Several seeds: mean ± sample standard deviation.",
    "Our aim was less than 6 dB, and LSTMs ahead in every column. The test split was read twice for the "
    "LSTMs: a first recipe, with smaller layers and all standardized features weighed alike, had 6.27 dB "
    "on the validation split and 6.29 dB on the test split. Then layers were made larger, long phrases cut, "
    "and the mel-cepstrum weighed as in the distortion, for both models: 5.75 dB on the validation split. "
    "The LSTMs had 12 passes over the training split, the dense layers 20.",
    "How near is near? Papers have other data, so no figure of theirs stands here. On a new voice "
    "of 50 to 300 sentences a user of Merlin reports 6.60 dB on the validation set and 6.79 dB on the test "
    "set (github.com/CSTR-Edinburgh/merlin, issue 132), with the same vocoder.",
)

LISTENING = (
    'For `python -m experiments speech_synthesis say "hello world"` the kept model is enough, without data, '
    "after `pip install .[speech]`. What is said, and the sounds of the pictures' phrases, are made "
    "livelier than the average that a network predicts (Silén et al. 2012); the figures are of what is "
    "predicted.",
)

HEARD = {
    "digits_wer": "ten digits, %",
    "strings_wer": "strings, %",
    "recorded_digits_wer": "ten recorded digits, %",
    "recorded_strings_wer": "strings of recordings, %",
}
"""Errors of the recogniser in synthesised digits, and in the speaker's own."""

HEARING = (
    "The closed loop: `python -m experiments speech_synthesis digits` has digits said by the kept model and "
    "heard by the kept network of `speech_recognition`; with `--recordings` it hears the speaker's own, "
    "which are in this data set. Word errors: wrong, missing and additional digits. The recogniser has "
    "learnt from six other speakers. Recorded digits of a string are 0.2 s apart, synthesised ones have the "
    "pauses of commas, which it hears better: the two are not quite alike."
)


def _heard(records: Sequence[Record]) -> str:
    """The errors of the recogniser, of the records that have them."""
    rows = [["model", *HEARD.values()]]
    for label, own in by_label(records).items():
        figures = [mean_of(own, f"test_{metric}", 1, 100) for metric in HEARD]
        rows += [[f"**{label}**", *figures]] if any(figures) else []
    return f"## Heard by the recogniser\n\n{HEARING}\n\n{table(rows)}" if len(rows) > 1 else ""


UNIT = "mel-cepstral distortion, dB"


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    rows = [["model", *(title for title, *_ in COLUMNS.values()), "parameters", "seeds", "minutes", "device"]]
    for label, own in by_label(records).items():
        figures = [
            mean_of(own, f"test_{metric}", digits, scale) for metric, (_, digits, scale) in COLUMNS.items()
        ]
        parameters = f"{own[0].metrics['parameters']:,.0f}"
        rows.append([titled(label, MODELS), *figures, parameters, str(len(own)), minutes(own), own[0].device])
    parts = ["# Speech synthesis", *INTRODUCTION]
    if records:
        parts += [table(rows), commands(records), *LISTENING, _heard(records)]
    parts += [
        f"![Spectrograms of {label}](pictures/{label}/spectrograms.jpg)"
        for label in by_label(records)
        if label == "asterisk-blstm"
    ]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    return [
        Row(
            "prompts of Asterisk",
            label,
            "mel-cepstral distortion, dB",
            "",
            mean_of(own, "test_mcd_db", 2),
            own,
        )
        for label, own in by_label(records).items()
        if label in MODELS
    ]


PAGE = Page(page, results)
