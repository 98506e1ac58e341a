"""Synthesise music in ten styles named as GTZAN's genres, for a demonstration without data.

Each style is a caricature made of tables: tempo, swing, harmony, and parts that play drum, chord
and melody patterns on a few instruments. The seed draws the rest (key, tempo, voicing, patterns,
levels), so no two clips are equal. A model trained on these clips is no music classifier.

    from data_prep.synthetic import synthesise, write_archive
    clip = synthesise("jazz", seed=7, seconds=10.0)  # float32, 22,050 Hz
    write_archive("synthetic.zip", clips_per_genre=40)  # laid out as GTZAN is
"""

import math
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.archive import MARKER
from data_prep.gtzan import GENRES
from music_genre import audio

NOTICE = (
    "These clips are synthesised by the project as a demonstration and are no real music. "
    "A model trained on them is no music classifier.\n"
)
SAMPLING_RATE = 22_050  # hertz, as in GTZAN
BAR = 4  # beats
STEPS = 16  # sixteenths in a bar
TABLE_SIZE = 4096  # samples in one cycle of a wavetable
VIBRATO_RATE = 5.5  # hertz
RELEASE = 0.04  # seconds in which a note dies away after its length
PEAK = 10 ** (-3 / 20)  # -3 dBFS
# Echoes: seconds after the sound, gain.
ROOM = ((0.023, 0.30), (0.041, -0.24), (0.067, 0.19), (0.101, -0.15), (0.149, 0.11))
DEGREES = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}


@dataclass(frozen=True)
class Instrument:
    """A pitched sound: harmonic k has amplitude k ** -slope, shaped by the other fields."""

    slope: float
    even: float = 1.0  # gain of the even harmonics
    formant: float = 0.0  # hertz around which harmonics are louder; 0 for none
    attack: float = 0.006  # seconds
    decay: float = math.inf  # seconds
    vibrato: float = 0.0  # semitones
    detune: float = 0.0  # semitones between two oscillators
    drive: float = 0.0  # gain into the distortion; 0 for none


@dataclass(frozen=True)
class Drum:
    """An unpitched sound: a falling sine plus noise, each with its own decay."""

    start: float  # hertz
    end: float  # hertz
    ring: float  # decay of the sine, seconds
    noise: float  # level of the noise; the sine has level 1 - noise
    hiss: float  # decay of the noise, seconds
    order: int = 0  # how often the noise is differentiated: more is brighter


@dataclass(frozen=True)
class Part:
    """One player. In a pattern a character is a sixteenth and `-` holds the note before it.

    `x` and `o` are loud and soft drum strokes, `c` a chord, a digit a tone of the chord, `m` the
    next tone of a melody, `.` a rest. A clip plays one of the patterns, over and over.
    """

    sound: str
    level: float
    low: int  # lowest MIDI note for a chord's root; not used by drums
    patterns: str  # separated by spaces


@dataclass(frozen=True)
class Style:
    """What a genre's clips have in common."""

    tempo: tuple[float, float]  # beats per minute
    progressions: tuple[str, ...]  # a chord a bar
    parts: tuple[Part, ...]
    scale: tuple[int, ...] = ()  # of melodies, semitones above the key
    swing: float = 0.5  # where in the beat the second eighth falls: 2/3 is a triplet
    room: float = 0.5  # how much of the room is heard


