"""Hundreds of hostile or broken files: damaged, absurd, foreign, or pointing elsewhere."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import av
import numpy as np
import soundfile

from music_genre import wav

SECONDS = 1.5
SOUNDFILE_FORMATS = {
    "wav": "WAV",
    "aiff": "AIFF",
    "au": "AU",
    "flac": "FLAC",
    "ogg": "OGG",
    "caf": "CAF",
}
PYAV_FORMATS = {  # ending: (container, codec, sampling rate)
    "mp3": ("mp3", "libmp3lame", 44_100),
    "opus": ("ogg", "libopus", 48_000),
    "m4a": ("mp4", "aac", 44_100),
    "mov": ("mov", "pcm_s16le", 44_100),
    "aac": ("adts", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
    "mka": ("matroska", "aac", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "ac3": ("ac3", "ac3", 44_100),
    "w64": ("w64", "pcm_s16le", 44_100),
}
ODD_NAMES = (
    "x" * 240 + ".wav",
    "a\nb\r\nc.wav",
    "tab\there.wav",
    "音楽🎷.wav",
    "e\u0301\u202egnp.wav",
    "'\"`$(touch stolen)`.wav",
    "<script>alert(1)<\\script>.wav",
    "<img src=x onerror=alert(1)>.wav",
    "--help.wav",
    "-rf",
    "=HYPERLINK(1).wav",
    "%s%n%2e%2e.wav",
    "http:example.com.wav",
    "concat:a|b.wav",
    "\\\\host\\share.wav",
    "con.wav",
    ".wav",
    " ",
    "no ending",
    "{name}.wav",
)

Inputs = dict[str, bytes]  # by file name


def tone(sampling_rate: int = 44_100, seconds: float = SECONDS) -> np.ndarray:
    """A tone of 440 Hz, float32, shape (samples,)."""
    t = np.arange(int(seconds * sampling_rate)) / sampling_rate
    return (0.4 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def by_soundfile(samples: np.ndarray, rate: int = 44_100, kind: str = "WAV", **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, **options)
    return buffer.getvalue()


def by_pyav(
    samples: np.ndarray, container: str, codec: str, rate: int, bit_rate: int = 96_000
) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bit_rate  # WMA has no default
        frame = av.AudioFrame.from_ndarray(wav.to_pcm16(samples)[None], "s16", "mono")
        frame.sample_rate = rate
        fit = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size)
        for part in (*fit.resample(frame), *fit.resample(None)):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def whole() -> Inputs:
    """A valid file of each format; the other inputs are made from these."""
    files = {e: by_soundfile(tone(), kind=kind) for e, kind in SOUNDFILE_FORMATS.items()}
    files |= {e: by_pyav(tone(way[2]), *way) for e, way in PYAV_FORMATS.items()}
    return {f"whole.{ending}": data for ending, data in files.items()}


def damaged(files: Inputs, rng: np.random.Generator) -> Inputs:
    """Truncated, bit-flipped, overwritten and spliced files."""
    inputs = {}
    for name, data in files.items():
        ending = name.split(".")[1]
        for n in (4, 44, len(data) // 3, len(data) - 7):
            inputs[f"first {n} bytes.{ending}"] = data[:n]
        inputs[f"no header.{ending}"] = data[100:]
        inputs[f"header and zeros.{ending}"] = data[:300] + bytes(len(data))
        for i in range(4):
            broken = bytearray(data)
            reach = 400 if i % 2 else len(data)  # half of them in the header
            for at in rng.integers(0, min(reach, len(data)), 1 + 8 * i):
                broken[at] ^= 1 << int(rng.integers(8))
            inputs[f"bit flips {i}.{ending}"] = bytes(broken)
        for i in range(2):
            broken, at = bytearray(data), int(rng.integers(0, 200))
            broken[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f" + b"\xff" * 3])
            inputs[f"extreme number {i}.{ending}"] = bytes(broken)
    names = list(files)
    for i, name in enumerate(names):
        inputs[f"head of another, {name}"] = files[names[i - 1]][:200] + files[name][200:]
    return inputs


def wav_header(channels: int, rate: int, bits: int, kind: int, claimed: int) -> bytes:
    block = channels * bits // 8
    numbers = struct.pack(
        "<IHHIIHH", 16, kind, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits
    )
    size = min(claimed + 36, 0xFFFFFFFF)
    return b"RIFF%sWAVEfmt %sdata%s" % (
        struct.pack("<I", size),
        numbers,
        struct.pack("<I", claimed),
    )


def absurd() -> Inputs:
    """Well-formed files whose contents or claims make no sense."""
    sound, pcm = tone(), wav.to_pcm16(tone()).tobytes()
    nan, inf, huge = sound.copy(), sound.copy(), sound * 1e38
    nan[1000], inf[2000] = np.nan, np.inf
    levels = {
        "silence": 0 * sound,
        "NaN": nan,
        "infinite": inf,
        "huge": huge,
        "tiny": sound * 1e-30,
        "clipped": np.sign(sound),
        "DC": 0 * sound + 1,
        "click": np.eye(1, len(sound), 500, dtype=np.float32)[0],
    }
    inputs = {f"{n}.wav": by_soundfile(s, subtype="FLOAT") for n, s in levels.items()}
    inputs["silence.mp3"] = by_pyav(0 * sound, *PYAV_FORMATS["mp3"])
    for rate in (1, 11, 1009, 15_999, 192_000, 192_001, 655_350):
        inputs[f"{rate} Hz.wav"] = by_soundfile(tone(rate), rate, subtype="PCM_16")
        inputs[f"one sample at {rate} Hz.wav"] = by_soundfile(tone(rate)[:1], rate)
    for n in (2, 7, 9, 255, 1024):
        inputs[f"{n} channels.wav"] = by_soundfile(np.tile(tone(8000)[:, None], n), 8000)
    for n in (2, 8):
        inputs[f"{n} channels.flac"] = by_soundfile(np.tile(tone()[:, None], n), kind="FLAC")
    for channels, rate, bits, kind in (
        (0, 44_100, 16, 1),
        (1, 0, 16, 1),
        (1, 0xFFFFFFFF, 16, 1),
        (65_535, 44_100, 16, 1),
        (1, 44_100, 7, 1),
        (1, 44_100, 16, 0x55),
        (1, 44_100, 16, 0xFFFE),
    ):
        claim = f"{channels} channels, {rate} Hz, {bits} bits, kind {kind:x}"
        inputs[f"{claim}.wav"] = wav_header(channels, rate, bits, kind, len(pcm)) + pcm
    for claimed in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
        inputs[f"claims {claimed} bytes.wav"] = wav_header(1, 44_100, 16, 1, claimed) + pcm
    flac = bytearray(whole()["whole.flac"])
    flac[21:26] = bytes([flac[21] | 0x0F]) + b"\xff" * 4  # 2^36 - 1 samples
    inputs["claims 18 days.flac"] = bytes(flac)
    m4a = whole()["whole.m4a"]
    for box in (b"mvhd", b"mdhd", b"stts", b"stsz", b"stco", b"stsc", b"mdat", b"mp4a", b"esds"):
        broken, at = bytearray(m4a), m4a.index(box)
        broken[at + 12 : at + 24] = b"\xff" * 12
        inputs[f"{box.decode()} of all ones.m4a"] = bytes(broken)
    inputs["unknown codec.m4a"] = m4a.replace(b"mp4a", b"zzzz")
    inputs["unknown codec.mov"] = whole()["whole.mov"].replace(b"sowt", b"zzzz")
    inputs["no sound track.m4a"] = m4a.replace(b"soun", b"vide")
    inputs["boxes within boxes.m4a"] = m4a[:32] + b"".join(
        struct.pack(">I", 8 * n) + b"moov" for n in range(2000, 0, -1)
    )
    return inputs


def foreign() -> Inputs:
    """Files that are something else than their name says."""
    files, archive = whole(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as output:
        output.writestr("song.wav", files["whole.wav"])
    pixels = b"\x89PNG\r\n\x1a\n" + bytes(200)
    gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00!\xf9\x04\x01\n\x00\x01\x00,\0\0\0\0\x01\0\x01\0\0\0;"
    video = _video()
    return {
        "empty.mp3": b"",
        "one byte.flac": b"f",
        "zeros.mp3": bytes(100_000),
        "ones.mp3": b"\xff" * 100_000,
        "noise.mp3": np.random.default_rng(0).bytes(200_000),
        "noise.ogg": b"OggS" + np.random.default_rng(1).bytes(50_000),
        "text.mp3": b"I am a text.\n" * 500,
        "picture.mp3": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "page.wav": b"<!doctype html><script>alert(1)</script>" * 20,
        "archive.flac": archive.getvalue(),
        "picture.ogg": pixels,
        "picture.m4a": gif,
        "pickle.mp3": pickle.dumps(print),
        "notes.mid": b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00`MTrk\x00\x00\x00\x04\x00\xff/\x00",
        "picture only.webm": video,
        "tag only.mp3": b"ID3\x04\x00\x00\x00\x00\x0f\x7f" + bytes(2047),
        "tag of 256 MB.mp3": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + files["whole.mp3"],
        "wav in mp3.mp3": files["whole.wav"],
        "mp3 in wav.wav": wav_header(1, 44_100, 16, 0x55, len(files["whole.mp3"]))
        + files["whole.mp3"],
        "wav in wav.wav": wav_header(1, 44_100, 16, 1, len(files["whole.wav"]))
        + files["whole.wav"],
        "m4a in webm.webm": files["whole.webm"] + files["whole.m4a"],
        "twice.ogg": files["whole.ogg"] + files["whole.opus"],
        "rate changes.mp3": files["whole.mp3"] + by_pyav(tone(22_050), "mp3", "libmp3lame", 22_050),
        "gzip.wav": b"\x1f\x8b\x08\x00" + files["whole.wav"],
    }


def _video() -> bytes:
    """A WebM with pictures and without sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as output:
        stream = output.add_stream("libvpx", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


def pointing(secret: Path, port: int) -> Inputs:
    """Playlists, scripts and containers that point to a file of the server, or to a host.

    Args:
        secret: a playable file, which must not be opened.
        port: of a listener on this machine, to which nothing must connect.
    """
    inputs = {}
    m4a = by_pyav(tone(), "mov", "pcm_s16le", 44_100)
    for kind, goal in {
        "file": str(secret),
        "neighbour": secret.name,
        "host": f"http://127.0.0.1:{port}/song.mp3",
        "tcp": f"tcp://127.0.0.1:{port}",
        "concat": f"concat:{secret}|{secret}",
        "subfile": f"subfile,,start,0,end,0,,:{secret}",
    }.items():
        segment = f"#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{goal}\n#EXT-X-ENDLIST\n"
        texts = {
            "m3u8": f"#EXTM3U\n{segment}",
            "hls with a key.ts": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{goal}"\n{segment}',
            "pls": f"[playlist]\nFile1={goal}\nNumberOfEntries=1\n",
            "asx": f'<asx version="3.0"><entry><ref href="{goal}"/></entry></asx>',
            "xspf": f"<playlist><trackList><track><location>{goal}</location></track></trackList>"
            "</playlist>",
            "ffconcat.mp3": f"ffconcat version 1.0\nfile '{goal}'\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            f"m=audio {port} RTP/AVP 0\n",
            "dash.m4a": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
            'type="static" mediaPresentationDuration="PT9S"><Period><AdaptationSet '
            'mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
            f"{goal}</BaseURL></Representation></AdaptationSet></Period></MPD>",
            "xxe.svg.mp3": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "{goal}">]>'
            "<svg>&e;</svg>",
        }
        inputs |= {f"{kind} in {ending}": text.encode() for ending, text in texts.items()}
        inputs[f"{kind} in a reference.mov"] = _with_reference(m4a, goal)
        inputs[f"{kind} behind RIFF.wav"] = b"RIFF" + f"\n#EXTM3U\n{segment}".encode()
        inputs[f"{kind} behind a tag.mp3"] = b"ID3\x04\0\0\0\0\0\0" + texts["m3u8"].encode()
    return inputs


