"""Synthesise music in ten styles named after GTZAN's genres, for a demonstration without data.

    from data_prep.synthetic import synthesise, write_archive
    clip = synthesise("jazz", seed=7, seconds=10.0)  # float32, 22,050 Hz
    write_archive("synthetic.zip", clips_per_genre=25)  # laid out like GTZAN

A style is a table: tempo, chords, and parts that play patterns. Key, tempo, chords, patterns and
levels are drawn with the seed. A model trained on these clips is not a music classifier.
"""

import itertools
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_prep.archive import MARKER
from data_prep.gtzan import GENRES
from music_genre.wav import to_pcm16, wav_bytes

NOTICE = (
    "These clips are synthesised by the project as a demonstration and are not real music. "
    "A model trained on them is not a music classifier.\n"
)
SAMPLING_RATE = 22_050  # hertz, as in GTZAN
RELEASE = 0.04  # seconds for a note to die away after its length
NOTES = {"C": 0, "Db": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "G": 7, "Ab": 8, "A": 9, "Bb": 10}
CHORDS = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10),
          "maj7": (0, 4, 7, 11), "5": (0, 7)}  # fmt: skip


# Pitched sounds: harmonic k has amplitude k ** -slope. The values are slope, decay and attack in
# seconds, and the gain before distortion (0 for none).
INSTRUMENTS = {
    "bass": (2.3, 0.9, 0.006, 0), "sub bass": (4.0, 1.6, 0.012, 0),
    "octave bass": (1.5, 0.25, 0.006, 0), "piano": (1.8, 0.8, 0.006, 0),
    "organ": (1.6, 60, 0.01, 0), "strings": (1.3, 60, 0.12, 0), "brass": (1.0, 60, 0.035, 0),
    "synth": (0.8, 0.5, 0.006, 0), "banjo": (0.6, 0.16, 0.006, 0), "guitar": (1.2, 0.2, 0.006, 0),
    "blues guitar": (1.6, 1.2, 0.006, 2), "rock guitar": (1.2, 2.5, 0.006, 3.5),
    "metal guitar": (0.7, 3.0, 0.006, 20),
}  # fmt: skip
# A falling sine plus noise. Sine: first and last hertz, and decay in seconds. Noise: level (the
# sine has the rest), decay and brightness (how often it is differentiated).
DRUMS = {
    "kick": (150, 48, 0.16, 0.04, 0.004, 0), "snare": (240, 180, 0.06, 0.55, 0.09, 0),
    "brushes": (200, 180, 0.02, 0.9, 0.12, 1), "clap": (900, 900, 0.01, 0.9, 0.10, 0),
    "hat": (9000, 9000, 0.01, 0.95, 0.025, 2), "cymbal": (5200, 5150, 0.1, 0.9, 0.25, 2),
}  # fmt: skip


class Style(NamedTuple):
    """What the clips of a genre have in common.

    A part is (sound, level, lowest MIDI note, patterns). In a pattern a character is a sixteenth:
    `x` and `o` are loud and soft drum strokes, `c` a chord, a digit a tone of the chord, `m` the
    next tone of a melody, `-` holds the note before it, `.` is a rest.
    """

    tempo: tuple[float, float]  # beats per minute
    swing: float  # where in the beat the second eighth falls: 0.5 is even, 0.667 a triplet
    echo: float  # level of the echoes
    scale: tuple[int, ...]  # of melodies, semitones above the key
    chords: str  # one per bar, in C; a clip begins with any of them
    parts: tuple[tuple[str, float, int, str], ...]


