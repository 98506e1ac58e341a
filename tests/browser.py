"""Shared by the browser tests of the page: Chromium's options, files, and a visitor's actions."""

import io
import shutil
import socket
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre.wav import to_pcm16, wav_bytes

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000  # milliseconds; long, as the machine may be busy


def own_address():
    """An address of this machine that is not local, or None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        return probe.getsockname()[0]


FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    # No other host is contacted.
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE {own_address()}",
]


def write_clips(folder: Path) -> Path:
    """Write the same music as WAV and MP3, a text that is named MP3, and two longer files."""
    pcm = to_pcm16(synthesise("disco", 1, 12.0))
    (folder / "song.wav").write_bytes(wav_bytes(pcm, SAMPLING_RATE))
    (folder / "song.mp3").write_bytes(mp3_bytes(pcm))
    (folder / "text.mp3").write_text("I am a text. " * 100)
    soundfile.write(folder / "long.flac", np.tile(pcm, 50), SAMPLING_RATE)  # ten minutes
    microphone = to_pcm16(synthesise("disco", 1, 20.0, 48_000))
    (folder / "microphone.wav").write_bytes(wav_bytes(microphone, 48_000))
    return folder


def mp3_bytes(pcm: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=SAMPLING_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


SHIFTS = """() => {
  window.shift = 0; window.shiftedAt = performance.now();
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shift += entry.value;
    window.shiftedAt = performance.now();
  }).observe({type: 'layout-shift', buffered: false}) }"""
STILL = "performance.now() - window.shiftedAt > 1000"


def press_listen(page):
    """Open the Listen tab and press its button."""
    page.get_by_role("tab", name="Listen").click()
    page.get_by_role("button", name="Listen", exact=True).click()
    expect(word(page)).not_to_have_text("not listening", timeout=PATIENCE)


def word(page):
    return page.locator(".genre-word:visible")


def processed(page):
    """The line that says how sure the model is and how much was processed."""
    return page.locator(".genre-note:visible")


def expect(locator):
    return sync_api.expect(locator)
