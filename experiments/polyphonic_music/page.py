"""The results page: the published results, and the records beside them."""

from experiments.common.published import Benchmark, Published

PAPERS = {
    "Bai": "Bai et al. 2018",
    "Chung": "Chung et al. 2014",
    "Boulanger": "Boulanger-Lewandowski et al. 2012",
}

UNKNOWN = "unknown measure"


def _published(group: str, model: str, value: float, paper: str, label: str = "") -> Published:
    return Published(group, model, value, PAPERS[paper], label)


BENCHMARK = Benchmark(
    title="Polyphonic music",
    metric="test_nll",
    unit="nats per frame",
    group_by="dataset",
    groups={
        "jsb": "JSB Chorales",
        "nottingham": "Nottingham",
        "muse": "MuseData",
        "piano": "Piano-midi.de",
        "chorales": "Bach chorales of music21",
    },
    published=(
        _published("jsb", "LSTM", 8.45, "Bai", "jsb-lstm"),
        _published("jsb", "LSTM", 8.67, "Chung"),
        _published("jsb", "TCN", 8.10, "Bai", "jsb-lstm"),
        _published("jsb", "GRU", 8.43, "Bai", "jsb-gru"),
        _published("jsb", "GRU", 8.54, "Chung"),
        _published("jsb", "tanh RNN", 8.91, "Bai", "jsb-rnn"),
        _published("jsb", "tanh RNN", 9.10, "Chung"),
        _published("jsb", "RNN", 8.71, "Boulanger", "jsb-rnn"),
        _published("jsb", "RNN-RBM", 6.27, "Boulanger"),
        _published("jsb", "RNN-NADE", 5.56, "Boulanger", "jsb-lstm-nade"),
        _published("nottingham", "LSTM", 3.29, "Bai", "nottingham-lstm"),
        _published("nottingham", "LSTM", 3.20, "Chung", "nottingham-lstm"),
        _published("nottingham", "TCN", 3.07, "Bai", "nottingham-lstm"),
        _published("nottingham", "RNN", 4.46, "Boulanger"),
        _published("nottingham", "RNN-NADE", 2.31, "Boulanger"),
        _published("muse", f"LSTM, {UNKNOWN}", 6.23, "Chung", "muse-lstm"),
        _published("muse", "RNN", 8.13, "Boulanger", "muse-lstm"),
        _published("muse", "RNN-NADE", 5.60, "Boulanger"),
        _published("piano", f"LSTM, {UNKNOWN}", 9.03, "Chung", "piano-lstm"),
        _published("piano", "RNN", 8.37, "Boulanger", "piano-lstm"),
        _published("piano", "RNN-NADE", 7.05, "Boulanger"),
    ),
    note="`test_nll` is the mean over the frames 2..T of all sequences of the test set, each given all true "
    "frames before it. This is the measure of Bai et al. (`evaluate` in `TCN/poly_music/music_test.py` of "
    "their code). Boulanger-Lewandowski et al. do not say whether they count first frames, and Chung et al. "
    "do not say how they average over frames and sequences; their code sums over a sequence. So the second "
    "table has the mean of the sequences' own means, and the mean with first frames. By no measure here is a "
    "figure of 9.03 on Piano-midi.de that of a model that has learnt: the Markov chains, each of a single "
    "key that ignores all others, are better by each of them. So the figures of Chung et al. on MuseData and "
    "Piano-midi.de are shown, but compare with nothing else here. The published splits are not clean: in JSB "
    "Chorales 28 of 77 test chorales begin with the tune of a training chorale, and Nottingham has one test "
    "tune in its training part (`experiments/datasets/piano_rolls.py`). `chorales` is our own split, by "
    "melody; with frames twice as short and in all keys, its figures do not compare with those of JSB "
    "Chorales. The recipe of jsb-lstm was chosen anew, by the validation set alone, when the test set had "
    "been read with the earlier one of 200 units: on the test set it is no better. "
    "Minutes are of one core that other work shared, at times to a large part.",
    details={
        "test_nll_by_sequence": "mean of the sequences' means",
        "valid_nll_by_sequence": "the same, validation",
        "test_nll_all_frames": "mean over frames, first ones too",
    },
    digits=3,
)
