"""The web demo: drop a song, record a take or let it listen, and see which genre it is.

    python app.py                                  # MODEL_ID, or else the newest run in runs/
    python app.py --model runs/distilhubert-gtzan
    python app.py --model you/distilhubert-gtzan --revision v1 --port 7861

A Space runs it as it is, with MODEL_ID in its settings. Programs call /classify and
/classify_batch; "Use via API" at the foot of the page shows how.
"""

import argparse
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from music_genre import audio
from music_genre.demo import pictures
from music_genre.demo.about import about, describe, find_report, is_synthetic
from music_genre.demo.live import CHUNK_SECONDS, Listening
from music_genre.demo.uploads import (
    FORMATS,
    MAX_FILES,
    MAX_SONG_SECONDS,
    TABLE,
    as_csv,
    as_table,
    classify_file,
    classify_files,
)
from music_genre.errors import InputError, exit_with_message
from music_genre.loading import newest_run

if TYPE_CHECKING:
    import gradio as gr
    import pandas as pd

    from music_genre.classifier import GenreClassifier

MAX_FILE_MB = 100
MAX_WAITING = 32  # requests; more are told that the queue is full
MAX_AT_ONCE = 2  # files: one visitor's batch must not keep all others waiting
CHECK_SECONDS, CACHE_SECONDS = 60, 900  # uploads and takes are deleted when they are this old

LISTENERS = 4  # at a time; a fifth waits
LISTEN_SECONDS = 180
MAX_SESSIONS = 500  # kept by gradio, 66 KB each, and of listeners 1 MB more; the oldest go first
EXAMPLES = Path(__file__).parent / "music_genre" / "examples"
CHUNK_NAME = "audio.wav"  # what gradio's page calls every chunk


# --- the page -------------------------------------------------------------------------------

NO_SONG = pictures.headline("no song yet", "drop one, record one, or take an example", "open")
NOT_LISTENING = pictures.headline("not listening", "press Record to start", "open")
# Screen readers hear a new word once, and not the whole result each second.
ANNOUNCE = """
const said = document.createElement('div');
said.className = 'sr-only'; said.setAttribute('role', 'status'); element.after(said);
new MutationObserver(() => {
  const word = element.querySelector('.genre-word').textContent;
  if (word !== said.textContent) said.textContent = word;
}).observe(element, {childList: true, subtree: true, characterData: true});
"""
SHOW_RESULT = """() => { const head = document.querySelector('.genre-head');
  if (head.getBoundingClientRect().bottom > innerHeight)
    head.scrollIntoView({block: 'center', behavior: 'smooth'}); }"""
PRESS_STOP = "() => document.querySelector('#microphone [class*=stop-button]')?.click()"
NO_MICROPHONE = pictures.headline(
    "no microphone", "allow this page to use it, or send a file in “Song”", "error"
)
# Browsers clean up speech by default, and take music for noise: gradio has no option for that.
# Nor does it tell the page when a visitor, or the browser, says no; it does show a message.
MICROPHONE = f"""<script>
const media = navigator.mediaDevices, ask = media?.getUserMedia.bind(media);
const raw = {{echoCancellation: false, noiseSuppression: false, autoGainControl: false}};
const refused = () => setTimeout(() => {{  // or "listening…", on its way, would be shown after it
  const head = document.querySelector('#live .genre-head');
  if (head?.checkVisibility()) head.outerHTML = {json.dumps(NO_MICROPHONE)};
}}, 1000);
if (ask) media.getUserMedia = (wish) => {{
  const stream = ask({{...wish, audio: Object.assign({{}}, wish.audio, raw)}});
  stream.catch(refused);
  return stream;
}};
</script>"""
SHARES = {"type": "object", "additionalProperties": {"type": "number"}}
CELL = {"start": {"type": "number"}, "end": {"type": "number"}, "probabilities": SHARES}
ANSWER = {
    "genre": {"type": "string"},
    "probabilities": SHARES,
    "timeline": {"type": "array", "items": {"type": "object", "properties": CELL}},
    "seconds": {"type": "number"},
    "is_cut": {"type": "boolean"},
}
BATCH_ANSWER = {"file": {"type": "string"}, "error": {"type": "string"}} | ANSWER


