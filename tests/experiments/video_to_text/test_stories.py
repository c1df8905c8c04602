"""Stories of moving digits: sentences are true of the frames, and nothing of the test is in the training."""

import numpy as np
import pytest

from experiments.video_to_text import grammar
from experiments.video_to_text.data import END, MovingDigits, decode, digits_vocabulary, encode
from experiments.video_to_text.rendering import SIDE, render

SIZE = 14
DOTS = {digit: np.full((1, SIZE, SIZE), 10 * digit + 100, np.uint8) for digit in range(10)}
"""Squares, each digit of another grey."""


def told(sentence):
    """What a sentence says of each digit: digit, first direction, what comes after it."""
    parts = sentence.replace(" while ", " | ").replace(" then the ", " | the ").split(" | ")
    return [(int(words[2]), words[4], words[5:]) for words in (part.split() for part in parts)]


def corners(video, digit):
    """Top left of a square in each frame, found by looking."""
    found = []
    for frame in video:
        rows, columns = np.nonzero(frame == 10 * digit + 100)
        found.append((rows.min(), columns.min()))
    return np.array(found)


@pytest.mark.parametrize("held_out", [True, False])
def test_a_sentence_about_one_digit_is_true_of_the_frames(held_out):
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(200):
        story = grammar.draw(rng, 1, "combinations", held_out)
        ((digit, direction, after),) = told(story.sentence)
        path = story.actors[0].places(np.linspace(0, 1, 20))
        seen = corners(render(rng, story, DOTS, 20), digit)
        np.testing.assert_allclose(seen, path * (SIDE - SIZE), atol=0.51)
        step = np.array(grammar.DIRECTIONS[direction])
        steps = np.sign(np.diff(path, axis=0).round(9))
        assert (steps[:4] == step).all(), story
        if "then" in after:
            assert (steps[-4:] == np.array(grammar.DIRECTIONS[after[2]])).all(), story
            kinds.add("turns")
            continue
        assert (steps == -step)[:, step != 0].any() == (after[-1] == "bounces"), story
        share = np.abs(np.diff(path[:4], axis=0)).max() * 19
        assert (share > 0.6) == (after[0] == "quickly"), story
        kinds |= set(after)
    assert kinds == {"turns", "and", "bounces", "slowly", "quickly"}


def test_of_two_digits_the_first_moves_first_or_both_at_once():
    rng = np.random.default_rng(2)
    for _ in range(100):
        story = grammar.draw(rng, 2, "combinations", held_out=False)
        (first, *_), (second, *_) = told(story.sentence)
        early, late = (
            [bool(np.ptp(actor.places(np.linspace(*half, 9)), axis=0).any()) for actor in story.actors]
            for half in ((0, 0.5), (0.5, 1))
        )
        if " while " in story.sentence:
            assert early == late == [True, True]
            assert first < second
        else:
            assert (early, late) == ([True, False], [False, True])
        assert [actor.digit for actor in story.actors] == [first, second]


@pytest.mark.parametrize("digits", [1, 2])
def test_no_motion_of_training_is_held_out_and_each_first_one_of_the_test_is(digits):
    rng = np.random.default_rng(3)
    for held_out in (False, True):
        for _ in range(300):
            for digit, direction, after in told(grammar.draw(rng, digits, "combinations", held_out).sentence):
                assert grammar.is_held_out(digit, direction) == held_out
                if not held_out and "then" in after:
                    assert not grammar.is_held_out(digit, after[2])
    pairs = [(digit, each) for digit in range(10) for each in grammar.DIRECTIONS]
    held = [pair for pair in pairs if grammar.is_held_out(*pair)]
    assert len(held) == 16
    assert {digit for digit, _ in held} == set(range(10))
    assert {direction for _, direction in held} == set(grammar.DIRECTIONS)


def test_the_split_of_sync_draw_has_twenty_combinations_and_holds_a_half_out():
    rng = np.random.default_rng(4)
    seen, held = (
        {grammar.draw(rng, 1, "sync-draw", held_out).sentence for _ in range(300)}
        for held_out in (False, True)
    )
    assert len(seen) == len(held) == 10
    assert not seen & held
    story = grammar.draw(rng, 2, "sync-draw", held_out=True)
    for actor, sentence in zip(story.actors, story.sentence.split(" and the "), strict=True):
        still = np.ptp(actor.places(np.linspace(0, 1, 20)), axis=0) == 0
        assert still.tolist() == [False, True] if "up" in sentence else [True, False]


def test_no_place_is_beyond_the_border():
    rng = np.random.default_rng(5)
    for split in ("combinations", "sync-draw"):
        for _ in range(100):
            for actor in grammar.draw(rng, 2, split, held_out=True).actors:
                places = actor.places(np.linspace(0, 1, 64))
                assert places.min() >= 0
                assert places.max() <= 1


def test_where_two_digits_overlap_the_darker_ink_is_seen():
    actor = grammar.Actor(3, (0.5, 0.5), ())
    story = grammar.Story((actor, actor._replace(digit=7)), "")
    video = render(np.random.default_rng(0), story, DOTS, 2)
    assert set(np.unique(video)) == {0, 170}
    assert video.shape == (2, SIDE, SIDE)


@pytest.mark.parametrize("split", ["combinations", "sync-draw"])
@pytest.mark.parametrize("digits", [1, 2])
def test_batches_have_a_true_sentence_for_each_video_and_fill_up(split, digits):
    words = digits_vocabulary(split)
    batches = MovingDigits(DOTS, words, digits, split, True, (5, 9), rows=4, count=6, part=1)
    found = list(batches.once())
    assert [batch.items.tolist() for batch in found] == [[0, 1, 2, 3], [4, 5, -1, -1]]
    assert found[1].source.lengths[2:].tolist() == found[1].target.lengths[2:].tolist() == [0, 0]
    for batch in found:
        for row in np.flatnonzero(batch.items >= 0):
            length = batch.target.lengths[row]
            sentence = batch.target.values[row, :length]
            assert sentence[-1] == END
            text = decode(words, sentence.tolist())
            assert "<unk>" not in text
            assert encode(words, text).tolist() == sentence.tolist()
            assert (text,) == list(batches.references())[batch.items[row]]
            greys = set(np.unique(batch.source.values[row])) - {0}
            assert greys == {10 * int(word) + 100 for word in text.split() if word.isdigit()}
            assert 5 <= batch.source.lengths[row] <= 9


def test_training_with_two_digits_can_begin_with_one():
    words = digits_vocabulary("combinations")
    batches = MovingDigits(DOTS, words, 2, "combinations", False, (5, 9), rows=4, count=4, part=0, alone=3)

    def digits_of(batch):
        return {len(told(decode(words, row.tolist()))) for row in batch.target.values}

    assert [digits_of(batches.at(1, step)) for step in range(5)] == [{1}, {1}, {1}, {2}, {2}]
    (valid,) = batches.once()
    assert digits_of(valid) == {2}
