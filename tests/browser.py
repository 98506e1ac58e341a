"""What the tests of the page in a browser share: Chromium's options, files, a visitor's acts."""

import base64
import io
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre import old_audio as audio

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000  # milliseconds, for what must come at some time: the machine may be busy
FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing outside is asked
]


def write_clips(folder: Path) -> Path:
    """The same music as WAV and MP3, and a text that calls itself MP3."""
    pcm = audio.to_pcm16(synthesise("disco", 1, 12.0))
    (folder / "song.wav").write_bytes(audio.wav_bytes(pcm, SAMPLING_RATE))
    (folder / "song.mp3").write_bytes(mp3_bytes(pcm))
    (folder / "song.xyz").write_bytes((folder / "song.mp3").read_bytes())
    for name in ("text.mp3", "song.txt"):
        (folder / name).write_text("I am a text. " * 100)
    soundfile.write(folder / "long.flac", np.tile(pcm, 50), SAMPLING_RATE)  # ten minutes
    microphone = audio.to_pcm16(synthesise("disco", 1, 20.0, 48_000))
    (folder / "microphone.wav").write_bytes(audio.wav_bytes(microphone, 48_000))
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


def press_record(page):
    """Open Listen and press Record."""
    page.get_by_role("tab", name="Listen").click()
    page.get_by_role("button", name="Record", exact=True).click()
    expect(word(page)).not_to_have_text("not listening", timeout=PATIENCE)


def word(page):
    return page.locator(".genre-word:visible")


def processed(page):
    """The line that says how sure the model is and how much was processed."""
    return page.locator(".genre-note:visible")


def expect(locator):
    return sync_api.expect(locator)


def drop(page, path):
    """Drop a file on the song's field, as a mouse does."""
    page.locator("#song .upload-container").wait_for(timeout=PATIENCE)
    page.evaluate(
        """async ([name, data]) => {
          const list = new DataTransfer();
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          list.items.add(new File([bytes], name));
          const field = document.querySelector('#song .upload-container');
          for (const type of ['dragenter', 'dragover', 'drop'])
            field.dispatchEvent(
              new DragEvent(type, {dataTransfer: list, bubbles: true, cancelable: true}));
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )


def choose(page, path):
    page.locator("input[type=file]").first.set_input_files(path)
