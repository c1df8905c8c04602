"""What the papers report, to stand beside the records."""

from typing import NamedTuple


class Paper(NamedTuple):
    """A published result."""

    problem: str
    length: int
    """T; 0 for any."""
    network: str
    success: str
    """Successful trials in per cent."""
    sequences: str
    """Sequences until success, mean of the successful trials."""
    wrong: str
    """Wrong sequences of 2,560; for copy memory the loss in nats."""
    parameters: str
    source: str
    cell: str = "lstm"
    """Our cell to compare with it, or none."""

    def __str__(self) -> str:
        return f"{self.network}: {self.sequences or f'{self.success} % solved'} ({self.source})"


_1997 = "Hochreiter and Schmidhuber 1997"
_2000 = "Gers et al. 2000, table 2, at second hand"

PAPERS = (
    Paper("adding", 100, "LSTM", "", "74,000", "1", "93", f"{_1997}, table 7"),
    Paper("adding", 400, "LSTM with T = 500", "", "209,000", "0", "93", f"{_1997}, table 7"),
    Paper("adding", 500, "LSTM", "", "209,000", "0", "93", f"{_1997}, table 7"),
    Paper("adding", 1000, "LSTM", "", "853,000", "1", "93", f"{_1997}, table 7"),
    Paper("multiplication", 100, "LSTM, n_seq = 13", "", "1,273,000", "14", "93", f"{_1997}, table 8"),
    Paper("two-sequence-noisy", 100, "LSTM, N = 3, ST2", "", "43,250", "21.2", "102", f"{_1997}, table 5"),
    Paper("temporal-order-2", 0, "LSTM, task 6a", "", "31,390", "1", "156", f"{_1997}, table 9"),
    Paper("temporal-order-3", 0, "LSTM, task 6b", "", "571,100", "2", "308", f"{_1997}, table 9"),
    Paper("two-sequence", 100, "LSTM, N = 3, ST2", "", "39,850", "0.5", "102", f"{_1997}, table 4"),
    Paper("reber", 0, "LSTM, 3 blocks of 2, rate 0.5", "100", "8,440", "", "276", f"{_1997}, table 1"),
    Paper("reber", 0, "LSTM, 4 blocks of 1, rate 0.1", "100", "39,740", "", "264", f"{_1997}, table 1"),
    Paper("reber", 0, "Elman net", "0", "> 200,000", "", "435", "Cleeremans et al. 1989", "rnn"),
    Paper("reber", 0, "RTRL, 12 units", "some", "25,000", "", "494", "Smith and Zipser 1989", "rnn"),
    Paper("continual-reber", 100, "LSTM with forget gates", "18", "", "", "424", _2000),
    Paper("continual-reber", 100, "the same, rate decaying", "62", "", "", "424", _2000),
    Paper("continual-reber", 100, "LSTM of 1997, reset at each string", "74", "", "", "", _2000, "none"),
)
"""From the tables of the paper of 1997, which quotes those of Cleeremans et al. and of Smith and Zipser; what
is of Gers et al. 2000 comes from notes on their paper."""