def build(classifier: "GenreClassifier") -> "gr.Blocks":
    """The whole page and its API; `serve` launches it."""
    import gradio as gr

    rate = classifier.feature_extractor.sampling_rate
    classifier(np.zeros(rate, np.float32), rate)  # the first pass is slow: not for a visitor
    with gr.Blocks(
        title="Music genre", analytics_enabled=False, delete_cache=(CHECK_SECONDS, CACHE_SECONDS)
    ) as page:
        gr.Markdown(
            "# Which genre is it?\nDrop a song, record a few seconds, or let it listen. "
            f"It knows {len(classifier.labels)} genres."
        )
        if is_synthetic(classifier):
            gr.Markdown(
                "**A demonstration:** this model was trained on synthesised music. What it says "
                "about real music means nothing.",
                elem_id="demonstration",
            )
        with gr.Tab("Song") as song_tab:
            song = _song_tab(classifier)
        # Made with the page: Record does nothing until gradio's recorder has been loaded.
        with gr.Tab("Listen", render_children=True) as listen_tab:
            _listen_tab(classifier, listen_tab)
        with gr.Tab("Files") as files_tab:
            files = _files_tab(classifier)
        with gr.Tab("About") as about_tab:
            gr.Markdown(
                about(classifier, find_report(classifier), (CACHE_SECONDS + CHECK_SECONDS) // 60)
            )
        for tab in (song_tab, files_tab, about_tab):  # nobody is listened to without seeing it
            tab.select(None, js=PRESS_STOP)
        _add_api(classifier, song, files)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=MAX_AT_ONCE)


def _result(head: str, body: str, elem_id: str) -> list["gr.HTML"]:
    import gradio as gr

    return [gr.HTML(head, js_on_load=ANNOUNCE, elem_id=elem_id), gr.HTML(body, js_on_load=None)]


def _song_tab(classifier: "GenreClassifier") -> "gr.Audio":
    import gradio as gr

    from music_genre.classifier import BATCH_SIZE

    idle = pictures.of_nothing(classifier.labels)

    def show(path: str | None, bar: gr.Progress = gr.Progress()) -> tuple[str, str]:  # noqa: B008
        if path is None:
            return NO_SONG, idle

        def progress(done: int, windows: int) -> None:
            if windows > BATCH_SIZE:  # else all are done at once
                bar(done / windows, desc=f"{done} of {windows} windows heard")

        try:
            return classify_file(classifier, path, progress).as_html()
        except InputError as error:
            return pictures.headline(str(error), "", "error"), idle

    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            song = gr.Audio(
                label="Song or recording",
                type="filepath",  # and no `format`: gradio would convert with its own decoder
                sources=["upload", "microphone"],
                buttons=[],
                editable=False,
                elem_id="song",
            )
            gr.Markdown(
                f"{FORMATS}, up to {MAX_FILE_MB} MB. Of a song longer than "
                f"{MAX_SONG_SECONDS / 60:g} minutes only the beginning is heard."
            )
            examples = sorted(EXAMPLES.glob("*.ogg"))
            gr.Examples(
                [str(path) for path in examples],
                song,
                label="Examples, synthesised by this project",
                example_labels=[path.stem for path in examples],
                cache_examples=False,
                api_visibility="private",
            )
        with gr.Column(scale=3, min_width=300):
            result = _result(NO_SONG, idle, "answer")
    # On a phone the result is below what fits the screen.
    song.change(None, js=SHOW_RESULT)
    song.change(
        show,
        song,
        result,
        show_progress_on=result[0],
        concurrency_id="files",
        api_visibility="private",
    )
    return song


