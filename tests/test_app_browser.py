"""The demo in a real browser: Chromium with a microphone that plays a synthesised clip."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

import app
from data_prep.synthetic import SAMPLING_RATE, synthesise
from music_genre import audio
from tests.hub import HubDouble

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

ROOT = Path(__file__).resolve().parents[1]
FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]

HARMLESS = {  # gradio's recorder, when it is stopped before its first chunk; it works again after
    "Another request was made to initiate an encoding."
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """The same music as WAV and MP3, and a text that calls itself MP3."""
    folder = tmp_path_factory.mktemp("clips")
    pcm = audio.to_pcm16(synthesise("disco", 1, 12.0))
    (folder / "song.wav").write_bytes(audio.wav_bytes(pcm, SAMPLING_RATE))
    (folder / "song.mp3").write_bytes(mp3_bytes(pcm))
    (folder / "text.mp3").write_text("I am a text. " * 100)
    soundfile.write(folder / "long.flac", np.tile(pcm, 50), SAMPLING_RATE)  # ten minutes
    microphone = audio.to_pcm16(synthesise("disco", 1, 20.0, 48_000))
    (folder / "microphone.wav").write_bytes(audio.wav_bytes(microphone, 48_000))
    return folder


def mp3_bytes(pcm: np.ndarray) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=SAMPLING_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where the server keeps what visitors send."""
    return tmp_path_factory.mktemp("cache")


@contextmanager
def serving(*arguments, **environment):
    """The app as a process of its own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "app.py", *map(str, arguments), "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(url)
                break
            except OSError:
                assert server.poll() is None, server.stderr.read().decode()
                time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="session")
def address(jazz_model, cache):
    with serving("--model", jazz_model, GRADIO_TEMP_DIR=str(cache)) as url:
        yield url


@pytest.fixture(scope="session")
def browser(clips):
    microphone = f"--use-file-for-fake-audio-capture={clips / 'microphone.wav'}"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, microphone])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, as a first visitor sees it; it must not ask for anything outside."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["microphone"]
    )
    page, outside, errors = context.new_page(), [], []

    def guard(route):
        if route.request.url.startswith((address, "blob:", "data:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    page.route("**/*", guard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_role("tab", name="Song").wait_for()
    yield page
    context.close()
    assert not outside
    assert not [error for error in errors if error not in HARMLESS]


def press_record(page):
    """Open Listen and start; not at once, as gradio's recorder may still be loading."""
    page.get_by_role("tab", name="Listen").click()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Record", exact=True).click()


def word(page):
    return page.locator(".genre-word:visible")


def expect(locator):
    return sync_api.expect(locator)


def test_an_example_gives_a_genre(page):
    page.get_by_role("button", name="reggae").click()
    expect(word(page)).to_have_text("jazz", timeout=20_000)
    expect(page.locator(".genre-bars:visible li")).to_have_count(10)
    expect(page.locator(".genre-plot img:visible")).to_have_count(1)


@pytest.mark.parametrize("name", ["song.wav", "song.mp3"])
def test_an_uploaded_file_gives_a_genre(page, clips, name):
    before = page.locator(".genre-plot:visible").first.bounding_box()
    page.locator("input[type=file]").first.set_input_files(clips / name)
    expect(word(page)).to_have_text("jazz", timeout=20_000)
    expect(page.locator(".genre-note:visible")).to_contain_text("heard 0:12")
    assert page.locator(".genre-plot:visible").first.bounding_box() == before  # nothing jumped


