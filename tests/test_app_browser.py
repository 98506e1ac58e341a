"""The demo in a real browser: Chromium with a microphone that plays a synthesised clip."""

import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.page_client import serving
from music_genre.demo.page import CHUNK_NAME
from music_genre.demo.uploads import TABLE
from tests.browser import (
    CHROMIUM,
    FLAGS,
    PATIENCE,
    SHIFTS,
    STILL,
    choose,
    drop,
    expect,
    press_record,
    processed,
    sync_api,
    word,
    write_clips,
)
from tests.hub import HubDouble

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

ROOT = Path(__file__).resolve().parents[1]
HARMLESS = {
    # gradio's recorder, when it is stopped before its first chunk; it works again after
    "Another request was made to initiate an encoding.",
    # gradio's uploader, beside the sentence on the page
    "HTTP 400: The server has no room for files now: try again later.",
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def server(jazz_model, tmp_path_factory):
    with serving(str(jazz_model), tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def address(server):
    return server.address


@pytest.fixture(scope="session")
def browser(clips):
    microphone = f"--use-file-for-fake-audio-capture={clips / 'microphone.wav'}"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, microphone])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser):
    """One for all tests: the browser keeps the page's scripts, which take seconds to compile."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["microphone"]
    )
    yield context
    context.close()


@pytest.fixture
def page(context, address):
    """The page, as a visitor sees it; it must not ask for anything outside."""
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_role("tab", name="Song").wait_for()
    yield page
    page.close()
    assert not [url for url in asked if not url.startswith((address, "blob:", "data:"))]
    assert not [error for error in errors if error not in HARMLESS]


def test_an_example_gives_a_genre(page):
    page.get_by_role("button", name="reggae").click()
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    expect(page.locator(".genre-bars:visible li")).to_have_count(10)
    expect(page.locator(".genre-plot img:visible")).to_have_count(1)


@pytest.mark.parametrize("name", ["song.wav", "song.mp3"])
def test_an_uploaded_file_gives_a_genre(page, clips, name):
    before = page.locator(".genre-plot:visible").first.bounding_box()
    page.locator("input[type=file]").first.set_input_files(clips / name)
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    expect(page.locator(".genre-note:visible")).to_contain_text("processed 0:12")
    assert page.locator(".genre-plot:visible").first.bounding_box() == before  # nothing jumped


def test_a_long_song_shows_how_far_it_is(page, clips):
    page.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() => {
             const text = document.body.innerText.match(/\\d+ of \\d+ windows processed/);
             if (text) window.seen.add(text[0]);
           }).observe(document.body, {childList: true, subtree: true, characterData: true}) }"""
    )
    page.locator("input[type=file]").first.set_input_files(clips / "long.flac")
    expect(page.locator(".genre-note:visible")).to_contain_text("processed 10:00", timeout=PATIENCE)
    seen = page.evaluate("[...window.seen]")
    assert seen and all(text.endswith("of 120 windows processed") for text in seen), seen
    expect(page.get_by_text("windows processed")).to_have_count(0)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_jumps_when_a_result_arrives(page, clips, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate(SHIFTS)
    page.wait_for_function(STILL, timeout=PATIENCE)
    page.evaluate("window.shift = 0")
    page.locator("input[type=file]").first.set_input_files(clips / "song.wav")
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    page.wait_for_function(STILL, timeout=PATIENCE)
    assert page.evaluate("window.shift") < 0.1  # what browsers' makers call good


@pytest.mark.parametrize("way", [choose, drop])
@pytest.mark.parametrize(
    ("name", "said"),
    [("song.txt", "“song.txt” cannot be used: it is not audio"), ("song.xyz", "jazz")],
)
def test_what_a_file_is_called_does_not_matter(page, clips, name, said, way):
    way(page, clips / name)
    expect(word(page)).to_contain_text(said, timeout=PATIENCE)
    assert "audio/*" not in page.locator("body").inner_text()


def test_a_text_called_mp3_gives_one_sentence(page, clips):
    page.locator("input[type=file]").first.set_input_files(clips / "text.mp3")
    expect(word(page)).to_contain_text(
        "“text.mp3” cannot be used: it is not audio", timeout=PATIENCE
    )
    everything = page.locator("body").inner_text()
    assert "Traceback" not in everything and str(ROOT) not in everything
    assert "/tmp" not in everything


def test_a_recorded_take_gives_a_genre(page):
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)


def test_listening_answers_each_second_and_stop_keeps_the_answer(page, server):
    before = set(server.cache.rglob(CHUNK_NAME))
    press_record(page)
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    expect(processed(page)).to_contain_text(re.compile("processed 0:0[5-9]"), timeout=PATIENCE)
    # One cell per answer: about one a second, of all that arrived.
    n_answers = page.locator(".genre-plot:visible rect[style*=top]").count()
    seconds = int(processed(page).inner_text().split("processed 0:")[1][:2])
    assert seconds / 2 <= n_answers <= seconds + 1
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Record", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(word(page)).to_have_text("jazz")
    expect(page.locator(".genre-plot:visible rect[style*=top]").first).to_be_visible()
    # At most the chunk that Stop cut off is left; delete_cache sees to that one. On a busy machine
    # another may be in work still, which is deleted when that ends.
    for _ in range(100):
        if len(set(server.cache.rglob(CHUNK_NAME)) - before) <= 1:
            break
        page.wait_for_timeout(100)
    assert len(set(server.cache.rglob(CHUNK_NAME)) - before) <= 1