def _with_reference(mov: bytes, goal: str) -> bytes:
    """A QuickTime file that says its samples are in another one ("alis", not self-contained)."""
    at = mov.index(b"dref") - 4
    size = int.from_bytes(mov[at : at + 4], "big")
    name = goal.encode()[:63]
    record = bytearray(150)
    record[10:11] = bytes([min(27, len(name))])
    record[50 : 51 + len(name)] = bytes([len(name)]) + name
    path = goal.encode() + bytes(len(goal.encode()) % 2)
    record += struct.pack(">HH", 18, len(goal.encode())) + path + b"\xff\xff\0\0"
    alias = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + bytes(record)
    reference = struct.pack(">I4sII", 16 + len(alias), b"dref", 0, 1) + alias
    grown, result = len(reference) - size, bytearray(mov[:at] + reference + mov[at + size :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = result.index(box) - 4
        bigger = int.from_bytes(result[start : start + 4], "big") + grown
        result[start : start + 4] = bigger.to_bytes(4, "big")
    return bytes(result)


def all_inputs(secret: Path, port: int) -> Inputs:
    """All inputs; they are the same each time, except for the path of `secret` and the port."""
    files = whole()
    odd = {name: files["whole.wav"] for name in ODD_NAMES}
    odd |= {f"bad {name}"[:250]: b"I am a text" for name in ODD_NAMES[::2]}
    broken = damaged(files, np.random.default_rng(0))
    return files | broken | absurd() | foreign() | pointing(secret, port) | odd
