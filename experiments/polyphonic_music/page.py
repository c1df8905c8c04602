"""The results page: the published results, and the records beside them."""

from experiments.common.published import Benchmark, Published

PAPERS = {
    "Bai": "Bai et al. 2018",
    "Chung": "Chung et al. 2014",
    "Boulanger": "Boulanger-Lewandowski et al. 2012",
}


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
        _published("jsb", "GRU", 8.43, "Bai", "jsb-gru"),
        _published("jsb", "GRU", 8.54, "Chung"),
        _published("jsb", "tanh RNN", 8.91, "Bai", "jsb-rnn"),
        _published("jsb", "tanh RNN", 9.10, "Chung"),
        _published("jsb", "TCN", 8.10, "Bai"),
        _published("jsb", "RNN-RBM", 6.27, "Boulanger"),
        _published("jsb", "RNN-NADE", 5.56, "Boulanger", "jsb-lstm-nade"),
        _published("nottingham", "LSTM", 3.29, "Bai", "nottingham-lstm"),
        _published("nottingham", "LSTM", 3.20, "Chung"),
        _published("nottingham", "TCN", 3.07, "Bai"),
        _published("nottingham", "RNN-NADE", 2.31, "Boulanger"),
        _published("muse", "LSTM", 6.23, "Chung", "muse-lstm"),
        _published("muse", "RNN-NADE", 5.60, "Boulanger"),
        _published("piano", "LSTM", 9.03, "Chung", "piano-lstm"),
        _published("piano", "RNN-NADE", 7.05, "Boulanger"),
    ),
    note="The frames 2..T of every sequence of the test set, each given all true frames before it. The paper "
    "of the RNN-NADE does not say whether it counts first frames; the records have both as `test_nll` and "
    "`test_nll_all_frames`. The published splits are not clean: in JSB Chorales 28 of 77 test chorales begin "
    "with the tune of a training chorale, and Nottingham has one test tune in its training part "
    "(`experiments/datasets/piano_rolls.py`). `chorales` is our own split, by melody; with frames twice as "
    "short and in all keys, its figures do not compare with those of JSB Chorales. On MuseData our plain "
    "LSTM stays behind the published one. Minutes are of one core that other work shared.",
)