def test_record_waits_for_a_recorder_that_loads_slowly(page, address):
    asked_for = []

    def slowly(route):
        asked_for.append(route.request.url)
        page.wait_for_timeout(3000)
        route.continue_()

    page.route("**/assets/module-*", slowly)
    page.reload()
    press_record(page)
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    assert asked_for


def test_the_browser_does_not_clean_music_as_if_it_were_noise(page):
    settings = page.evaluate(
        "async () => (await navigator.mediaDevices.getUserMedia({audio: true}))"
        ".getAudioTracks()[0].getSettings()"
    )
    cleaners = ("echoCancellation", "noiseSuppression", "autoGainControl")
    assert [settings[name] for name in cleaners] == [False] * 3


def test_stop_before_any_sound_is_no_answer_and_the_page_says_so(page):
    press_record(page)
    expect(word(page)).to_have_text("listening…", timeout=PATIENCE)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(word(page)).to_have_text("not listening", timeout=PATIENCE)


@contextmanager
def full_disk(pid):
    """The process can write no byte to a file."""
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_sentence_until_it_has_room_again(page, clips, server):
    files = page.locator("input[type=file]").first
    before = set(server.files())
    with full_disk(server.pid):
        files.set_input_files(clips / "song.mp3")
        expect(page.locator(".toast-body")).to_contain_text("no room for files", timeout=PATIENCE)
        press_record(page)
        expect(word(page)).to_have_text("no room", timeout=PATIENCE)
        assert set(server.files()) == before, "a part that stayed would keep the disk full"
    page.reload()
    page.get_by_role("tab", name="Song").wait_for()
    files.set_input_files(clips / "song.mp3")
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)


def test_leaving_the_tab_ends_the_listening(page):
    press_record(page)
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    page.get_by_role("tab", name="About").click()
    page.get_by_role("tab", name="Listen").click()
    expect(page.get_by_role("button", name="Record").first).to_be_visible(timeout=PATIENCE)


REFUSED = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'No') }"
NOT_THERE = "Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined})"


@pytest.mark.parametrize("how", [REFUSED, NOT_THERE])
def test_without_a_microphone_the_page_says_so(browser, address, how):
    context = browser.new_context()
    context.add_init_script(how)
    page = context.new_page()
    page.goto(address)
    press_record(page)
    expect(word(page)).to_have_text("no microphone", timeout=PATIENCE)
    page.wait_for_timeout(2000)
    expect(word(page)).to_have_text("no microphone")
    context.close()


def test_two_visitors_who_record_share_nothing(page, browser, address):
    """test_app.py counts it exactly; here with two browsers' microphones."""
    press_record(page)
    expect(processed(page)).to_contain_text(
        re.compile("processed 0:(0[6-9]|[1-9])"), timeout=PATIENCE
    )
    context = browser.new_context(permissions=["microphone"])
    other = context.new_page()
    other.goto(address)
    press_record(other)
    expect(processed(other)).to_contain_text(re.compile("processed 0:0[1-4]"), timeout=PATIENCE)
    context.close()


def test_several_files_fill_a_table_and_a_csv(page, clips):
    page.get_by_role("tab", name="Files").click()
    page.locator("input[type=file][multiple]").set_input_files(
        [clips / "song.wav", clips / "song.mp3", clips / "text.mp3"]
    )
    page.get_by_text("text.mp3").or_(page.get_by_text("text", exact=True)).first.wait_for()
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("gridcell", name="jazz").first).to_be_visible(timeout=PATIENCE)
    button = page.get_by_role("button", name="Download as CSV").or_(
        page.get_by_role("link", name="Download as CSV")
    )
    expect(button.first).to_be_enabled(timeout=PATIENCE)
    with page.expect_download() as download:
        button.first.click()
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    assert len(lines) == 4 and lines[0].startswith(",".join(TABLE))
    assert lines[1].startswith("song.wav,jazz,") and "cannot be used" in lines[3]


def test_no_rows_stay_of_files_that_are_gone(page, clips):
    page.get_by_role("tab", name="Files").click()
    classify = page.get_by_role("button", name="Classify")
    expect(classify).to_be_disabled()
    page.locator("input[type=file][multiple]").set_input_files(clips / "song.wav")
    expect(classify).to_be_enabled()
    classify.click()
    expect(page.locator("#genres")).to_contain_text("song.wav", timeout=PATIENCE)
    page.get_by_role("button", name="Clear").last.click()
    expect(page.locator("#genres")).not_to_contain_text("song.wav", timeout=PATIENCE)
    expect(classify).to_be_disabled()


def test_the_table_is_sorted_by_the_menu_of_a_heading(page, clips):
    page.get_by_role("tab", name="Files").click()
    page.locator("input[type=file][multiple]").set_input_files(
        [clips / "song.wav", clips / "song.mp3", clips / "text.mp3"]
    )
    page.get_by_text("text.mp3").or_(page.get_by_text("text", exact=True)).first.wait_for()
    page.get_by_role("button", name="Classify", exact=True).click()
    names = page.locator("[role=gridcell][data-col='0']")
    expect(page.get_by_role("gridcell", name="text.mp3", exact=True)).to_be_visible(
        timeout=PATIENCE
    )
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
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)


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
        with serving("you/tiny", tmp_path / "server", **environment) as server:
            page = browser.new_page()
            page.goto(server.address)
            page.get_by_role("tab", name="Song").wait_for()
            page.locator("input[type=file]").first.set_input_files(clips / "song.wav")
            expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
            page.get_by_role("tab", name="About").click()
            revision = hub.commits("you/tiny")[-1]["oid"]
            expect(page.locator("body")).to_contain_text(f"you/tiny (revision {revision})")
            expect(page.locator("body")).to_contain_text("75.0% of 50 test clips")
            page.close()
