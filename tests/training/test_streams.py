"""Windows of a token stream: what follows what, nothing lost, nothing twice, no more read than needed."""

import numpy as np
import pytest

from lstmjax.training.streams import TokenStream, VariableTokenStream, WindowLengths


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


def variable(tokens=1000, rows=3, time=20, **options):
    return VariableTokenStream(np.arange(tokens), rows, WindowLengths(time, **options), multiple=8)


@pytest.mark.parametrize(("tokens", "rows"), [(1000, 3), (77, 1), (6, 5), (2000, 20)])
def test_every_target_of_a_row_is_there_once_in_each_epoch_of_windows_of_any_length(tokens, rows):
    stream, row, found = variable(tokens, rows), (tokens - 1) // rows, []
    for step in range(60):
        window = stream.at(seed=1, step=step)
        (length,) = set(window.lengths.tolist())
        assert window.inputs.shape == window.targets.shape == (rows, -(-length // 8) * 8)
        assert not window.inputs[:, length:].any()
        assert not window.targets[:, length:].any()
        np.testing.assert_array_equal(window.targets[:, :length], window.inputs[:, :length] + 1)
        assert bool(window.first) == (sum(map(len, found)) % row == 0), "the state starts afresh"
        found.append(window.targets[:, :length].T)
    seen = np.concatenate(found)
    expected = 1 + np.arange(row)[:, None] + row * np.arange(rows)
    for epoch in range(len(seen) // row):
        np.testing.assert_array_equal(seen[epoch * row : (epoch + 1) * row], expected)


def test_variable_windows_are_a_function_of_seed_and_step_alone():
    stream, other = variable(), variable()
    straight = [stream.at(5, step) for step in range(60)]
    for step in (59, 0, 31, 7):
        for one, again in zip(straight[step], other.at(5, step), strict=True):
            np.testing.assert_array_equal(one, again)
    lengths = [int(window.lengths[0]) for window in straight]
    assert lengths != [int(stream.at(6, step).lengths[0]) for step in range(60)]
    first, second = (step for step, window in enumerate(straight[:40]) if window.first and step < 30)
    assert lengths[first : first + 10] != lengths[second : second + 10], "each epoch is cut in its own way"
    assert stream.steps_per_epoch == pytest.approx(second - first, abs=3)


def test_lengths_have_the_distribution_of_the_paper():
    """Around 70 with probability 0.95, else around 35, five at least, and cut off as int() does."""
    lengths = WindowLengths(70).draw(np.random.default_rng(3), 200_000)
    short = lengths < 50
    assert short.mean() == pytest.approx(0.05, abs=0.003)
    for part, center in ((lengths[~short], 70), (lengths[short], 35)):
        assert part.mean() == pytest.approx(center - 0.5, abs=0.2)
        assert part.std() == pytest.approx(5, abs=0.15)
    assert WindowLengths(70).mean == pytest.approx(lengths.mean(), abs=0.1)
    assert WindowLengths(6).draw(np.random.default_rng(3), 1000).min() == 5
    assert set(WindowLengths(7, stddev=0.0, halved=0.0).draw(np.random.default_rng(3), 9)) == {7}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"time": 0}, "must be positive"), ({"stddev": -1.0}, "not negative"), ({"halved": 2.0}, "0.* and 2.0")],
)
def test_lengths_that_make_no_sense_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        variable(**options)


@pytest.mark.parametrize(
    ("tokens", "rows", "message"),
    [
        (np.arange(5), 5, "VariableTokenStream: 5 tokens do not give 5 rows a window of 1 steps .* takes 6"),
        (np.arange(9), 0, "VariableTokenStream: batch_size and multiple must be positive, got 0 and 16"),
    ],
)
def test_what_gives_no_variable_window_is_named(tokens, rows, message):
    with pytest.raises(ValueError, match=message):
        VariableTokenStream(tokens, rows, WindowLengths(5))
