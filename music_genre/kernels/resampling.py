"""torchaudio's resampling without its zeros: the same samples in a quarter of the time on a CPU.

torchaudio convolves with one filter per phase. From 22,050 to 16,000 hertz these are 320 filters of
459 values, of which all but 18 are zero. Neighbouring filters use nearly the same samples, so here
a band of them is one matrix product over these samples only.
"""

import math

import torch
from torch import nn
from torchaudio.transforms import Resample

BAND = 32  # filters


class BandedResample:
    """`torchaudio.transforms.Resample` for float32 on a CPU, without gradients.

    Args:
        sampling_rate, to: the two rates, without a common divisor.

    width: samples that the filter reaches to either side.
    """

    def __init__(self, sampling_rate: int, to: int) -> None:
        library = Resample(sampling_rate, to)
        self.rates, self.width = (sampling_rate, to), library.width
        filters = _repeated(library.kernel[:, 0], sampling_rate, times=math.ceil(BAND / to))
        self.n_filters, self.length = filters.shape
        self.bands = [_without_zeros(band) for band in filters.split(BAND)]

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor:
        """Resample float32 of shape (samples,) to shape (ceil(samples * to / sampling_rate),)."""
        sampling_rate, to = self.rates
        n_out = math.ceil(len(waveform) * to / sampling_rate)
        n_frames = math.ceil(n_out / self.n_filters)
        step = self.n_filters // to * sampling_rate  # samples between frames
        n_padded = (n_frames - 1) * step + self.length
        padded = nn.functional.pad(waveform, (self.width, n_padded - self.width - len(waveform)))
        resampled = torch.empty(n_frames, self.n_filters)
        for n, (first, band) in zip(range(0, self.n_filters, BAND), self.bands, strict=True):
            frames = padded.as_strided((n_frames, len(band)), (step, 1), first)
            torch.mm(frames, band, out=resampled[:, n : n + BAND])
        return resampled.view(-1)[:n_out]


def _repeated(filters: torch.Tensor, sampling_rate: int, times: int) -> torch.Tensor:
    """The filters of `times` frames: from 48,000 to 16,000 hertz a frame has a single one."""
    return torch.cat(
        [
            nn.functional.pad(filters, (n * sampling_rate, (times - 1 - n) * sampling_rate))
            for n in range(times)
        ]
    )


def _without_zeros(band: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The first sample that a band uses, and its filters as columns, from there to the last."""
    used = band.any(dim=0).nonzero()
    first, last = int(used[0]), int(used[-1])
    return first, band[:, first : last + 1].T.contiguous()
