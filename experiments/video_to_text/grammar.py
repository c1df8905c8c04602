"""Stories of moving digits: what happens, the sentence that tells it, and which combinations are held out.

One digit moves in one direction, or bounces off the border, or turns; two digits move at once, or one after
the other:

    the digit 3 moves up slowly
    the digit 3 moves up-left slowly and bounces
    the digit 3 moves up slowly then left quickly
    the digit 3 moves up slowly and bounces while the digit 7 moves left quickly
    the digit 7 moves up slowly then the digit 3 moves left quickly

Digits that move at once are told in ascending order. A combination of digit and direction is held out or it
is not: no motion of training is, and of the test the first motion of every digit.

The other split is that of Sync-DRAW (Mittal et al. 2017, arXiv:1611.10314): ``the digit 3 is moving up and
down``, with 20 combinations of digit and motion, 400 for two digits. As in its authors' code, a half of the
combinations is held out: of each digit, one motion.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

Choice = TypeVar("Choice")
Split = Literal["combinations", "sync-draw"]

DIRECTIONS = {
    "up": (-1, 0),
    "down": (1, 0),
    "left": (0, -1),
    "right": (0, 1),
    "up-left": (-1, -1),
    "up-right": (-1, 1),
    "down-left": (1, -1),
    "down-right": (1, 1),
}
"""Steps in y, downwards, and in x."""

SPEEDS = {"slowly": (0.3, 0.45), "quickly": (0.75, 0.95)}
"""Ranges of the way in the time of a whole video; the room between the borders is 1."""

ROCKING = {"up and down": "up", "left and right": "left"}
"""The motions of Sync-DRAW, each with a direction that it may begin with."""

ROCKING_WAY = (1.2, 1.8)
"""The way of such a motion: it meets the border once or twice."""

HIT = (0.3, 0.7)
"""When a bouncing digit meets the border, in shares of its motion."""


KINDS: dict[Split, dict[str, tuple[str, ...]]] = {
    "combinations": {
        "digit": tuple("0123456789"),
        "direction": tuple(DIRECTIONS),
        "speed": tuple(SPEEDS),
    },
    "sync-draw": {"digit": tuple("0123456789"), "direction": tuple(ROCKING.values())},
}
"""Kinds of words that tell something, of which accuracies are reported."""


class Leg(NamedTuple):
    """A motion in a straight line, but for the border."""

    first: float
    """Its beginning, as a share of the video."""
    last: float
    way: tuple[float, float]
    """In y and x, in rooms, if there were no border."""


class Actor(NamedTuple):
    """A digit and how it moves."""

    digit: int
    start: tuple[float, float]
    """In y and x: 0 and 1 are the borders."""
    legs: tuple[Leg, ...]

    def places(self, times: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "frames 2"]:
        """The places at times, given as shares of the video; 0 and 1 are the borders."""
        places = np.tile(np.array(self.start, np.float64), (len(times), 1))
        for leg in self.legs:
            done = np.clip((times - leg.first) / (leg.last - leg.first), 0, 1)
            places += done[:, None] * np.array(leg.way)
        return 1 - np.abs(places % 2 - 1)  # the border reflects


class Story(NamedTuple):
    """What happens in a video."""

    actors: tuple[Actor, ...]
    sentence: str


def is_held_out(digit: int, direction: str) -> bool:
    """Whether a combination of digit and direction is for the test: 16 of 80, of each digit one or two."""
    return (digit + 3 * list(DIRECTIONS).index(direction)) % 5 == 0


def is_rocking_held_out(digit: int, motion: str) -> bool:
    """The same of the combinations of Sync-DRAW: 10 of 20, of each digit one."""
    return (digit + list(ROCKING).index(motion)) % 2 == 0


def draw(rng: np.random.Generator, digits: int, split: Split, held_out: bool) -> Story:
    """A random story.

    Args:
      rng: where chance comes from.
      digits: one or two digits; two are different.
      split: which combinations there are.
      held_out: whether every digit begins with a combination that is held out.
    """
    chosen = rng.permutation(10)[:digits].tolist()
    if split == "sync-draw":
        return _rocking(rng, sorted(chosen), held_out)
    if digits == 2 and rng.random() < 0.5:
        parts = [
            _moves(rng, digit, held_out, span)
            for digit, span in zip(chosen, ((0, 0.5), (0.5, 1)), strict=True)
        ]
        return _joined(parts, " then ")
    kinds = (_moves, _bounces, _turns) if digits == 1 else (_moves, _bounces)
    return _joined([_one(rng, kinds)(rng, each, held_out) for each in sorted(chosen)], " while ")


def _joined(parts: Sequence[Story], by: str) -> Story:
    actors = tuple(actor for part in parts for actor in part.actors)
    return Story(actors, by.join(part.sentence for part in parts))


def _moves(rng: np.random.Generator, digit: int, held_out: bool, span: tuple[float, float] = (0, 1)) -> Story:
    direction, speed = _direction(rng, digit, held_out), _speed(rng)
    legs = (_leg(rng, direction, speed, span),)
    return Story((Actor(digit, _start(rng, legs), legs),), f"the digit {digit} moves {direction} {speed}")


def _bounces(rng: np.random.Generator, digit: int, held_out: bool) -> Story:
    story = _moves(rng, digit, held_out)
    (actor,) = story.actors
    (leg,) = actor.legs
    axis = _one(rng, [axis for axis, way in enumerate(leg.way) if way])
    y, x = actor.start
    place = float(leg.way[axis] > 0) - rng.uniform(*HIT) * leg.way[axis]
    start = (y, place) if axis else (place, x)
    return Story((actor._replace(start=start),), f"{story.sentence} and bounces")


def _turns(rng: np.random.Generator, digit: int, held_out: bool) -> Story:
    first, speed, then_speed = _direction(rng, digit, held_out), _speed(rng), _speed(rng)
    opposite = tuple(-step for step in DIRECTIONS[first])
    others = [
        name
        for name, step in DIRECTIONS.items()
        if name != first and step != opposite and (held_out or not is_held_out(digit, name))
    ]
    then = _one(rng, others)
    legs = (_leg(rng, first, speed, (0, 0.5)), _leg(rng, then, then_speed, (0.5, 1)))
    sentence = f"the digit {digit} moves {first} {speed} then {then} {then_speed}"
    return Story((Actor(digit, _start(rng, legs), legs),), sentence)


def _rocking(rng: np.random.Generator, digits: Sequence[int], held_out: bool) -> Story:
    parts = []
    for digit in digits:
        motion = next(each for each in ROCKING if is_rocking_held_out(digit, each) == held_out)
        way = _one(rng, (-1, 1)) * rng.uniform(*ROCKING_WAY)
        step = DIRECTIONS[ROCKING[motion]]
        leg = Leg(0, 1, (way * step[0], way * step[1]))
        start = (rng.uniform(), rng.uniform())
        parts.append(Story((Actor(digit, start, (leg,)),), f"the digit {digit} is moving {motion}"))
    return _joined(parts, " and ")


def _direction(rng: np.random.Generator, digit: int, held_out: bool) -> str:
    return _one(rng, [each for each in DIRECTIONS if is_held_out(digit, each) == held_out])


def _speed(rng: np.random.Generator) -> str:
    return _one(rng, list(SPEEDS))


def _leg(rng: np.random.Generator, direction: str, speed: str, span: tuple[float, float]) -> Leg:
    way = rng.uniform(*SPEEDS[speed]) * (span[1] - span[0])
    step = DIRECTIONS[direction]
    return Leg(*span, (way * step[0], way * step[1]))


def _start(rng: np.random.Generator, legs: Sequence[Leg]) -> tuple[float, float]:
    """A place from which no border is met."""
    y, x = (_free(rng, ways) for ways in zip(*(leg.way for leg in legs), strict=True))
    return y, x


def _free(rng: np.random.Generator, ways: Sequence[float]) -> float:
    passed = [0.0, *itertools.accumulate(ways)]
    return rng.uniform(-min(passed), 1 - max(passed))


def _one(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    return choices[int(rng.integers(len(choices)))]
