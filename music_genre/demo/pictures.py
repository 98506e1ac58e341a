"""The page's pictures, as HTML that fits any width and follows the light or dark theme.

Labels are real text, so they keep their size on a phone and screen readers can read them. Every
string that comes from a model or a visitor is escaped here.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby

import numpy as np
from matplotlib import image
from transformers.audio_utils import mel_filter_bank

from music_genre.classifier import Prediction

Cell = tuple[float, float, Mapping[str, float]]  # start second, end second, probabilities

HIGHEST = 8000.0  # hertz; there is little to see above it
N_MELS = 64
FLOOR = -80.0  # decibels, relative to the loudest
COLUMNS = 600  # of a spectrogram: about its width in pixels
SHOWN = 10  # genres at once, so that a model with 200 genres fits a phone
LIVE_SECONDS = 30.0  # length of the live timeline
TICK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)  # seconds


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def best_two(probabilities: Mapping[str, float]) -> list[tuple[str, float]]:
    """The likeliest genre and the runner-up, each with its probability."""
    return sorted(probabilities.items(), key=lambda item: item[1], reverse=True)[:2]


def headline(word: str, note: str, kind: str = "") -> str:
    """The answer in large type. kind: "" for a genre, "open" for no answer yet, "error"."""
    return (
        f'<div class="genre-head"><p class="genre-word {kind}">{escape(word)}</p>'
        f'<p class="genre-note">{escape(note)}</p></div>'
    )


def file_picture(prediction: Prediction, waveform: np.ndarray, sampling_rate: int) -> str:
    """The pictures for one file. waveform: float32, shape (samples,); sampling_rate: hertz."""
    seconds = len(waveform) / sampling_rate
    windows = prediction.timeline
    ends = [*(window.start for window in windows[1:]), seconds]  # windows overlap or leave gaps
    cells = [(w.start, end, w.probabilities) for w, end in zip(windows, ends, strict=True)]
    labels = list(prediction.probabilities)
    return _aligned(
        labels,
        bars(prediction.probabilities, is_sorted=True)
        + timeline(cells, labels, seconds)
        + spectrogram(waveform, sampling_rate, seconds),
    )


def empty_picture(labels: Sequence[str]) -> str:
    """The same pictures without content; they reserve the space, so that nothing jumps."""
    nothing = dict.fromkeys(labels, 0.0)
    return _aligned(
        labels,
        bars(nothing, is_sorted=True) + timeline([], labels, 30) + spectrogram(None, 0, 30),
    )


def live_picture(probabilities: Mapping[str, float], history: Iterable[Cell], now: float) -> str:
    """The pictures for live listening. now: seconds processed so far."""
    start = now - LIVE_SECONDS
    cells = [(max(since, start), to, shares) for since, to, shares in history if to > start]
    labels = list(probabilities)
    return _aligned(labels, bars(probabilities) + timeline(cells, labels, now, is_live=True))


def _aligned(labels: Sequence[str], content: str) -> str:
    """Give all pictures a column of names as wide as the longest name needs, within limits."""
    rems = min(18.0, max(5.4, 0.62 * max(map(len, labels))))
    return f'<div style="--names:{rems:.1f}rem">{content}</div>'


def bars(probabilities: Mapping[str, float], is_sorted: bool = False) -> str:
    """One bar per genre; only the SHOWN likeliest if there are more.

    Live listening does not sort: bars that are redrawn every second must not jump.
    """
    shown = likeliest([probabilities], list(probabilities))
    if is_sorted:
        shown.sort(key=probabilities.__getitem__, reverse=True)
    best = max(shown, key=probabilities.__getitem__) if any(probabilities.values()) else None
    items = "".join(
        f'<li class="{"top" if genre == best else ""}">{_name(genre)}'
        f'<i aria-hidden="true"><b style="--share:{probabilities[genre]:.1%}"></b></i>'
        f"<span>{f'{probabilities[genre]:.0%}' if best else '–'}</span></li>"
        for genre in shown
    )
    caption = "How likely each genre is"
    if len(shown) < len(probabilities):
        caption = f"How likely the {SHOWN} likeliest of {len(probabilities)} genres are"
    return f'{_caption(caption)}<ul class="genre-bars">{items}</ul>'


def likeliest(shares: Sequence[Mapping[str, float]], labels: Sequence[str]) -> list[str]:
    """The SHOWN labels with the largest sums of shares, in the order of the model."""
    if len(labels) <= SHOWN:
        return list(labels)
    sums = {label: sum(share[label] for share in shares) for label in labels}
    chosen = set(sorted(labels, key=sums.__getitem__, reverse=True)[:SHOWN])
    return [label for label in labels if label in chosen]


def _name(genre: str) -> str:
    return f'<span title="{escape(genre)}">{escape(genre)}</span>'


def timeline(
    cells: Sequence[Cell], labels: Sequence[str], end: float, is_live: bool = False
) -> str:
    """Genre over time: one row per genre, one column per window; the likeliest genre is coloured.

    Args:
        cells: the predictions over time; gaps stay empty.
        end: second at the right edge; the left edge is 0.
        is_live: show LIVE_SECONDS, and count back from now.
    """
    start = end - LIVE_SECONDS if is_live else 0.0
    boxes, winners = [], []
    all_labels, labels = labels, likeliest([shares for *_, shares in cells], labels)
    for since, to, probabilities in cells:
        best = max(all_labels, key=probabilities.__getitem__)
        winners.append((since, to, best))
        for row, label in enumerate(labels):
            share = probabilities[label]
            if share >= 0.02 or label == best:
                fill, opacity = ("top", 0.4 + 0.6 * share) if label == best else ("other", share)
                boxes.append(
                    f'<rect x="{since - start:.2f}" y="{row + 0.06:.2f}" width="{to - since:.2f}" '
                    f'height="0.88" style="fill:var(--genre-{fill})" opacity="{opacity:.2f}"/>'
                )
    named = {best for _, _, best in winners}
    rows = "".join(
        f'<span class="{"top" if label in named else ""}" title="{escape(label)}">'
        f"{escape(label)}</span>"
        for label in labels
    )
    caption = "The last half minute" if is_live else "Genre over time"
    marks = [(1 - ago / LIVE_SECONDS, f"−{ago} s") for ago in (30, 20, 10)] + [(1.0, "now")]
    return (
        f"{_caption(caption, 'The likeliest genre is in colour; stronger means surer.')}"
        f'<div class="genre-plot" role="img" aria-label="{escape(_describe(caption, winners))}">'
        f'<div class="rows">{rows}</div><div class="field" style="height:{1.4 * len(labels)}rem">'
        f'<svg viewBox="0 0 {end - start:.2f} {len(labels)}" preserveAspectRatio="none">'
        f"{''.join(boxes)}</svg></div>{_across(marks if is_live else _seconds(end))}</div>"
    )


def spectrogram(waveform: np.ndarray | None, sampling_rate: int, end: float) -> str:
    """The mel spectrogram over the same seconds as `timeline`; empty if there is no waveform."""
    marks = {"8 kHz": 0, "3 kHz": 34, "1 kHz": 65, "300 Hz": 86}  # percent from the top (mel scale)
    up = "".join(f'<span style="top:{place}%">{name}</span>' for name, place in marks.items())
    picture = "" if waveform is None else f'<img alt="" src="{_png(waveform, sampling_rate)}">'
    return (
        f"{_caption('Mel spectrogram', 'How loud each pitch is, up to 8 kHz.')}"
        '<div class="genre-plot" role="img" aria-label="Mel spectrogram of the whole sound">'
        f'<div class="up">{up}</div><div class="field" style="height:8rem">{picture}</div>'
        f"{_across(_seconds(end))}</div>"
    )


def mel_decibels(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Loudness by time and pitch: float64, shape (mels, columns), FLOOR to 0 at the loudest.

    Only one frame per column is computed, so an hour costs as much as a minute. The waveform must
    be at least a tenth of a second long, as for the classifier.
    """
    n_fft = 2 ** round(math.log2(0.05 * sampling_rate))
    starts = np.linspace(0, len(waveform) - n_fft, min(COLUMNS, 1 + len(waveform) // 256))
    frames = waveform[starts.astype(int)[:, None] + np.arange(n_fft)] * np.hanning(n_fft)
    power = np.abs(np.fft.rfft(frames)) ** 2
    filters = mel_filter_bank(power.shape[1], N_MELS, 0.0, HIGHEST, sampling_rate)
    loudness = 10 * np.log10(np.maximum(power @ filters, 1e-10))
    return np.maximum(loudness - loudness.max(), FLOOR).T


def _png(waveform: np.ndarray, sampling_rate: int) -> str:
    buffer = io.BytesIO()
    decibels = mel_decibels(waveform, sampling_rate)
    image.imsave(buffer, decibels, vmin=FLOOR, vmax=0, cmap="magma", origin="lower", format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _caption(text: str, hint: str = "") -> str:
    return f'<p class="genre-caption">{escape(text)}<small>{escape(hint)}</small></p>'


def _seconds(end: float) -> list[tuple[float, str]]:
    """At most five round times up to `end` seconds, as places from 0 to 1 and texts."""
    step = next((step for step in TICK_STEPS if end / step <= 4), TICK_STEPS[-1])
    times = [*range(0, math.ceil(end - 0.9 * step), step), end]
    return [(time / end, f"{time:.0f} s" if end < 60 else clock(time)) for time in times]


def _across(marks: Sequence[tuple[float, str]]) -> str:
    """Texts below a field; the outermost ones do not stick out."""
    spans = "".join(
        f'<span style="left:{place:.1%};transform:translateX({-100 * place:.0f}%)">{text}</span>'
        for place, text in marks
    )
    return f'<div class="across" aria-hidden="true">{spans}</div>'


def _describe(caption: str, winners: Sequence[tuple[float, float, str]]) -> str:
    """The text for screen readers: each stretch of one genre."""
    parts = []
    for genre, cells in groupby(winners, key=lambda cell: cell[2]):
        starts, ends, _ = zip(*cells, strict=True)
        parts.append(f"{clock(starts[0])} to {clock(ends[-1])} {genre}")
    return f"{caption}: {', '.join(parts[:50]) or 'nothing yet'}"