def _listen_tab(classifier: "GenreClassifier", tab: "gr.Tab") -> None:
    import gradio as gr

    labels, model_free = classifier.labels, threading.Lock()

    def hear(path: str | None, listening: Listening | None) -> tuple[Listening, str, str]:
        listening = listening or Listening()
        try:
            chunk, sampling_rate = audio.decode(path, pictures.LIVE_SECONDS)
        except (audio.AudioError, OSError, TypeError):  # an empty chunk, or none
            return gr.skip()
        if Path(path).name == CHUNK_NAME:  # or three minutes would leave 17 MB behind
            Path(path).unlink(missing_ok=True)
        listening.hear(chunk, sampling_rate, classifier.window_seconds)
        listening.answer(classifier, model_free)
        return listening, *listening.as_html(labels)

    def stop(listening: Listening | None) -> str:
        return gr.skip() if listening and listening.history else NOT_LISTENING  # else it is kept

    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            microphone = gr.Audio(
                label="Microphone",
                type="filepath",
                sources=["microphone"],
                streaming=True,
                elem_id="microphone",
            )
            gr.Markdown(
                "Press Record and play music near the microphone. “Unsure” means that no genre is "
                f"clearly ahead. It stops by itself after {LISTEN_SECONDS // 60} minutes, and up "
                f"to {LISTENERS} visitors can listen at a time."
            )
        with gr.Column(scale=3, min_width=300):
            result = _result(NOT_LISTENING, Listening().as_html(labels)[1], "live")
    state = gr.State(None, time_to_live=2 * LISTEN_SECONDS)
    microphone.start_recording(Listening, None, state, queue=False, api_visibility="private")
    # In the browser, so that it shows at once. The component of gradio 6.31 also forgets
    # `stream_every` when it appears, and then sends chunks of a tenth of a second and loses many;
    # and where `time_limit` ends a stream it starts another one, so the page presses Stop itself.
    remind = {"__type__": "update", "stream_every": CHUNK_SECONDS}
    now_listening = json.dumps([remind, *Listening().as_html(labels)])
    timer = f"window.listening = setTimeout({PRESS_STOP}, {LISTEN_SECONDS} * 1000)"
    no_microphone = "if (!ask) refused()"  # pages from other machines, without https, have none
    on_start = (
        f"() => {{ clearTimeout(window.listening); {timer}; {no_microphone}; "
        f"return {now_listening} }}"
    )
    tab.select(None, None, microphone, js=f"() => ({json.dumps(remind)})")
    microphone.start_recording(None, None, [microphone, *result], js=on_start)
    microphone.stop_recording(stop, state, result[0], queue=False, api_visibility="private")
    microphone.stream(
        hear,
        [microphone, state],
        [state, *result],
        stream_every=CHUNK_SECONDS,
        time_limit=LISTEN_SECONDS + 10,
        concurrency_limit=LISTENERS,
        show_progress="hidden",
        api_visibility="private",
    )


def _files_tab(classifier: "GenreClassifier") -> "gr.File":
    import gradio as gr
    from gradio.processing_utils import save_bytes_to_cache

    def for_page(table: "pd.DataFrame") -> "pd.DataFrame":
        return table[list(TABLE)].fillna({"genre": "not usable"})  # a phone shows no remark

    def show(paths: list[str] | None) -> Iterator[tuple["pd.DataFrame", Any]]:
        answers: list[dict] = []
        try:
            for answer in classify_files(classifier, paths):
                answers.append(answer)
                yield for_page(as_table(answers, classifier.labels)), gr.skip()
        except InputError as error:
            raise gr.Error(str(error), title="Nothing done", print_exception=False) from error
        table = as_table(answers, classifier.labels)
        file = save_bytes_to_cache(as_csv(table), "genres.csv", cache_dir=download.GRADIO_CACHE)
        yield for_page(table), gr.update(value=file, interactive=True)

    # No `file_types`: gradio goes by what a name ends in, and would refuse all for one of them.
    files = gr.File(label="Songs", file_count="multiple", type="filepath")
    gr.Markdown(f"Up to {MAX_FILES} files of {MAX_FILE_MB} MB each: {FORMATS}.")
    button = gr.Button("Classify", variant="primary", interactive=False)
    table = gr.Dataframe(
        headers=list(TABLE),
        datatype=["str", "str", "number", "str", "number", "str"],
        label="Results. To sort, open the ⋮ of a heading.",
        column_widths=[140, 100, 95, 130, 105, 480],
        elem_id="genres",
        interactive=False,
        wrap=True,
    )
    download = gr.DownloadButton("Download as CSV", interactive=False)
    files.change(
        lambda paths: (gr.update(interactive=bool(paths)), None, gr.update(interactive=False)),
        files,
        [button, table, download],  # rows of files that are gone would be taken for theirs
        queue=False,
        api_visibility="private",
    )
    button.click(show, files, [table, download], concurrency_id="files", api_visibility="private")
    return files


