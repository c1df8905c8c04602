"""What a run leaves to look at and to listen to: spectrograms and sounds of phrases of the test split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.datasets.asterisk import RATE
from experiments.datasets.audio import log_mel
from experiments.speech_synthesis import evaluation, vocoder
from experiments.speech_synthesis.data import Spoken
from experiments.speech_synthesis.synthesis import livelier
from experiments.speech_synthesis.task import Saved
from experiments.speech_synthesis.vocoder import FRAME, Speech

EXAMPLES = 3
"""Phrases that are drawn and written."""

LONGEST = 300
"""Steps of the longest phrase that is an example."""

BANDS = 80


def write(saved: Saved, phrases: Sequence[Spoken], folder: Path) -> None:
    """Write sounds of examples, as analysed and as synthesised, and `spectrograms.jpg`."""
    chosen = examples(phrases)
    given = evaluation.synthesised(saved, chosen)
    rows = []
    for number, (phrase, speech) in enumerate(zip(chosen, given, strict=True), start=1):
        versions = {
            "vocoder": phrase.speech,
            "synthesised": livelier(speech, saved.statistics),
        }
        sounds = {name: vocoder.synthesise(each) for name, each in versions.items()}
        for name, sound in sounds.items():
            soundfile.write(folder / f"phrase-{number}-{name}.wav", sound, RATE)
        rows.append((phrase, versions, sounds))
    draw(rows, folder / "spectrograms.jpg")


def examples(phrases: Sequence[Spoken]) -> list[Spoken]:
    """The longest phrases of the split that are not too long, of different prompts."""
    short = [each for each in phrases if sum(each.phrase.steps) <= LONGEST] or list(phrases)
    by_prompt = {each.name: each for each in sorted(short, key=lambda each: sum(each.phrase.steps))}
    return sorted(by_prompt.values(), key=lambda each: -sum(each.phrase.steps))[:EXAMPLES]


Row = tuple[Spoken, dict[str, Speech], dict[str, Float[np.ndarray, " time"]]]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw log mel energies, with F0: the recording through the vocoder beside what was synthesised."""
    figure = Figure(figsize=(11, 2.6 * len(rows)), layout="constrained")
    grid = np.atleast_2d(figure.subplots(len(rows), 2, squeeze=False))
    for axes_of_row, (phrase, versions, sounds) in zip(grid, rows, strict=True):
        for axes, name in zip(axes_of_row, versions, strict=True):
            energies = log_mel(np.pad(sounds[name], (0, RATE // 20)), RATE, BANDS)
            seconds = len(sounds[name]) / RATE
            axes.imshow(
                energies.T,
                origin="lower",
                aspect="auto",
                extent=(0, seconds, 0, BANDS),
                vmin=-12,
                cmap="magma",
            )
            speech = versions[name]
            f0 = np.where(speech.voiced, np.exp(speech.log_f0), np.nan)
            pitch = axes.twinx()
            pitch.plot(np.arange(len(f0)) * FRAME / RATE, f0, color="cyan", linewidth=1)
            pitch.set(ylim=(50, 600), ylabel="F0, Hz")
            title = "recording, through the vocoder" if name == "vocoder" else "synthesised, same durations"
            axes.set(title=f"{phrase.name}: {title}", xlabel="seconds", ylabel="mel band")
    figure.savefig(path, dpi=90)
