"""Spoken digits as they are read, and the energies of sound in mel bands."""

import collections
import io
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from experiments import datasets
from experiments.datasets import DataError, spoken_digits
from experiments.datasets.audio import log_mel, mel_filters

NAMES = ("3_theo_7", "3_theo_10", "0_jackson_4")


def sound(number, rate=8000, channels=1, kind="wav"):
    """A recording as a file, of some samples that are multiples of 1/32768."""
    samples = np.random.default_rng(number).integers(-99, 99, (400 + number, channels)) / 32768
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype="PCM_16")
    return stream.getvalue(), samples[:, 0].astype(np.float32)


def published(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.10/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def repacked(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class TestRecordings:
    def test_both_archives_hold_the_same(self, tmp_path):
        wav = {f"recordings/{name}.wav": sound(number)[0] for number, name in enumerate(NAMES)}
        flac = {f"{name}.flac": sound(number, kind="flac")[0] for number, name in enumerate(NAMES)}
        found = [
            spoken_digits.recordings(published(tmp_path / "a.tar.gz", {"README.md": b"", **wav})),
            spoken_digits.recordings(repacked(tmp_path / "a.zip", flac)),
        ]
        for read in found:
            assert [one[:3] for one in read] == [(0, "jackson", 4), (3, "theo", 7), (3, "theo", 10)]
            assert [spoken_digits.part_of(one) for one in read] == ["test", "valid", "train"]
            for one, number in zip(read, (2, 0, 1), strict=True):
                assert one.samples.dtype == np.float32
                np.testing.assert_array_equal(one.samples, sound(number)[1])

    @pytest.mark.parametrize("changed", [{"rate": 16000}, {"channels": 2}])
    def test_a_recording_of_another_form_is_named(self, tmp_path, changed):
        path = repacked(tmp_path / "a.zip", {"3_theo_7.flac": sound(0, kind="flac", **changed)[0]})
        with pytest.raises(DataError, match=r"a.zip, 3_theo_7.flac cannot be read: it is not mono at 8000"):
            spoken_digits.recordings(path)

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    def test_a_file_that_is_no_archive_is_named(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            spoken_digits.recordings(tmp_path / name)

    def test_a_missing_file_is_asked_for_at_its_address(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr("urllib.request.urlopen", refuse)
        with pytest.raises(DataError, match=r"archive/v1.0.10.tar.gz \(no network\)"):
            spoken_digits.load(tmp_path)

    def test_an_archive_that_lacks_recordings_is_refused(self, tmp_path, monkeypatch):
        path = repacked(tmp_path / "a.zip", {"3_theo_7.flac": sound(0, kind="flac")[0]})
        monkeypatch.setattr(spoken_digits, "fetch", lambda file, data_dir: path)
        with pytest.raises(DataError, match="has 1 recordings, not 3,000"):
            spoken_digits.load(tmp_path)

    def test_the_real_files_have_what_is_documented(self, real_data):
        splits = datasets.load("spoken-digits", real_data)
        assert [len(part) for part in splits] == [2400, 300, 300]
        every = [each for part in splits for each in part]
        assert set(collections.Counter((each.digit, each.speaker) for each in every).values()) == {50}
        assert len({each[:3] for each in every}) == 3000
        assert {each.number for each in splits.test} == set(range(5))
        assert sum(len(each.samples) for each in every) == 10_498_424
        assert splits.test[0][:3] == (0, "george", 0)
        assert min(len(each.samples) for each in every) == 1148
        assert all(np.abs(each.samples).max() <= 1 for each in every)


class TestMelEnergies:
    def test_filters_rise_and_fall_between_their_neighbours_centres(self):
        filters = mel_filters(8000, 256, 26)
        centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 28) / 2595) - 1)
        for band in range(26):
            low, centre, high = centres[band : band + 3]
            for place in range(129):
                hertz = place * 8000 / 256
                up, down = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
                assert filters[band, place] == pytest.approx(max(0, min(up, down)), abs=1e-9)

    def test_two_tones_are_as_librosa_has_them(self):
        """librosa 0.11: htk, norm=None, power 2, center=False, win_length 200 in the middle of n_fft 256."""
        time = np.arange(800) / 8000
        tones = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1500 * time)
        found = log_mel(tones.astype(np.float32), 8000)
        assert (found.shape, found.dtype) == ((8, 26), np.float32)
        first = [-9.430, -9.387, -7.963, -6.403, -2.797, 4.304, 5.781, 3.519, -5.226, -7.458, -9.457, -11.211]
        fifth = [-9.766, -9.641, -8.037, -6.442, -2.800, 4.304, 5.781, 3.519, -5.220, -7.446, -9.428, -11.149]
        np.testing.assert_allclose(found[0, :12], first, atol=1e-3)
        np.testing.assert_allclose(found[4, :12], fifth, atol=1e-3)
        np.testing.assert_allclose(found[0, 22:], np.log(1e-8), atol=1e-3)

    def test_a_frame_knows_nothing_of_what_comes_after(self):
        samples = sound(900)[1]
        whole, cut = log_mel(samples, 8000), log_mel(samples[:800], 8000)
        assert len(whole) == 1 + (len(samples) - 200) // 80
        np.testing.assert_array_equal(cut, whole[: len(cut)])

    def test_a_sound_shorter_than_a_frame_is_refused(self):
        with pytest.raises(ValueError, match="199 samples, where a frame has 200"):
            log_mel(np.zeros(199, np.float32), 8000)
