"""Utterances: recordings of single digits, strings that are made from them, and batches of both."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments import datasets
from experiments.datasets import Splits
from experiments.datasets.audio import power_spectra
from experiments.datasets.spoken_digits import RATE, Recording
from experiments.speech_recognition.config import Config
from experiments.speech_recognition.features import plain, varied
from lstmjax.training.batching import Buckets, pad

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""Digit d is class d + 1; class 0 is the blank of CTC, and the end of a decoder with attention."""

CLASSES = len(WORDS) + 1

LONGEST = 7
"""Digits of the longest string; all numbers of digits are equally frequent."""

NOTHING = (0.2, 2.0)
"""Range of the seconds of strings without digits."""

LONGEST_GAP = 0.3
"""Seconds of the longest gap around a digit of a string."""

NO_GAP = 0.25
"""Share of the gaps that are none: recordings are cut close to what is said."""

COUNTS = {"train": 0, "valid": 300, "test": 1000}
"""Strings of each split; those of the training set are for the config to say."""


class Utterance(NamedTuple):
    """What somebody says."""

    spectra: np.ndarray
    """float32 [frames, frequencies]: the power spectra of frames of 25 ms, every 10 ms."""
    labels: np.ndarray
    """int32 [digits]: their classes."""
    speaker: int
    """Index in `SPEAKERS`."""


def utterance(samples: np.ndarray, digits: Sequence[int], speaker: str) -> Utterance:
    """The utterance of a sound at `RATE`."""
    labels = np.array(digits, np.int32) + 1
    return Utterance(power_spectra(samples, RATE).astype(np.float32), labels, SPEAKERS.index(speaker))


class Plan(NamedTuple):
    """A string: recordings of one speaker, and the gaps before, between and after them."""

    recordings: tuple[int, ...]
    gaps: tuple[int, ...]
    """In samples; one more than there are recordings."""