def _add_api(classifier: "GenreClassifier", song: "gr.Audio", files: "gr.File") -> None:
    """Endpoints on the page's own inputs: those components check that a path is an upload."""
    import gradio as gr

    def classify(file: str | None) -> dict[str, Any]:
        """Classify one audio file: its genre, the probability of each, and the genre over time."""
        try:
            if file is None:
                raise InputError("No file was sent.")
            return classify_file(classifier, file).as_json()
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def classify_batch(files: list[str] | None) -> list[dict[str, Any]]:
        """Classify several audio files: an answer each, in order, with "file" and maybe "error"."""
        try:
            return list(classify_files(classifier, files))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    one = {"type": "object", "properties": ANSWER}
    many = {"type": "array", "items": {"type": "object", "properties": BATCH_ANSWER}}
    for endpoint, source, schema in ((classify, song, one), (classify_batch, files, many)):
        answer = gr.JSON(visible=False, label="answer")
        answer.api_info = lambda schema=schema: schema  # of itself JSON says no more than "any"
        gr.Button(visible=False).click(endpoint, source, answer, concurrency_id="files")


def refuse_addresses() -> None:
    """Make gradio refuse what it would else download: an address that a caller gives as a file.

    Only the address of an upload to this page is taken, as the upload that it names, since MCP
    clients know no other way to name one. Nothing is fetched then either.
    """
    from urllib.parse import unquote, urlsplit

    from gradio import Error, processing_utils, routes
    from gradio.utils import is_in_or_equal

    text = "Addresses are not fetched: send the file itself."

    async def find_upload(url: str, cache_dir: str) -> str:
        path = unquote(urlsplit(url).path).partition("/gradio_api/file=")[2]
        if not (os.path.isfile(path) and is_in_or_equal(path, cache_dir)):
            raise Error(text, print_exception=False)
        return path

    async def refuse_request(*_: Any, **__: Any) -> None:
        raise routes.HTTPException(403, text)

    processing_utils.async_ssrf_protected_download = find_upload
    routes.secure_url_stream_response = refuse_request


def serve(page: "gr.Blocks", **options: Any) -> tuple:
    """Launch the page with its looks and limits; returns what `Blocks.launch` does."""
    import gradio as gr

    refuse_addresses()
    fonts = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    return page.launch(
        theme=gr.themes.Soft(
            primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=fonts
        ).set(  # gradio's own are too pale to read for some
            block_label_text_color="*primary_700",
            block_title_text_color="*primary_700",
            body_text_color_subdued="*neutral_600",
            body_text_color_subdued_dark="*neutral_400",
            link_text_color_dark="*primary_300",
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_dark="*primary_600",
            button_primary_background_fill_hover_dark="*primary_700",
        ),
        css=pictures.CSS,
        head=MICROPHONE,
        max_file_size=f"{MAX_FILE_MB}mb",
        share=False,
        ssr_mode=False,
        state_session_capacity=MAX_SESSIONS,
        run_history=False,  # gradio would keep what visitors sent
        show_error=False,  # visitors see the text of gr.Error and of nothing else
        footer_links=["api"],
        **options,
    )


# --- command line ---------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder, or the id of a model on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    arguments = parser.parse_args()
    # Before torch: threads that spin would take the CPU from the other visitors' answers.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with exit_with_message("Stopped."):
        model_id = arguments.model or os.environ.get("MODEL_ID") or newest_run()
        if model_id is None:
            raise InputError(
                "There is no model yet: `accelerate launch train_hf.py` makes one, or name one by "
                "--model DIR_OR_HUB_ID."
            )
        from music_genre.classifier import GenreClassifier

        classifier = GenreClassifier(model_id, arguments.revision)
        n_labels = len(classifier.labels)
        print(f"{describe(classifier)}, {n_labels} labels, on {classifier.device}.", flush=True)
        page = build(classifier)
        try:
            serve(page, **{"server_port": arguments.port} if arguments.port else {})
        except OSError as error:
            raise InputError("The port is taken: choose another one by --port.") from error


if __name__ == "__main__":
    main()