MINOR_BLUES, MAJOR, PENTATONIC = (0, 3, 5, 6, 7, 10), (0, 2, 4, 5, 7, 9, 11), (0, 2, 4, 7, 9)
STYLES: dict[str, Style] = {
    "blues": Style((66, 96), 0.667, 0.4, MINOR_BLUES, "C7 C7 F7 C7 G7 F7 C7 G7", (
        ("bass", 0.8, 33, "0---1---2---3--- 0-0-1-1-2-2-1-1-"),
        ("piano", 0.9, 50, "c-....c-c-....c- c...c...c...c..."),
        ("blues guitar", 0.5, 57, "m---m-m-------.. ....m-m-m---m---"),
        ("snare", 0.7, 0, "....x.......x..."),
        ("cymbal", 0.2, 0, "x.o.x.o.x.o.x.o."))),
    "classical": Style((66, 100), 0.5, 1.0, MAJOR, "C G Am F", (
        ("strings", 0.8, 48, "c--------------- c-------c-------"),
        ("piano", 0.5, 60, "0-2-1-2-0-2-1-2- 0-1-2-3-4-3-2-1-"),
        ("strings", 0.6, 64, "m-----m-m-------m---m---m-------"))),
    "country": Style((100, 126), 0.5, 0.25, PENTATONIC, "C C F C G G C C", (
        ("bass", 0.7, 36, "0---....2---...."),
        ("guitar", 0.8, 55, "....c-......c-.. ....c-c-....c-c-"),
        ("banjo", 0.8, 62, "0123012301230143 2014201420142013"),
        ("brushes", 0.8, 0, "o.o.x.o.o.o.x.o. ooooxooooooxxooo"))),
    "disco": Style((114, 128), 0.5, 0.5, MAJOR, "Cm Cm Bb Ab", (
        ("octave bass", 0.7, 33, "0.3.0.3.0.3.0.3. 0.330.330.330.33"),
        ("strings", 0.7, 60, "c-----c-....c--- c-----------..c-"),
        ("guitar", 0.6, 57, "c.cc.cc.c.cc.cc. ..c.ccc...c.ccc."),
        ("kick", 1.0, 0, "x...x...x...x..."),
        ("clap", 0.8, 0, "....x.......x..."),
        ("hat", 0.7, 0, "o.x.o.x.o.x.o.x. ooxoooxoooxoooxo"))),
    "hiphop": Style((82, 98), 0.56, 0.2, MINOR_BLUES, "Cm Cm Ab Ab", (
        ("sub bass", 1.0, 29, "0-----..0-0---.. 0-------..0---0-"),
        ("piano", 0.4, 53, "c-----.......... ..c---......c-.."),
        ("kick", 1.0, 0, "x.....x...x..... x..x......x..x.."),
        ("snare", 1.0, 0, "....x.......x... ....x..o.o..x..."),
        ("hat", 0.6, 0, "x.x.x.x.x.x.xxx. xox.xoxxxox.xox."))),
    "jazz": Style((130, 190), 0.667, 0.5, MAJOR, "Dm7 G7 Cmaj7 Am7", (
        ("bass", 0.8, 33, "0---1---2---3--- 0---2---3---1---"),
        ("piano", 0.7, 52, "c-....c---...... ..c-......c-...."),
        ("brass", 0.6, 57, "m---m-m-..m-m---m-m-m-------.... ..m-m-m-m-m-m---"),
        ("cymbal", 0.9, 0, "x...x.o.x...x.o."),
        ("brushes", 0.4, 0, "....o.......o... ....o..o....o..."))),
    "metal": Style((140, 180), 0.5, 0.3, MINOR_BLUES, "C5 C5 Ab5 Bb5", (
        ("metal guitar", 0.9, 38, "c-00c-00c-00c-c- c---0000c---0000"),
        ("bass", 0.5, 28, "0-0-0-0-0-0-0-0-"),
        ("kick", 0.8, 0, "xxxxxxxxxxxxxxxx x.xxx.xxx.xxx.xx"),
        ("snare", 0.8, 0, "....x.......x..."),
        ("cymbal", 0.5, 0, "x.......x....... x...x...x...x..."))),
    "pop": Style((98, 118), 0.5, 0.8, PENTATONIC, "C G Am F", (
        ("organ", 0.6, 55, "c---------------"),
        ("synth", 0.8, 64, "0.1.2.1.0.1.2.1. 2..1..0.2..1..0. m-m-m---m-m-m---"),
        ("bass", 0.6, 33, "0-0-0-0-0-0-0-0-"),
        ("kick", 0.8, 0, "x.......x....... x......xx......."),
        ("clap", 0.9, 0, "....x.......x..."),
        ("hat", 0.4, 0, "x.x.x.x.x.x.x.x."))),
    "reggae": Style((68, 84), 0.58, 0.8, PENTATONIC, "Cm Cm Fm Fm", (
        ("sub bass", 0.9, 33, "0-0---2-..0-1-2- ..0-0-..2-1-0-.."),
        ("organ", 0.8, 57, "..c...c...c...c. ..c.c.c...c.c.c."),
        ("guitar", 0.8, 60, "..c...c...c...c. ..cc..c...cc..c."),
        ("kick", 0.7, 0, "........x......."),
        ("hat", 0.4, 0, "o.x.o.x.o.x.o.x."))),
    "rock": Style((112, 136), 0.5, 0.4, MINOR_BLUES, "C5 F5 G5 F5", (
        ("rock guitar", 0.8, 45, "c-c-c-c-c-c-c-c- c---c-c---c-c-c-"),
        ("bass", 0.6, 33, "0-0-0-0-0-0-0-0-"),
        ("kick", 0.9, 0, "x.......x.x..... x.....x.x......."),
        ("snare", 1.0, 0, "....x.......x..."),
        ("cymbal", 0.5, 0, "x...x...x...x... x.x.x.x.x.x.x.x."))),
}  # fmt: skip


