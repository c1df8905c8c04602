"""Windows of a token stream: what follows what, nothing lost, nothing twice, no more read than needed."""

import numpy as np
import pytest

from lstmjax.streams import TokenStream


def test_windows_follow_one_another_in_every_row():
    """Rows and steps as in Zaremba et al.: of 23 tokens and 3 rows, rows of 7 targets, windows of 2."""
    stream = TokenStream(np.arange(23), batch_size=3, time=2)
    assert stream.steps_per_epoch == 3
    windows = [stream.at(seed=0, step=step) for step in range(4)]
    rows = np.concatenate([window.inputs for window in windows[:3]], axis=1)
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 4, 5], [7, 8, 9, 10, 11, 12], [14, 15, 16, 17, 18, 19]])
    for window in windows:
        np.testing.assert_array_equal(window.targets, window.inputs + 1)
        np.testing.assert_array_equal(window.lengths, [2, 2, 2])
    assert [bool(window.first) for window in windows] == [True, False, False, True]
    np.testing.assert_array_equal(windows[3].inputs, windows[0].inputs)


@pytest.mark.parametrize("tokens", [2, 7, 24, 25])
@pytest.mark.parametrize(("rows", "time"), [(1, 1), (1, 5), (2, 3), (5, 4)])
def test_once_has_every_target_once_behind_its_own_token(tokens, rows, time):
    found = []
    for window in TokenStream(np.arange(100, 100 + tokens), rows, time).once():
        assert window.inputs.shape == window.targets.shape == (rows, time)
        for row, length in enumerate(window.lengths):
            np.testing.assert_array_equal(window.targets[row, :length], window.inputs[row, :length] + 1)
            assert not window.targets[row, length:].any()
            found += window.targets[row, :length].tolist()
    assert sorted(found) == list(range(101, 100 + tokens))


def test_an_epoch_and_once_agree_where_nothing_is_left_over():
    stream = TokenStream(np.arange(13), batch_size=2, time=3)
    for step, window in enumerate(stream.once()):
        for one, other in zip(window, stream.at(0, step), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_file_larger_than_what_is_read_is_read_in_slices(tmp_path):
    """A memory map goes in as it is, and no batch reads more of it than its windows."""
    path = tmp_path / "tokens.bin"
    np.arange(10_000, dtype=np.uint16).tofile(path)
    read = []

    class Counting(np.memmap):
        def __getitem__(self, key):
            read.append(len(range(*key.indices(10_000))))
            return super().__getitem__(key)

    window = TokenStream(Counting(path, np.uint16, mode="r"), batch_size=4, time=5).at(0, 7)
    assert read == [6] * 4
    np.testing.assert_array_equal(window.inputs[1], 2499 + 35 + np.arange(5))


@pytest.mark.parametrize(
    ("tokens", "rows", "time", "message"),
    [
        (np.arange(10), 0, 2, "must be positive, got 0 and 2"),
        (np.arange(6), 3, 2, "6 tokens do not give 3 rows a window of 2 steps .* it takes 7"),
        (np.arange(6.0), 1, 2, "vector of integers, got float64"),
        (np.zeros((3, 3), int), 1, 2, r"vector of integers, got int64 of shape \(3, 3\)"),
    ],
)
def test_what_gives_no_window_is_named(tokens, rows, time, message):
    with pytest.raises(ValueError, match=message):
        TokenStream(tokens, rows, time).at(0, 0)
