import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from experiments.datasets import DataError
from experiments.datasets.piano_rolls import LOWEST_PITCH
from experiments.polyphonic_music import rendering
from experiments.polyphonic_music.rendering import Note

music21 = pytest.importorskip("music21")

EMPTY = [np.zeros((0, 88), np.uint8), np.zeros((5, 88), bool)]


@pytest.fixture
def roll():
    """Notes all over the keyboard, held and repeated, the first and the last key among them."""
    roll = (np.random.default_rng(0).random((40, 88)) < 0.3).astype(np.uint8)
    roll[-1, [0, -1]] = 1
    return roll


def read_midi(path, quarter_length):
    """The roll and the tempo (quarter notes a minute) of a MIDI file, from its events."""
    file = music21.midi.MidiFile()
    file.open(path)
    file.read()
    file.close()
    roll, tempo = np.zeros((40, 88), np.uint8), None
    for track in file.tracks:
        now, since = 0, {}
        for event in track.events:
            if event.isDeltaTime():
                now += event.time
            elif event.isNoteOn():
                since[event.pitch] = now
            elif event.isNoteOff():
                frames = [
                    time / file.ticksPerQuarterNote / quarter_length for time in (since.pop(event.pitch), now)
                ]
                assert frames == [round(frame) for frame in frames]
                roll[int(frames[0]) : int(frames[1]), event.pitch - LOWEST_PITCH] = 1
            elif event.type == music21.midi.MetaEvents.SET_TEMPO:
                tempo = 60e6 / int.from_bytes(event.data, "big")
    return roll, tempo


def test_held_keys_are_one_note():
    roll = np.zeros((6, 88))
    roll[[0, 1, 2, 4], 3] = 1
    roll[5, 87] = 1
    assert rendering.notes(roll) == [Note(24, 0, 3), Note(24, 4, 1), Note(108, 5, 1)]


@pytest.mark.parametrize("quarter_length", [0.25, 0.5, 1.0])
def test_midi_read_back_is_the_roll(roll, quarter_length, tmp_path):
    path = tmp_path / "folder" / "roll.mid"
    rendering.write_midi(roll, path, frame_seconds=0.25, quarter_length=quarter_length)
    found, tempo = read_midi(path, quarter_length)
    np.testing.assert_array_equal(found, roll)
    assert tempo == pytest.approx(60 * quarter_length / 0.25, rel=1e-3)


@pytest.mark.parametrize(("key", "frequency"), [(0, 27.5), (39, 261.63), (48, 440.0), (87, 4186.0)])
def test_sound_has_the_length_and_the_pitch_of_the_note(key, frequency, tmp_path):
    roll = np.zeros((8, 88), np.uint8)
    roll[2:6, key] = 1
    rendering.write_wav(roll, tmp_path / "note.wav", frame_seconds=0.5)
    samples, rate = soundfile.read(tmp_path / "note.wav")
    assert rate == rendering.SAMPLE_RATE
    assert soundfile.info(tmp_path / "note.wav").subtype == "PCM_16"
    assert samples.shape == (4 * rate,)
    assert not samples[:rate].any()
    assert not samples[3 * rate :].any()
    spectrum = np.abs(np.fft.rfft(samples[rate : 3 * rate]))
    assert np.argmax(spectrum) / 2 == pytest.approx(frequency, abs=0.5)


def test_sound_of_all_keys_does_not_clip_and_does_not_click(tmp_path):
    roll = np.ones((4, 88), np.uint8)
    samples = rendering.synthesize(roll)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() == pytest.approx(0.9)
    held = np.zeros((4, 88), np.uint8)
    held[:, 48] = 1
    sound = rendering.synthesize(held)
    assert np.abs(sound[[0, -1]]).max() == 0  # begins and ends in silence
    assert np.abs(np.diff(sound)).max() < 0.3


def test_a_frame_of_a_fraction_of_a_sample_keeps_the_whole_length():
    roll = np.zeros((1000, 88))
    roll[::2, 48] = 1
    assert len(rendering.synthesize(roll, 0.0101)) == round(1000 * 0.0101 * rendering.SAMPLE_RATE)


def test_a_picture_shows_notes(roll, tmp_path):
    silent, sparse = np.zeros_like(roll), np.zeros_like(roll)
    sparse[5:30, 40] = 1
    for name, drawn in {"silent": silent, "sparse": sparse, "roll": roll}.items():
        panels = {"data": roll, "sample": drawn, "shorter": drawn[:7]}
        rendering.write_picture(panels, tmp_path / f"{name}.png", frame_seconds=0.3)
    silent, sparse, full = (imread(tmp_path / f"{name}.png") for name in ("silent", "sparse", "roll"))
    assert silent.shape == sparse.shape == full.shape
    blue = [(image[..., 2] - image[..., 0] > 0.5).sum() for image in (silent, sparse, full)]
    assert 0 < blue[0] < blue[1] < blue[2]  # the panel of the data is blue in all of them


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("empty", EMPTY, ids=["no frames", "no notes"])
def test_empty_rolls_can_be_rendered(empty, tmp_path):
    rendering.write_midi(empty, tmp_path / "empty.mid")
    rendering.write_wav(empty, tmp_path / "empty.wav")
    rendering.write_picture({"empty": empty}, tmp_path / "empty.png")
    assert not read_midi(tmp_path / "empty.mid", 0.5)[0].any()
    assert soundfile.info(tmp_path / "empty.wav").frames == round(len(empty) * 0.3 * rendering.SAMPLE_RATE)
    assert imread(tmp_path / "empty.png").size


def test_what_is_no_piano_roll_is_refused(tmp_path):
    for render in (rendering.write_midi, rendering.write_wav):
        with pytest.raises(DataError, match=r"\[time, 88\] but \[88, 5\]"):
            render(np.zeros((88, 5)), tmp_path / "wrong")
    with pytest.raises(DataError, match="sample has values other than 0 and 1"):
        rendering.write_picture({"sample": np.full((5, 88), 0.3)}, tmp_path / "wrong.png")
    assert not list(tmp_path.iterdir())