def synthesise(
    genre: str, seed: int, seconds: float = 10.0, sampling_rate: int = SAMPLING_RATE
) -> np.ndarray:
    """Return a clip of one style: float32 in [-1, 1], shape (seconds * sampling_rate,).

    The same arguments give the same clip. `genre` is one of `GENRES`.
    """
    style, rate = STYLES[genre], sampling_rate
    rng = np.random.default_rng(np.random.SeedSequence([GENRES.index(genre), seed]))
    beat, key = 60 / rng.uniform(*style.tempo), int(rng.integers(12))
    chords = style.chords.split()
    first = int(rng.integers(len(chords)))
    chords = chords[first:] + chords[:first]
    n_samples = round(seconds * rate)
    mix = np.zeros(n_samples + round(rng.uniform(0.8, 4) * beat * rate))  # to begin within a bar
    for sound, level, low, patterns in style.parts:
        part = np.zeros(len(mix))
        pattern = str(rng.choice(patterns.split()))
        known: dict[tuple, np.ndarray] = {}  # a part has few notes and repeats them
        for start, length, pitch, gain in _notes(style, pattern, chords, key, low, rng):
            index = round((start * beat + abs(rng.normal(0, 0.004))) * rate)
            if index >= len(mix):
                break
            if (pitch, length) not in known:
                known[pitch, length] = _sound(sound, pitch, length * beat, rate, rng)
            note = known[pitch, length][: len(mix) - index]
            part[index : index + len(note)] += gain * note
        part /= max(np.abs(part).max(), 1e-9)
        if sound in INSTRUMENTS and (drive := INSTRUMENTS[sound][3]):
            part = np.convolve(np.tanh(drive * part), np.hanning(9) / 4, mode="same")
        mix += level * rng.uniform(0.7, 1.3) * part
    for delay, gain in ((0.023, 0.3), (0.041, -0.24), (0.067, 0.19), (0.149, 0.12)):
        shift = round(delay * rng.uniform(0.8, 1.2) * rate)
        mix[shift:] += style.echo * gain * mix[:-shift]
    mix = mix[-n_samples:] + 10 ** rng.uniform(-3.5, -2.5) * rng.standard_normal(n_samples)
    index = np.arange(n_samples)  # fades in within 20 ms and out within 200 ms
    mix *= np.minimum(1, index / (0.02 * rate)) * np.minimum(1, index[::-1] / (0.2 * rate))
    return (mix * rng.uniform(0.56, 0.7) / np.abs(mix).max()).astype(np.float32)