@dataclasses.dataclass(frozen=True, eq=False)
class Strings(Sequence[Utterance]):
    """Connected digit strings made from recordings of single digits, each when it is asked for.

    Each string is of one speaker. Gaps have white noise, as loud as the quietest tenth of the recordings.

    Args:
      recordings: single digits.
      size: the number of strings.
      seed: of their choice.
      shortest: digits of the shortest string; with 0 there are strings of noise alone, of no speaker.
    """

    recordings: Sequence[Recording]
    size: int
    seed: int
    shortest: int = 1

    @functools.cached_property
    def plans(self) -> tuple[Plan, ...]:
        """What each string is made of."""
        random = np.random.default_rng(self.seed)
        speakers = sorted({each.speaker for each in self.recordings})
        own = [
            [index for index, each in enumerate(self.recordings) if each.speaker == speaker]
            for speaker in speakers
        ]
        plans = []
        for number in range(self.size):
            digits = random.integers(self.shortest, LONGEST + 1)
            chosen = random.choice(own[number % len(own)], digits)
            least, most = (0, LONGEST_GAP) if digits else NOTHING
            gaps = random.integers(round(least * RATE), round(most * RATE), digits + 1)
            if digits:
                gaps *= random.random(digits + 1) >= NO_GAP
            plans.append(Plan(tuple(map(int, chosen)), tuple(map(int, gaps))))
        return tuple(plans)

    def samples(self, index: int) -> np.ndarray:
        """The sound of a string, float32 ``[time]``."""
        random, plan = np.random.default_rng((self.seed, index)), self.plans[index]
        spoken = [self.recordings[number].samples for number in plan.recordings]
        level = min((np.percentile(np.abs(each), 10) for each in spoken), default=1e-3)
        gaps = [level * random.normal(size=gap) for gap in plan.gaps]
        pieces = [piece for pair in zip(gaps, spoken, strict=False) for piece in pair]
        return np.concatenate([*pieces, gaps[-1]]).astype(np.float32)

    def digits(self, index: int) -> tuple[int, ...]:
        """What is said in a string."""
        return tuple(self.recordings[number].digit for number in self.plans[index].recordings)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Utterance:  # type: ignore[override]
        chosen = self.plans[index].recordings
        speaker = self.recordings[chosen[0]].speaker if chosen else SPEAKERS[0]
        return utterance(self.samples(index), self.digits(index), speaker)

    @functools.cached_property
    def frames(self) -> list[int]:
        """The number of frames of each string."""
        sizes = [len(each.samples) for each in self.recordings]
        totals = [sum(plan.gaps) + sum(sizes[number] for number in plan.recordings) for plan in self.plans]
        return [1 + (total - round(0.025 * RATE)) // round(0.010 * RATE) for total in totals]


class Batch(NamedTuple):
    """What the networks read of utterances, padded; rows that fill up a batch have length 0."""

    values: np.ndarray
    """float32 [batch, time, 2 * bands]: see `features`."""
    lengths: np.ndarray
    """int32 [batch]: frames."""
    labels: np.ndarray
    """int32 [batch, digits]: 0 beyond the last."""
    label_lengths: np.ndarray
    """int32 [batch]: digits."""
    speakers: np.ndarray
    """int32 [batch]: -1 for rows that fill up the batch."""


SHARES = (0.4, 0.8, 0.97, 1.0)
"""Quantiles of the lengths that utterances of the training set are padded to; each is compiled."""

EVALUATION_SHARES = (0.9, 1.0)
"""The same in evaluation."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """Batches of utterances of similar length, as a function of seed and step.

    Args:
      utterances: at least one.
      bands: of the log-mel energies.
      batch_frames: frames of a batch, padding included.
      varies: whether training batches are varied at random.
      shares: quantiles of the lengths that utterances are padded to, or, in evaluation, to the next power of
        two, so that splits have the same shapes.
    """

    utterances: Sequence[Utterance]
    bands: int
    batch_frames: int
    varies: bool
    shares: Sequence[float] = SHARES
    evaluates: bool = False

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        if isinstance(self.utterances, Strings):
            return np.array(self.utterances.frames)
        return np.array([len(each.spectra) for each in self.utterances])

    @functools.cached_property
    def _times(self) -> np.ndarray:
        times = np.quantile(self._lengths, self.shares, method="higher").astype(int)
        if self.evaluates:
            times = 1 << np.ceil(np.log2(times)).astype(int)
        return np.unique(times)

    @functools.cached_property
    def _most_digits(self) -> int:
        return LONGEST if isinstance(self.utterances, Strings) else 1

    @functools.cached_property
    def _buckets(self) -> Buckets:
        rows = tuple(max(self.batch_frames // int(time), 1) for time in self._times)
        return Buckets(np.searchsorted(self._times, self._lengths), rows, self._lengths)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that have every utterance once."""
        return self._buckets.steps_per_epoch

    def at(self, seed: int, step: int) -> Batch:
        """The training batch of a step; each epoch is shuffled separately."""
        random = np.random.default_rng((seed, step)) if self.varies else None
        return self._padded(*self._buckets.at(seed, step), random)

    def once(self) -> Iterator[Batch]:
        """Every utterance once, shortest first, for evaluation."""
        for bucket, indices in self._buckets.once():
            yield self._padded(bucket, indices, None)

    @property
    def order(self) -> np.ndarray:
        """The index of the utterance of each row of `once`, without those that fill up a batch."""
        return np.concatenate([indices for _, indices in self._buckets.once()])

    def _padded(self, bucket: int, indices: np.ndarray, random: np.random.Generator | None) -> Batch:
        chosen, rows = [self.utterances[int(index)] for index in indices], self._buckets.rows[bucket]
        time = int(self._times[bucket])
        values = [
            plain(each.spectra, self.bands)
            if random is None
            else varied(each.spectra, self.bands, random, time)
            for each in chosen
        ]
        labels = pad([each.labels for each in chosen], self._most_digits, rows)
        speakers = np.full(rows, -1, np.int32)
        speakers[: len(chosen)] = [each.speaker for each in chosen]
        return Batch(*pad(values, time, rows), *labels, speakers)


def load(config: Config) -> Splits[Recording]:
    """The recordings of a config; with unseen speakers, those of the official test split are trained on, too.

    Which speaker a network hears is `heard`'s to say.
    """
    parts = datasets.load("spoken-digits", config.data_dir).limited(config.limit)
    if config.dataset == "unseen-speaker":
        every = (*parts.test, *parts.valid, *parts.train)
        return Splits((*parts.test, *parts.train), every if config.inner else parts.valid, every)
    return parts


def make_utterances(config: Config, recordings: Sequence[Recording], part: str) -> Sequence[Utterance]:
    """The utterances of a split."""
    if config.dataset == "strings":
        count = COUNTS[part] or config.strings
        seed = list(COUNTS).index(part)
        return Strings(recordings, min(count, config.strings), seed, shortest=int(part != "train"))
    return tuple(utterance(each.samples, (each.digit,), each.speaker) for each in recordings)


def make_batches(config: Config, utterances: Sequence[Utterance], evaluation: bool = False) -> Batches:
    """Batches of a split."""
    shares = SHARES[-1:] if config.quick else EVALUATION_SHARES if evaluation else SHARES
    varies = config.augment and not evaluation
    return Batches(utterances, config.bands, config.batch_frames, varies, shares, evaluation)


def heard(config: Config, part: str) -> tuple[tuple[bool, ...], ...]:
    """Which network is trained, validated or tested on which speaker.

    Network m of six is tested on speaker m, and on no other; with `Config.inner` it is validated on the next
    speaker. All others it is trained on.

    Args:
      config: the choice of the data set.
      part: ``train``, ``valid`` or ``test``.

    Returns:
      Booleans ``[models][speakers]``.
    """
    if config.dataset != "unseen-speaker":
        return ((True,) * len(SPEAKERS),)
    tested = np.eye(len(SPEAKERS), dtype=bool)
    following = np.roll(tested, 1, axis=1)
    chosen = {
        "test": tested,
        "valid": following if config.inner else ~tested,
        "train": ~tested & ~following if config.inner else ~tested,
    }[part]
    return tuple(tuple(map(bool, row)) for row in chosen)
