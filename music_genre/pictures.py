"""What the app shows, as HTML that fits any width and follows the page's light or dark theme.

Text stays text: it keeps its size on a phone, and a screen reader can read it. Every string that
comes from a model or a visitor is escaped here.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

Cell = tuple[float, float, Mapping[str, float]]  # start second, end second, probabilities

HIGHEST = 8000.0  # hertz: what a model that hears 16 kHz can hear
N_MELS = 64
FLOOR = -80.0  # decibels below the loudest
COLUMNS = 600  # of a spectrogram: about the pixels it is shown on
TICK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)  # seconds

CSS = """
.genre-word { font-size: clamp(2.6rem, 9vw, 4.2rem); font-weight: 750; line-height: 1.1;
  letter-spacing: -0.02em; margin: 0; color: var(--body-text-color); overflow-wrap: anywhere; }
.genre-word.open { color: var(--body-text-color-subdued); font-weight: 550; }
.genre-word.error { font-size: 1.25rem; line-height: 1.4; letter-spacing: 0; font-weight: 600;
  color: var(--error-text-color); }
.genre-note { margin: 0.35rem 0 0; min-height: 1.5em; color: var(--body-text-color-subdued); }
.genre-head { min-height: 7.2rem; }
.genre-caption { margin: 1.4rem 0 0.5rem; font-weight: 600; font-size: 0.95rem;
  color: var(--body-text-color); }
.genre-caption small { font-weight: 400; font-size: 0.85rem; margin-left: 0.5rem;
  color: var(--body-text-color-subdued); }
.genre-bars { list-style: none; margin: 0; padding: 0; }
.genre-bars li { display: grid; grid-template-columns: 5.2rem 1fr 3.2rem; align-items: center;
  margin: 0; height: 1.7rem; font-size: 0.95rem; color: var(--body-text-color); }
.genre-bars i { display: block; height: 0.8rem; border-radius: 0.4rem; overflow: hidden;
  background: var(--border-color-primary); }
.genre-bars b { display: block; height: 100%; width: var(--share); border-radius: 0.4rem;
  background: var(--genre-other); }
.genre-bars li.top b { background: var(--genre-top); }
.genre-bars li.top { font-weight: 700; }
.genre-bars .share { text-align: right; font-variant-numeric: tabular-nums; }
.genre-plot { display: grid; grid-template-columns: 5.2rem 1fr; font-size: 0.85rem;
  color: var(--body-text-color); }
.genre-plot .rows { display: grid; }
.genre-plot .rows span { line-height: 1; align-self: center; }
.genre-plot .rows span.top { font-weight: 700; }
.genre-plot .field { position: relative; border-radius: 4px; overflow: hidden; width: 100%;
  background: var(--genre-field); }
.genre-plot svg, .genre-plot img { display: block; width: 100%; height: 100%; margin: 0;
  border-radius: 0; }
