import numpy as np
import pytest
import torch

from music_genre.training import augmentation
from music_genre.wav import to_pcm16, wav_bytes

RATE = 16_000


def wav(waveform: np.ndarray) -> bytes:
    return wav_bytes(to_pcm16(waveform), RATE)


def test_crops_reach_both_ends(monkeypatch):
    ramp = wav(np.arange(12) / 32)
    rng = np.random.default_rng(0)
    crops = [32 * augmentation.random_crop(ramp, 10, rng) for _ in range(100)]
    assert {crop[0] for crop in crops} == {0, 1, 2}
    assert all((np.diff(crop) == 1).all() for crop in crops)
    monkeypatch.setattr(augmentation, "SPEEDS", (1.2,))  # which takes all 12 samples
    assert len({augmentation.random_crop(ramp, 10, rng, True).tobytes() for _ in range(20)}) == 1


def test_a_short_clip_is_looped():
    rng = np.random.default_rng(0)
    clip = wav(np.arange(3) / 32)
    crops = [(32 * augmentation.random_crop(clip, 7, rng)).tolist() for _ in range(50)]
    assert [0, 1, 2, 0, 1, 2, 0] in crops and [1, 2, 0, 1, 2, 0, 1] in crops
    assert all(crop[:4] == crop[3:] for crop in crops)


def test_speed_moves_the_pitch_by_at_most_15_percent(tone):
    rng = np.random.default_rng(0)
    peaks = set()
    for _ in range(40):
        crop = augmentation.random_crop(wav(tone), RATE, rng, speed_perturbation=True)
        assert crop.shape == (RATE,)
        peaks.add(int(np.abs(np.fft.rfft(crop)).argmax()))  # hertz: it lasts a second
    expected = {round(440 * factor) for factor in augmentation.SPEEDS}
    assert len(peaks) == len(expected)
    assert np.abs(np.array(sorted(peaks)) - sorted(expected)).max() <= 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_crops_are_as_loud_as_the_first_and_shared_as_said(share):
    t = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 200 * t), 0.01 * np.sin(2 * np.pi * 3000 * t)
    mixed = augmentation.mix(low, high, share)
    assert mixed.std() == pytest.approx(low.std(), rel=0.01)
    assert np.isfinite(augmentation.mix(low, 0 * low, share)).all(), "with silence"
    spectrum = np.abs(np.fft.rfft(mixed))
    assert spectrum[200] * (1 - share) == pytest.approx(spectrum[3000] * share, abs=1)


def test_masks_are_the_clips_own_and_the_seeds():
    spectrograms = torch.rand(8, 80, 300) + 1
    masked = augmentation.mask_spectrograms(spectrograms, seed=3)
    torch.testing.assert_close(masked, augmentation.mask_spectrograms(spectrograms, seed=3))
    changed = masked != spectrograms
    assert 0.05 < changed.float().mean() < 0.5
    assert 0.15 * 300 < changed.all(dim=1).sum(dim=1).max() <= 2 * 0.15 * 300, "times"
    assert 0.2 * 80 <= changed.all(dim=2).sum(dim=1).max() <= 2 * 0.2 * 80, "frequencies"
    for axis in (1, 2):  # a stripe begins where one changes to masked
        is_masked = changed.all(dim=axis).int()
        n_stripes = is_masked[:, 0] + (is_masked.diff(dim=1) == 1).sum(dim=1)
        assert n_stripes.max() == 2
    assert len({tuple(clip_mask.all(dim=0).tolist()) for clip_mask in changed}) > 1
    assert not torch.equal(masked, augmentation.mask_spectrograms(spectrograms, seed=4))


def test_masking_leaves_the_random_numbers_of_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    augmentation.mask_spectrograms(torch.ones(1, 8, 10), seed=1)
    torch.testing.assert_close(torch.rand(3), expected)
