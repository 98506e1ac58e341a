"""Resampling without the filters' zeros gives torchaudio's samples."""

import pytest
import torch
from torchaudio.transforms import Resample

from music_genre.kernels.resampling import BandedResample


@pytest.mark.parametrize(
    "rates",
    [(441, 320), (441, 160), (441, 640), (3, 1), (6, 1), (1, 2), (3, 2), (17, 20), (439, 441)],
)
@pytest.mark.parametrize("n_samples", [1, 16, 440, 20_000])
def test_samples_are_those_of_torchaudio(rates, n_samples):
    waveform = torch.randn(n_samples, generator=torch.Generator().manual_seed(0))
    resampled = BandedResample(*rates)(waveform)
    expected = Resample(*rates)(waveform)
    assert resampled.dtype == torch.float32
    torch.testing.assert_close(resampled, expected, atol=2e-6, rtol=0)


def test_most_zeros_are_gone():
    banded = BandedResample(441, 320)
    assert sum(band.numel() for _, band in banded.bands) < Resample(441, 320).kernel.numel() / 6
    assert all(band.shape[1] == 32 for _, band in banded.bands)
