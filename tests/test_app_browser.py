"""The demo in a real browser: Chromium with a microphone that plays a synthesised clip."""

import re
from pathlib import Path

import pytest

from music_genre.demo.uploads import TABLE
from tests.browser import (
    CHROMIUM,
    FLAGS,
    PATIENCE,
    SHIFTS,
    STILL,
    expect,
    own_address,
    press_listen,
    processed,
    sync_api,
    word,
    write_clips,
)
from tests.page_client import serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def address(jazz_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with serving(str(jazz_model), folder, "--host", "0.0.0.0") as server:
        yield server.address.replace("0.0.0.0", "127.0.0.1")


@pytest.fixture(scope="module")
def browser(clips):
    microphone = f"--use-file-for-fake-audio-capture={clips / 'microphone.wav'}"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, microphone])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    """One context for all tests, as it keeps the page's scripts, which take seconds to compile."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["microphone"]
    )
    yield context
    context.close()


@pytest.fixture
def page(context, address):
    """The page as a visitor sees it; it must not request anything from other hosts."""
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_role("tab", name="Song").wait_for()
    yield page
    page.close()
    assert not [url for url in asked if not url.startswith((address, "blob:", "data:"))]
    assert not errors


def test_an_example_gives_a_genre(page):
    page.get_by_role("button", name="reggae").click()
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    expect(page.locator(".genre-bars:visible li")).to_have_count(10)
    expect(page.locator(".genre-plot img:visible")).to_have_count(1)


def test_a_long_song_shows_how_far_it_is(page, clips):
    page.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() => {
             const text = document.body.innerText.match(/\\d+\/\\d+ windows/);
             if (text) window.seen.add(text[0]);
           }).observe(document.body, {childList: true, subtree: true, characterData: true}) }"""
    )
    page.locator("input[type=file]").first.set_input_files(clips / "long.flac")
    expect(page.locator(".genre-note:visible")).to_contain_text("processed 10:00", timeout=PATIENCE)
    seen = page.evaluate("[...window.seen]")
    assert seen and all(text.endswith("/120 windows") for text in seen), seen


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_jumps_when_a_result_arrives(page, clips, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate(SHIFTS)
    page.wait_for_function(STILL, timeout=PATIENCE)
    page.evaluate("window.shift = 0")
    page.locator("input[type=file]").first.set_input_files(clips / "song.mp3")
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    page.wait_for_function(STILL, timeout=PATIENCE)
    assert page.evaluate("window.shift") < 0.1  # browser makers call this good
    expect(page.locator(".genre-note:visible")).to_contain_text("processed 0:12")
    answer = page.locator(".genre-head:visible").bounding_box()
    assert answer["y"] + answer["height"] < 844, "the answer is on the first screen"
    if width == 390:
        examples = page.get_by_role("button", name="reggae").bounding_box()
        assert examples["y"] > answer["y"], "examples do not push the answer down"


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


def test_listening_answers_each_second_and_stop_keeps_the_answer(page):
    press_listen(page)
    expect(processed(page)).to_contain_text(re.compile("processed 0:0[5-9]"), timeout=PATIENCE)
    expect(word(page)).to_have_text("jazz")
    # One cell per answer, which is about one for each second that arrived.
    n_answers = page.locator(".genre-plot:visible rect[style*=top]").count()
    seconds = int(processed(page).inner_text().split("processed 0:")[1][:2])
    assert seconds / 2 <= n_answers <= seconds + 1
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Listen", exact=True)).to_be_visible()
    expect(word(page)).to_have_text("jazz")
    press_listen(page)  # again: the count starts over
    expect(processed(page)).to_contain_text(re.compile("processed 0:0[1-3]"), timeout=PATIENCE)


def test_listening_ends_after_three_minutes_and_one_that_was_stopped_ends_once(page):
    page.clock.install()
    press_listen(page)
    page.clock.fast_forward(180_000)
    expect(page.get_by_role("button", name="Listen", exact=True)).to_be_visible()
    press_listen(page)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.clock.fast_forward(180_000)


def test_the_browser_does_not_clean_music_as_if_it_were_noise(page):
    page.evaluate(
        """() => { const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
             media.getUserMedia = (wish) => { window.wish = wish; return ask(wish); } }"""
    )
    press_listen(page)
    cleaners = ("echoCancellation", "noiseSuppression", "autoGainControl")
    assert page.evaluate("window.wish.audio") == dict.fromkeys(cleaners, False)


def test_leaving_the_tab_ends_the_listening(page):
    press_listen(page)
    expect(word(page)).to_have_text("jazz", timeout=PATIENCE)
    page.get_by_role("tab", name="About").click()
    page.get_by_role("tab", name="Listen").click()
    expect(page.get_by_role("button", name="Listen", exact=True)).to_be_visible()


def test_a_refused_request_does_not_end_the_listening(page):
    press_listen(page)
    refusals = []

    def refuse(route):
        refusals.append(route.request.url)
        route.fulfill(status=503, json={"detail": "Queue is full."})

    page.route("**/queue/join*", refuse, times=1)
    while not refusals:
        page.wait_for_timeout(100)
    before = processed(page).inner_text()
    expect(processed(page)).not_to_have_text(before, timeout=10_000)


ASKED = """() => { const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
  window.permission = new Promise((allow) => { window.allow = allow; });
  media.getUserMedia = async (wish) => {
    await window.permission; return window.stream = await ask(wish); } }"""
IS_OFF = "() => window.stream?.getTracks().every((track) => track.readyState === 'ended')"


def test_a_microphone_that_cannot_be_used_is_switched_off(page):
    page.evaluate(ASKED)
    page.evaluate("window.allow()")
    page.evaluate("() => { AudioWorklet.prototype.addModule = async () => { throw Error('no') } }")
    press_listen(page)
    expect(word(page)).to_have_text("no microphone")
    page.wait_for_function(IS_OFF, timeout=5000)


def test_a_visitor_who_left_the_tab_before_allowing_the_microphone_is_not_recorded(page):
    page.evaluate(ASKED)
    page.get_by_role("tab", name="Listen").click()
    page.get_by_role("button", name="Listen", exact=True).click()
    page.get_by_role("tab", name="About").click()
    page.evaluate("window.allow()")
    page.wait_for_function(IS_OFF, timeout=5000)
    press_listen(page)  # again, and now it listens


def test_a_microphone_that_is_unplugged_ends_the_listening(page):
    page.evaluate(ASKED)
    page.evaluate("window.allow()")
    press_listen(page)
    page.evaluate("window.stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    expect(page.get_by_role("button", name="Listen", exact=True)).to_be_visible(timeout=5000)


REFUSED = """navigator.mediaDevices.getUserMedia = async () => {
  throw new DOMException('', 'NotAllowedError') }"""


@pytest.mark.parametrize("advice", ["allow this page to use it", "https://"])
def test_without_a_microphone_the_page_says_what_to_do(browser, address, advice):
    """A visitor refuses it, or the browser does, because the page came by http."""
    context = browser.new_context()
    if advice == "https://":
        host = own_address()
        if host is None or host.startswith("127."):
            pytest.skip("this machine has no address but the local one")
        address = address.replace("127.0.0.1", host)
    else:
        context.add_init_script(REFUSED)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("tab", name="Listen").click()
    page.get_by_role("button", name="Listen", exact=True).click()
    expect(word(page)).to_have_text("no microphone", timeout=PATIENCE)
    expect(processed(page)).to_contain_text(advice)
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
    expect(page.locator("#done")).to_contain_text("3 of 3 files done, 1 not usable (shown first)")
    names = page.locator("[role=gridcell][data-col='0']")
    expect(names.first).to_have_text("text.mp3")
    page.get_by_role("columnheader", name="file").get_by_label("Open cell menu").click()
    page.get_by_role("menuitem", name="Sort ascending").click()
    expect(names.first).to_have_text("song.mp3")


def test_rows_of_removed_files_disappear(page, clips):
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


def test_the_page_says_which_model_it_is_and_that_it_is_a_demonstration(page):
    assert page.title() == "tiny-jazz · music genre"
    expect(page.locator("#introduction")).to_contain_text("tiny-jazz knows 10 genres")
    expect(page.locator("#introduction")).to_contain_text("A demonstration")
    page.get_by_role("tab", name="About").click()
    expect(page.get_by_text("not a music classifier")).to_be_visible()
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