def _notes(
    style: Style, pattern: str, chords: list[str], key: int, low: int, rng: np.random.Generator
) -> Iterator[tuple[float, float, int, float]]:
    """Yield (start in beats, length in beats, MIDI pitch, gain), without end."""
    swung = [0.0, style.swing / 2, style.swing, (1 + style.swing) / 2]
    inversion, place = int(rng.integers(3)), int(rng.integers(5))
    for bar in itertools.count(step=len(pattern) // 16):
        for hit in re.finditer(r"[^.-]-*", pattern):
            begin, end = (4 * bar + i // 4 + swung[i % 4] for i in hit.span())
            chord = chords[(bar + hit.start() // 16) % len(chords)]
            note, suffix = re.fullmatch("([A-G]b?)(.*)", chord).groups()
            root, tones, kind = NOTES[note], CHORDS[suffix], hit[0][0]
            places = [int(kind)] if kind.isdigit() else [0]
            if kind == "c":
                places = range(inversion, inversion + len(tones))
            elif kind == "m":
                place = int(np.clip(place + rng.integers(-2, 3), 0, 8))
                root, tones, places = 0, style.scale, [place]
            gain = rng.uniform(0.8, 1.0) * (0.4 if kind == "o" else 1.0)
            for octave, tone in (divmod(p, len(tones)) for p in places):
                pitch = low + (key + root - low) % 12 + 12 * octave + tones[tone]
                yield begin, round(end - begin, 6), pitch, gain


def _sound(
    name: str, pitch: int, seconds: float, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return one note or drum stroke: float64, shape (samples,)."""
    if name in DRUMS:
        first, last, ring, noise, decay, order = DRUMS[name]
        time = np.arange(round(6 * max(ring, decay) * rate)) / rate
        hertz = last + (first - last) * np.exp(-time / 0.03)
        sine = np.sin(2 * math.pi * rng.uniform(0.9, 1.1) * np.cumsum(hertz) / rate)
        hiss = np.diff(rng.standard_normal(len(time) + order), order)
        stroke = (1 - noise) * sine * np.exp(-time / ring)
        stroke += noise * hiss / (3 * hiss.std()) * np.exp(-time / decay)
        return stroke * np.minimum(1, time / 0.001)  # no click
    slope, decay, attack, _ = INSTRUMENTS[name]
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    harmonic = np.arange(1, max(2, int(0.45 * rate / hertz)))
    spectrum = np.zeros(2049, complex)
    spectrum[harmonic] = -1j * harmonic**-slope
    cycle = np.fft.irfft(spectrum)
    time = np.arange(round((seconds + RELEASE) * rate)) / rate
    note = cycle[(hertz * len(cycle) * time).astype(int) % len(cycle)] / cycle.std()
    fall = np.exp(-time / decay) * np.minimum(1, (time[-1] - time) / RELEASE)
    return note * np.minimum(1, time / attack) * fall


def write_archive(
    path: str | os.PathLike, clips_per_genre: int = 25, seconds: float = 8.0, seed: int = 0
) -> None:
    """Write a zip laid out like GTZAN: genres_original/<genre>/<genre>.NNNNN.wav, PCM16 mono.

    The same arguments give the same bytes. The zip also holds `MARKER`, which says what it is.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    clips = [(genre, number) for genre in GENRES for number in range(clips_per_genre)]
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            archive.writestr(zipfile.ZipInfo(MARKER), NOTICE)
            for genre, number in tqdm(clips, desc="Synthesising", unit="clip"):
                clip = to_pcm16(synthesise(genre, seed * 100_000 + number, seconds))
                name = f"genres_original/{genre}/{genre}.{number:05d}.wav"
                archive.writestr(zipfile.ZipInfo(name), wav_bytes(clip, SAMPLING_RATE))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