@dataclass(frozen=True)
class Song:
    """What the seed decides for all parts of a clip."""

    style: Style
    tempo: float
    key: int  # semitones above C
    chords: tuple[tuple[int, tuple[int, ...]], ...]  # (root above the key, intervals) by bar
    inversion: int
    brightness: float  # taken from every instrument's slope
    seconds: float
    rate: int

    def onset(self, step: int) -> float:
        """Return the seconds from the song's start to a sixteenth, swing included."""
        swing = self.style.swing
        place = (0.0, swing / 2, swing, (1 + swing) / 2)[step % 4]
        return (step // 4 + place) * 60 / self.tempo


SOUNDS: dict[str, Instrument | Drum] = {
    "bass": Instrument(2.2, decay=0.9),
    "upright": Instrument(2.6, decay=0.45, formant=300),
    "sub": Instrument(4.0, decay=1.6, attack=0.012),
    "octave bass": Instrument(1.5, decay=0.25),
    "banjo": Instrument(0.7, decay=0.16, formant=1600),
    "acoustic guitar": Instrument(1.0, decay=0.4),
    "clean guitar": Instrument(1.3, decay=0.12, formant=900),
    "blues guitar": Instrument(1.2, decay=1.2, vibrato=0.25, drive=4.0, formant=1200),
    "rock guitar": Instrument(1.2, decay=2.5, detune=0.08, drive=3.5),
    "metal guitar": Instrument(0.9, decay=3.0, detune=0.05, drive=14.0),
    "piano": Instrument(1.9, decay=0.8),
    "honky-tonk piano": Instrument(1.1, decay=0.5, detune=0.14),
    "mellow keys": Instrument(3.0, decay=0.9, even=0.3),
    "organ": Instrument(1.6, even=0.5, attack=0.01, vibrato=0.08),
    "strings": Instrument(1.3, attack=0.12, vibrato=0.22, detune=0.1),
    "violin": Instrument(1.1, attack=0.07, vibrato=0.35, formant=1200),
    "brass": Instrument(1.0, attack=0.035, vibrato=0.15, formant=700),
    "synth pad": Instrument(2.4, attack=0.08, detune=0.16),
    "synth lead": Instrument(0.8, even=0.1, decay=0.5, detune=0.12, formant=2500),
    "kick": Drum(150, 50, 0.12, 0.04, 0.004),
    "deep kick": Drum(120, 42, 0.28, 0.03, 0.004),
    "snare": Drum(240, 180, 0.06, 0.55, 0.09),
    "brushes": Drum(200, 180, 0.02, 0.9, 0.12, 1),
    "clap": Drum(900, 900, 0.01, 0.9, 0.10),
    "rim": Drum(1700, 1500, 0.02, 0.3, 0.01),
    "hat": Drum(9000, 9000, 0.01, 0.95, 0.025, 2),
    "open hat": Drum(9000, 9000, 0.02, 0.95, 0.14, 2),
    "ride": Drum(5200, 5150, 0.1, 0.88, 0.2, 2),
    "crash": Drum(4000, 3900, 0.2, 0.95, 0.6, 1),
}

STYLES = {
    "blues": Style(
        (72, 92),
        ("I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 I7"),
        (
            Part("bass", 0.8, 33, "0-0-2-2-3-3-2-2- 0-0-1-1-2-2-3-2-"),
            Part("honky-tonk piano", 0.8, 50, "..c-..c-..c-..c- c-..c-..c-..c-.."),
            Part("blues guitar", 0.55, 52, "m---m-m-m-----..m-m-m-----...... ..m-m-m-m-m---.."),
            Part("kick", 0.8, 0, "x.......x....... x.......x.o....."),
            Part("snare", 0.8, 0, "....x.......x... ....x..o....x..o"),
            Part("hat", 0.5, 0, "x.o.x.o.x.o.x.o. x...x.o.x...x.o."),
        ),
        scale=(0, 3, 5, 6, 7, 10),
        swing=0.667,
    ),
    "classical": Style(
        (66, 100),
        ("I V vi iii IV I IV V", "I IV V I vi ii V I", "i iv V i i iv V7 i"),
        (
            Part("strings", 0.7, 48, "c--------------- c-------c-------"),
            Part("piano", 0.5, 60, "0-2-1-2-0-2-1-2- 0-1-2-3-4-3-2-1-"),
            Part("violin", 0.5, 64, "2-----1-0-------3---2---1------- 0---1---2-----3-"),
            Part("strings", 0.4, 36, "0--------------- 0-------2-------"),
        ),
        room=1.0,
    ),
    "country": Style(
        (100, 126),
        ("I I IV I V V I I", "I IV V I", "I V I IV I V I I"),
        (
            Part("upright", 0.7, 36, "0---....2---...."),
            Part("acoustic guitar", 0.8, 55, "....c-......c-.. ....c-c-....c-c-"),
            Part("banjo", 0.7, 62, "0123012301230143 2014201420142013 0.21032.0.210321"),
            Part("brushes", 0.8, 0, "o.o.x.o.o.o.x.o. ooooxooooooxxooo"),
        ),
        room=0.25,
    ),
    "disco": Style(
        (114, 128),
        ("i i bVII bVII bVI bVI V V", "i iv bVII bIII", "ii7 V7 Imaj7 Imaj7"),
        (
            Part("octave bass", 0.7, 33, "0.3.0.3.0.3.0.3. 0.330.330.330.33"),
            Part("strings", 0.7, 60, "c-----c-....c--- c-----------..c-"),
            Part("clean guitar", 0.6, 57, "c.cc.cc.c.cc.cc. ..c.ccc...c.ccc."),
            Part("kick", 1.0, 0, "x...x...x...x..."),
            Part("clap", 0.8, 0, "....x.......x..."),
            Part("open hat", 0.6, 0, "..x...x...x...x."),
            Part("hat", 0.5, 0, "x.o.x.o.x.o.x.o. xo.oxo.oxo.oxo.o"),
        ),
    ),
    "hiphop": Style(
        (82, 98),
        ("i i bVI bVI", "i7 i7 iv7 iv7", "i i i V"),
        (
            Part("sub", 0.9, 29, "0-----..0-0---.. 0-------..0---0-"),
            Part("mellow keys", 0.6, 53, "c-----.......... ..c---......c-.."),
            Part("deep kick", 1.0, 0, "x.....x...x..... x..x......x..x.."),
            Part("snare", 1.0, 0, "....x.......x... ....x..o.o..x..."),
            Part("hat", 0.6, 0, "x.x.x.x.x.x.xxx. xox.xoxxxox.xox."),
        ),
        swing=0.56,
        room=0.2,
    ),
    "jazz": Style(
        (130, 190),
        ("ii7 V7 Imaj7 Imaj7", "Imaj7 vi7 ii7 V7", "iii7 vi7 ii7 V7"),
        (
            Part("upright", 0.8, 33, "0---1---2---3--- 0---2---3---1--- 0---3---2---1---"),
            Part("piano", 0.8, 52, "c-....c---...... ..c-......c-.... ......c-......c-"),
            Part("brass", 0.5, 55, "m---m-m-..m-m---m-m-m-------.... ..m-m-m-m-m-m---"),
            Part("ride", 0.9, 0, "x...x.o.x...x.o."),
            Part("brushes", 0.4, 0, "....o.......o... ....o..o....o..."),
        ),
        scale=(0, 2, 4, 7, 9, 11),
        swing=0.667,
    ),
    "metal": Style(
        (140, 180),
        ("i5 i5 bVI5 bVII5", "i5 bII5 i5 bIII5", "i5 i5 iv5 bII5"),
        (
            Part("metal guitar", 0.7, 38, "c-00c-00c-00c-c- c---0000c---0000 c000c000c000c-c-"),
            Part("bass", 0.5, 28, "0-0-0-0-0-0-0-0-"),
            Part("kick", 0.8, 0, "xxxxxxxxxxxxxxxx x.xxx.xxx.xxx.xx"),
            Part("snare", 0.9, 0, "....x.......x... ..x...x...x...x."),
            Part("crash", 0.5, 0, "x.......x....... x...x...x...x..."),
        ),
        room=0.3,
    ),
    "pop": Style(
        (98, 118),
        ("I V vi IV", "vi IV I V", "I vi IV V"),
        (
            Part("synth pad", 0.7, 55, "c---------------"),
            Part("synth lead", 0.6, 64, "0.1.2.1.0.1.2.1. 2..1..0.2..1..0. 0.2.1.2.3.2.1.2."),
            Part("bass", 0.6, 33, "0-0-0-0-0-0-0-0-"),
            Part("kick", 0.8, 0, "x.......x....... x......xx......."),
            Part("clap", 0.9, 0, "....x.......x..."),
            Part("hat", 0.5, 0, "x.x.x.x.x.x.x.x."),
        ),
        room=0.8,
    ),
    "reggae": Style(
        (68, 84),
        ("i i iv iv", "I IV I V", "I ii I ii", "i bVII i bVII"),
        (
            Part("sub", 0.8, 33, "0-0---2-..0-1-2- ..0-0-..2-1-0-.. 0---..0-2---...."),
            Part("organ", 0.8, 57, "..c...c...c...c. ..c.c.c...c.c.c."),
            Part("clean guitar", 0.8, 60, "..c...c...c...c. ..cc..c...cc..c."),
            Part("kick", 0.7, 0, "........x......."),
            Part("rim", 0.7, 0, "........x....... ........x..o..o."),
            Part("hat", 0.4, 0, "o.x.o.x.o.x.o.x."),
        ),
        swing=0.58,
        room=0.8,
    ),
    "rock": Style(
        (112, 136),
        ("I5 IV5 V5 IV5", "I5 bVII5 IV5 I5", "vi5 IV5 I5 V5"),
        (
            Part("rock guitar", 0.7, 45, "c-c-c-c-c-c-c-c- c---c-c---c-c-c- c-----c-..c-c---"),
            Part("bass", 0.6, 33, "0-0-0-0-0-0-0-0-"),
            Part("kick", 0.9, 0, "x.......x.x..... x.....x.x......."),
            Part("snare", 1.0, 0, "....x.......x..."),
            Part("open hat", 0.5, 0, "x...x...x...x... x.x.x.x.x.x.x.x."),
        ),
        room=0.4,
    ),
}


def synthesise(
    genre: str, seed: int, seconds: float = 10.0, sampling_rate: int = SAMPLING_RATE
) -> np.ndarray:
    """Return a clip of one style: float32 in [-1, 1], shape (seconds * sampling_rate,).

    The same arguments give the same clip. Raises ValueError if `genre` is not one of `GENRES`.
    """
    if genre not in STYLES:
        raise ValueError(f"Unknown genre {genre!r}: choose one of {', '.join(GENRES)}.")
    rng = np.random.default_rng(np.random.SeedSequence([GENRES.index(genre), seed]))
    song = _draw_song(STYLES[genre], seconds, sampling_rate, rng)
    samples = round(seconds * sampling_rate)
    mix = np.zeros(round(song.seconds * sampling_rate))
    for part in song.style.parts:
        level = part.level * rng.uniform(0.7, 1.3)
        mix += level * _render(part, song, rng)
    for delay, gain in ROOM:
        shift = round(delay * rng.uniform(0.8, 1.2) * sampling_rate)
        mix[shift:] += song.style.room * gain * mix[:-shift]
    mix = mix[len(mix) - samples :]
    mix += 10 ** rng.uniform(-3.5, -2.5) * rng.standard_normal(len(mix))
    mix *= _fade(samples, sampling_rate)
    return (mix * PEAK * rng.uniform(0.8, 1.0) / np.abs(mix).max()).astype(np.float32)


def write_archive(
    path: str | os.PathLike, clips_per_genre: int = 40, seconds: float = 8.0, seed: int = 0
) -> None:
    """Write a zip laid out as GTZAN is: genres_original/<genre>/<genre>.NNNNN.wav, PCM16 mono.

    The same arguments give the same bytes. The zip also holds `MARKER`, which says what it is.
    """
    from tqdm import tqdm

    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    clips = [(genre, number) for genre in GENRES for number in range(clips_per_genre)]
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            _add(archive, MARKER, NOTICE.encode())
            for genre, number in tqdm(clips, desc="Synthesising", unit="clip"):
                clip = synthesise(genre, seed * 100_000 + number, seconds)
                name = f"genres_original/{genre}/{genre}.{number:05d}.wav"
                _add(archive, name, audio.wav_bytes(audio.to_pcm16(clip), SAMPLING_RATE))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _draw_song(style: Style, seconds: float, rate: int, rng: np.random.Generator) -> Song:
    chords = [_parse_chord(name) for name in rng.choice(style.progressions).split()]
    first = int(rng.integers(len(chords)))
    tempo = rng.uniform(*style.tempo)
    return Song(
        style=style,
        tempo=tempo,
        key=int(rng.integers(12)),
        chords=tuple(chords[first:] + chords[:first]),
        inversion=int(rng.integers(3)),
        brightness=rng.uniform(-0.2, 0.2),
        seconds=seconds + rng.uniform(0.2, 1.0) * BAR * 60 / tempo,  # a clip starts within a bar
        rate=rate,
    )


def _parse_chord(name: str) -> tuple[int, tuple[int, ...]]:
    """Return a Roman numeral's root above the key and its intervals, all in semitones."""
    flat, numeral, suffix = re.fullmatch(r"(b?)([ivIV]+)(maj7|7|5|)", name).groups()
    root = DEGREES[numeral.lower()] - len(flat)
    if suffix == "5":
        return root, (0, 7)
    third = 4 if numeral.isupper() else 3
    seventh = {"maj7": (11,), "7": (10,), "": ()}[suffix]
    return root, (0, third, 7, *seventh)


def _render(part: Part, song: Song, rng: np.random.Generator) -> np.ndarray:
    """Return one part of a song with a peak of 1: float64, shape (samples,)."""
    sound = SOUNDS[part.sound]
    out = np.zeros(round(song.seconds * song.rate))
    notes: dict[tuple[int, float], np.ndarray] = {}  # a part plays few, again and again
    for onset, length, pitch, gain in _events(part, song, rng):
        if (pitch, length) not in notes:
            drum = isinstance(sound, Drum)
            notes[pitch, length] = (
                _strike(sound, song.rate, rng) if drum else _tone(sound, pitch, length, song)
            )
        start = round((onset + abs(rng.normal(0, 0.004))) * song.rate)
        note = gain * notes[pitch, length][: max(0, len(out) - start)]
        out[start : start + len(note)] += note
    out /= max(np.abs(out).max(), 1e-9)
    if isinstance(sound, Instrument) and sound.drive:
        out = np.convolve(np.tanh(sound.drive * out), np.hanning(9) / 4, mode="same")  # cabinet
    return out


def _events(
    part: Part, song: Song, rng: np.random.Generator
) -> Iterator[tuple[float, float, int, float]]:
    """Yield (onset in seconds, length in seconds, MIDI pitch, gain) of a part's notes."""
    pattern, scale = str(rng.choice(part.patterns.split())), song.style.scale
    place = int(rng.integers(5))  # of the melody in the scale
    bars = math.ceil(song.seconds * song.tempo / 60 / BAR)
    for repeat in range(0, bars * STEPS, len(pattern)):
        for hit in re.finditer(r"[^.-]-*", pattern):
            step, kind = repeat + hit.start(), hit[0][0]
            onset = song.onset(step)
            if onset >= song.seconds:
                return
            length = round(song.onset(repeat + hit.end()) - onset, 6)
            gain = rng.uniform(0.8, 1.0) * (0.4 if kind == "o" else 1.0)
            root, tones = song.chords[step // STEPS % len(song.chords)]
            places = [int(kind)] if kind.isdigit() else [0]
            if kind == "c":
                places = [song.inversion + index for index in range(len(tones))]
            elif kind == "m":
                place = int(np.clip(place + rng.integers(-2, 3), 0, 8))
                root, tones, places = 0, scale, [place]
            base = part.low + (song.key + root - part.low) % 12
            for index in places:
                octave, tone = divmod(index, len(tones))
                yield onset, length, base + 12 * octave + tones[tone], gain


def _tone(instrument: Instrument, pitch: int, length: float, song: Song) -> np.ndarray:
    """Return one note, from a wavetable that grows duller as it decays: float64, (samples,)."""
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    harmonic = np.arange(1, min(TABLE_SIZE // 2, max(2, int(0.45 * song.rate / hertz))))
    spectrum = harmonic ** (song.brightness - instrument.slope)
    spectrum[1::2] *= instrument.even
    if instrument.formant:
        spectrum *= 0.3 + np.exp(-(np.log2(harmonic * hertz / instrument.formant) ** 2))
    bright, dull = _wavetable(spectrum), _wavetable(spectrum / harmonic)

    time = np.arange(round((length + RELEASE) * song.rate)) / song.rate
    wobble = instrument.vibrato * math.log(2) / 12 / (2 * math.pi * VIBRATO_RATE)
    cycles = hertz * (time + wobble * np.sin(2 * math.pi * VIBRATO_RATE * time))
    fading = np.exp(-time / instrument.decay)
    note = np.zeros(len(time))
    for ratio in sorted({1.0, 2 ** (instrument.detune / 12)}):
        place = (ratio * TABLE_SIZE * cycles).astype(np.int32) & (TABLE_SIZE - 1)
        note += dull[place] + (bright - dull)[place] * fading**2
    rise = np.minimum(1, time / instrument.attack)
    return note * fading * rise * np.minimum(1, (time[-1] - time) / RELEASE)


def _wavetable(spectrum: np.ndarray) -> np.ndarray:
    """Return one cycle of the harmonics from 1 on, in sine phase, with unit variance."""
    table = np.fft.irfft(-1j * np.concatenate(([0], spectrum)), TABLE_SIZE)
    return table / table.std()


def _strike(drum: Drum, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return one stroke with a tuning of its own: float64, shape (samples,)."""
    time = np.arange(round(6 * max(drum.ring, drum.hiss) * rate)) / rate
    hertz = drum.end + (drum.start - drum.end) * np.exp(-time / 0.03)
    sine = np.sin(2 * math.pi * rng.uniform(0.9, 1.1) * np.cumsum(hertz) / rate)
    hiss = np.diff(rng.standard_normal(len(time) + drum.order), drum.order)
    hiss *= drum.noise / (3 * hiss.std())
    stroke = (1 - drum.noise) * sine * np.exp(-time / drum.ring) + hiss * np.exp(-time / drum.hiss)
    return stroke * np.minimum(1, time / 0.001)  # no click


def _fade(samples: int, rate: int) -> np.ndarray:
    """Return gains that rise in 20 ms and fall in 200 ms: float64, shape (samples,)."""
    index = np.arange(samples)
    return np.minimum(1, index / (0.02 * rate)) * np.minimum(1, index[::-1] / (0.2 * rate))


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)