.genre-plot .axis { grid-column: 2; position: relative; height: 1.5rem; margin-top: 0.25rem;
  color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.genre-plot .axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.genre-plot .axis span.first { transform: none; }
.genre-plot .axis span.last { transform: translateX(-100%); }
.genre-plot .scale { position: relative; }
.genre-plot .scale span { position: absolute; transform: translateY(-50%); line-height: 1; }
.genre-plot .scale span.last { transform: none; }
:root { --genre-top: var(--primary-600); --genre-other: var(--neutral-400);
  --genre-field: var(--neutral-100); }
.dark { --genre-top: var(--primary-400); --genre-other: var(--neutral-500);
  --genre-field: var(--neutral-800); }
"""


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def headline(word: str, note: str, kind: str = "") -> str:
    """The answer in large type. kind: "" for a genre, "open" for no answer yet, "error"."""
    role = ' role="alert"' if kind == "error" else ""
    return (
        f'<div class="genre-head"{role}><p class="genre-word {kind}">{escape(word)}</p>'
        f'<p class="genre-note">{escape(note)}</p></div>'
    )


def bars(probabilities: Mapping[str, float], caption: str, is_sorted: bool) -> str:
    """A bar a genre. Not sorted where it is drawn anew each second: rows must not jump about."""
    genres = list(probabilities)
    best = max(genres, key=probabilities.__getitem__) if any(probabilities.values()) else None
    if is_sorted:
        genres.sort(key=probabilities.__getitem__, reverse=True)
    rows = "".join(
        f'<li{" class=top" if genre == best else ""}><span>{escape(genre)}</span>'
        f'<i aria-hidden="true"><b style="--share:{probabilities[genre]:.1%}"></b></i>'
        f'<span class="share">{f"{probabilities[genre]:.0%}" if best else "–"}</span></li>'
        for genre in genres
    )
    return f'{_caption(caption)}<ul class="genre-bars" aria-label="{escape(caption)}">{rows}</ul>'


def timeline(
    cells: Sequence[Cell], labels: Sequence[str], start: float, end: float, is_live: bool = False
) -> str:
    """Genre over time: a row a genre, a column a window; the likeliest one in colour.

    Args:
        cells: what was heard when; gaps stay empty.
        start, end: seconds at the left and right edge.
        is_live: count seconds back from now instead of from the start.
    """
    boxes, winners = [], []
    for from_, to, probabilities in cells:
        best = max(labels, key=probabilities.__getitem__)
        winners.append((from_, to, best))
        for row, label in enumerate(labels):
            share = probabilities[label]
            if share >= 0.02 or label == best:
                fill, opacity = ("top", 0.4 + 0.6 * share) if label == best else ("other", share)
                boxes.append(
                    f'<rect x="{from_ - start:.2f}" y="{row + 0.06:.2f}" width="{to - from_:.2f}" '
                    f'height="0.88" style="fill:var(--genre-{fill})" opacity="{opacity:.2f}"/>'
                )
    named = {best for _, _, best in winners}
    rows = "".join(
        f"<span{' class=top' if label in named else ''}>{escape(label)}</span>" for label in labels
    )
    caption = "The last half minute" if is_live else "Genre over time"
    axis = _live_axis(start, end) if is_live else _axis(end)
    return (
        f"{_caption(caption, 'in colour the likeliest genre, stronger where it is surer')}"
        f'<div class="genre-plot" role="img" aria-label="{escape(_describe(caption, winners))}">'
        f'<div class="rows">{rows}</div><div class="field" style="height:{1.35 * len(labels)}rem">'
        f'<svg viewBox="0 0 {end - start:.2f} {len(labels)}" preserveAspectRatio="none" '
        f'shape-rendering="crispEdges">{"".join(boxes)}</svg></div>{axis}</div>'
    )


def spectrogram(waveform: np.ndarray | None, sampling_rate: int, end: float) -> str:
    """The mel spectrogram above the same time axis as `timeline`; an empty field without sound."""
    ticks = "".join(
        f'<span{" class=last" if hertz == HIGHEST else ""} '
        f'style="top:{100 - 100 * _mel(hertz) / _mel(HIGHEST):.0f}%">{name}</span>'
        for hertz, name in ((HIGHEST, "8 kHz"), (3000, "3 kHz"), (1000, "1 kHz"), (300, "300 Hz"))
    )
    picture = "" if waveform is None else f'<img alt="" src="{_png(waveform, sampling_rate)}">'
    return (
        f"{_caption('Mel spectrogram', 'how loud each pitch is; up to 8 kHz, as the model hears')}"
        '<div class="genre-plot" role="img" aria-label="Mel spectrogram of the whole sound">'
        f'<div class="scale">{ticks}</div><div class="field" style="height:8rem">{picture}</div>'
        f"{_axis(end)}</div>"
    )


def mel_decibels(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Loudness by time and pitch: float64, shape (mels, columns), FLOOR to 0 at the loudest.

    Only as many frames as there are columns are looked at, so an hour costs what a minute does.
    """
    from torchaudio.functional import melscale_fbanks

    n_fft = 2 ** max(5, round(math.log2(0.05 * sampling_rate)))
    waveform = np.pad(waveform, (0, max(0, n_fft - len(waveform))))
    starts = np.linspace(0, len(waveform) - n_fft, min(COLUMNS, 1 + len(waveform) // 256))
    frames = waveform[starts.astype(int)[:, None] + np.arange(n_fft)] * np.hanning(n_fft)
    power = np.abs(np.fft.rfft(frames)) ** 2
    filters = melscale_fbanks(power.shape[1], 0.0, HIGHEST, N_MELS, sampling_rate).numpy()
    loudness = 10 * np.log10(np.maximum(power @ filters, 1e-10))
    return np.maximum(loudness - loudness.max(), FLOOR).T


def _png(waveform: np.ndarray, sampling_rate: int) -> str:
    from matplotlib import image

    buffer = io.BytesIO()
    decibels = mel_decibels(waveform, sampling_rate)
    image.imsave(
        buffer, decibels, vmin=FLOOR, vmax=0, cmap="magma", origin="lower", format="png"
    )
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _caption(text: str, hint: str = "") -> str:
    return f'<p class="genre-caption">{escape(text)}<small>{escape(hint)}</small></p>'


def _axis(end: float) -> str:
    """Ticks from 0 to `end` seconds, at most seven and at round times."""
    step = next((step for step in TICK_STEPS if end / step <= 6), TICK_STEPS[-1])
    seconds = np.arange(0, end - 0.4 * step, step)
    marks = [(second / end, f"{second} s" if end < 60 else clock(second)) for second in seconds]
    return _ticks([*marks, (1.0, f"{end:.0f} s" if end < 60 else clock(end))])


def _live_axis(start: float, end: float) -> str:
    span = end - start
    back = [(1 - ago / span, f"−{ago} s") for ago in (30, 20, 10) if ago <= span]
    return _ticks([*back, (1.0, "now")])


def _ticks(marks: Iterable[tuple[float, str]]) -> str:
    spans = "".join(
        f'<span class="{"first" if place == 0 else "last" if place == 1 else ""}" '
        f'style="left:{place:.1%}">{text}</span>'
        for place, text in marks
    )
    return f'<div class="axis" aria-hidden="true">{spans}</div>'


def _describe(caption: str, winners: Sequence[tuple[float, float, str]]) -> str:
    """What a screen reader says: each stretch of one genre."""
    stretches: list[list] = []
    for start, end, genre in winners:
        if stretches and stretches[-1][2] == genre:
            stretches[-1][1] = end
        else:
            stretches.append([start, end, genre])
    parts = (f"{clock(start)} to {clock(end)} {genre}" for start, end, genre in stretches[:50])
    return f"{caption}: {', '.join(parts) or 'nothing yet'}"