def test_a_long_song_shows_how_far_it_is(page, clips):
    page.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() => {
             const text = document.body.innerText.match(/\\d+ of \\d+ windows heard/);
             if (text) window.seen.add(text[0]);
           }).observe(document.body, {childList: true, subtree: true, characterData: true}) }"""
    )
    page.locator("input[type=file]").first.set_input_files(clips / "long.flac")
    expect(page.locator(".genre-note:visible")).to_contain_text("heard 10:00", timeout=60_000)
    seen = page.evaluate("[...window.seen]")
    assert seen and all(text.endswith("of 120 windows heard") for text in seen), seen
    expect(page.get_by_text("windows heard")).to_have_count(0)


SHIFTS = """() => { window.shift = 0; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shift += entry.value;
}).observe({type: 'layout-shift', buffered: false}) }"""


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_jumps_when_a_result_arrives(page, clips, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.wait_for_timeout(1000)
    page.evaluate(SHIFTS)
    page.locator("input[type=file]").first.set_input_files(clips / "song.wav")
    expect(word(page)).to_have_text("jazz", timeout=20_000)
    page.wait_for_timeout(500)
    assert page.evaluate("window.shift") < 0.1  # what browsers' makers call good


def test_a_text_called_mp3_gives_one_sentence(page, clips):
    page.locator("input[type=file]").first.set_input_files(clips / "text.mp3")
    expect(word(page)).to_contain_text("“text.mp3” cannot be used: it is not audio", timeout=20_000)
    everything = page.locator("body").inner_text()
    assert "Traceback" not in everything and str(ROOT) not in everything
    assert "/tmp" not in everything


def test_a_recorded_take_gives_a_genre(page):
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(word(page)).to_have_text("jazz", timeout=20_000)


def test_listening_answers_each_second_and_stop_keeps_the_answer(page, cache):
    before = set(cache.rglob(app.CHUNK_NAME))
    press_record(page)
    start = time.monotonic()
    expect(word(page)).not_to_have_text("not listening", timeout=5000)
    print(f"pressed for {time.monotonic() - start:.2f} s: {word(page).inner_text()}")
    expect(word(page)).to_have_text("jazz", timeout=10_000)
    print(f"first answer after {time.monotonic() - start:.2f} s")
    note = page.locator(".genre-note:visible")
    for second in (2, 3, 4, 5):
        expect(note).to_contain_text(f"heard 0:0{second}", timeout=5000)
    assert time.monotonic() - start < 12
    expect(note).not_to_contain_text("missed")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_timeout(1500)
    expect(word(page)).to_have_text("jazz")
    expect(page.locator(".genre-plot:visible rect[style*=top]").first).to_be_visible()
    # At most the chunk that Stop cut off is left; delete_cache sees to that one.
    assert len(set(cache.rglob(app.CHUNK_NAME)) - before) <= 1


def test_the_browser_does_not_clean_music_as_if_it_were_noise(page):
    settings = page.evaluate(
        "async () => (await navigator.mediaDevices.getUserMedia({audio: true}))"
        ".getAudioTracks()[0].getSettings()"
    )
    cleaners = ("echoCancellation", "noiseSuppression", "autoGainControl")
    assert [settings[name] for name in cleaners] == [False] * 3


def test_stop_before_any_sound_is_no_answer_and_the_page_says_so(page):
    press_record(page)
    expect(word(page)).to_have_text("listening…", timeout=5000)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(word(page)).to_have_text("not listening", timeout=5000)


def test_leaving_the_tab_ends_the_listening(page):
    press_record(page)
    expect(word(page)).to_have_text("jazz", timeout=10_000)
    page.get_by_role("tab", name="About").click()
    page.wait_for_timeout(1000)
    page.get_by_role("tab", name="Listen").click()
    expect(page.get_by_role("button", name="Record").first).to_be_visible()


REFUSED = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'No') }"
NOT_THERE = "Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined})"


@pytest.mark.parametrize("how", [REFUSED, NOT_THERE])
def test_without_a_microphone_the_page_says_so(browser, address, how):
    context = browser.new_context()
    context.add_init_script(how)
    page = context.new_page()
    page.goto(address)
    press_record(page)
    expect(word(page)).to_have_text("no microphone", timeout=8000)
    page.wait_for_timeout(2000)
    expect(word(page)).to_have_text("no microphone")
    context.close()


def test_visitors_do_not_share_what_they_hear(page, browser, address):
    press_record(page)
    expect(word(page)).to_have_text("jazz", timeout=10_000)
    other = browser.new_page()
    other.goto(address)
    other.get_by_role("tab", name="Listen").click()
    expect(word(other)).to_have_text("not listening")
    other.close()


def test_several_files_fill_a_table_and_a_csv(page, clips):
    page.get_by_role("tab", name="Files").click()
    page.locator("input[type=file][multiple]").set_input_files(
        [clips / "song.wav", clips / "song.mp3", clips / "text.mp3"]
    )
    page.get_by_text("text.mp3").or_(page.get_by_text("text", exact=True)).first.wait_for()
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("gridcell", name="jazz").first).to_be_visible(timeout=20_000)
    button = page.get_by_role("button", name="Download as CSV").or_(
        page.get_by_role("link", name="Download as CSV")
    )
    expect(button.first).to_be_enabled(timeout=20_000)
    with page.expect_download() as download:
        button.first.click()
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    assert len(lines) == 4 and lines[0].startswith(",".join(app.TABLE))
    assert lines[1].startswith("song.wav,jazz,") and "cannot be used" in lines[3]


def test_no_rows_stay_of_files_that_are_gone(page, clips):
    page.get_by_role("tab", name="Files").click()
    classify = page.get_by_role("button", name="Classify")
    expect(classify).to_be_disabled()
    page.locator("input[type=file][multiple]").set_input_files(clips / "song.wav")
    expect(classify).to_be_enabled()
    classify.click()
    expect(page.locator("#genres")).to_contain_text("song.wav", timeout=30_000)
    page.get_by_role("button", name="Clear").last.click()
    expect(page.locator("#genres")).not_to_contain_text("song.wav", timeout=10_000)
    expect(classify).to_be_disabled()


def test_the_table_is_sorted_by_the_menu_of_a_heading(page, clips):
    page.get_by_role("tab", name="Files").click()
    page.locator("input[type=file][multiple]").set_input_files(
        [clips / "song.wav", clips / "song.mp3", clips / "text.mp3"]
    )
    page.get_by_text("text.mp3").or_(page.get_by_text("text", exact=True)).first.wait_for()
    page.get_by_role("button", name="Classify", exact=True).click()
    names = page.locator("[role=gridcell][data-col='0']")
    expect(page.get_by_role("gridcell", name="text.mp3", exact=True)).to_be_visible(timeout=20_000)
    page.get_by_role("columnheader", name="file").get_by_label("Open cell menu").click()
    page.get_by_role("menuitem", name="Sort ascending").click()
    expect(names.first).to_have_text("song.mp3")


def test_about_says_that_the_model_is_a_demonstration(page):
    page.get_by_role("tab", name="About").click()
    expect(page.get_by_text("no music classifier")).to_be_visible()
    expect(page.get_by_text("tiny-jazz (from a local folder)")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    for tab in ("Song", "Listen", "Files", "About"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_example_works_by_keyboard(page):
    page.get_by_role("button", name="blues").focus()
    page.keyboard.press("Enter")
    expect(word(page)).to_have_text("jazz", timeout=20_000)


def test_a_model_from_the_hub_is_served(browser, clips, jazz_model, tmp_path):
    """Started by its id, from a Hub on this machine that speaks to the real client."""
    with HubDouble(tmp_path / "hub") as hub:
        environment = hub.environment(tmp_path / "home")
        upload = (
            "import sys; from huggingface_hub import HfApi; api = HfApi();"
            "api.create_repo('you/tiny', private=True);"
            "api.upload_folder(repo_id='you/tiny', folder_path=sys.argv[1])"
        )
        subprocess.run(
            [sys.executable, "-c", upload, str(jazz_model)],
            env={**os.environ, **environment},
            check=True,
        )
        with serving("--model", "you/tiny", **environment) as url:
            page = browser.new_page()
            page.goto(url)
            page.get_by_role("tab", name="Song").wait_for()
            page.locator("input[type=file]").first.set_input_files(clips / "song.wav")
            expect(word(page)).to_have_text("jazz", timeout=20_000)
            page.get_by_role("tab", name="About").click()
            revision = hub.commits("you/tiny")[-1]["oid"]
            expect(page.locator("body")).to_contain_text(f"you/tiny (revision {revision})")
            expect(page.locator("body")).to_contain_text("75.0% of 40 test clips")
            page.close()
