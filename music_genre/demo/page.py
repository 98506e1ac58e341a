"""The page: its tabs and its API. `server.serve(build(classifier))` shows it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from gradio.processing_utils import save_bytes_to_cache

from music_genre.classifier import BATCH_SIZE, GenreClassifier
from music_genre.demo import pictures
from music_genre.demo.about import about, find_report, is_synthetic
from music_genre.demo.live import CHUNK_SECONDS, LiveSession
from music_genre.demo.uploads import (
    DECODERS,
    FORMATS,
    MAX_FILE_MB,
    MAX_FILES,
    MAX_SONG_SECONDS,
    TABLE,
    as_csv,
    as_table,
    classify_upload,
    classify_uploads,
    received,
)
from music_genre.errors import InputError

MAX_WAITING = 32  # requests; more are told that the queue is full
MAX_AT_ONCE = 2  # files: one visitor's batch must not keep all others waiting
CHECK_SECONDS, CACHE_SECONDS = 60, 900  # uploads and recordings are deleted at this age
MAX_LISTENERS = 4  # at a time; a fifth waits
LISTEN_SECONDS = 180
STATE_SECONDS = 60  # that a listener's megabyte is kept after the last chunk; they come each second
EXAMPLES = Path(__file__).parents[1] / "examples"
CHUNK_NAME = "audio.wav"  # what gradio's page calls every chunk

NO_SONG = pictures.headline("no song yet", "drop one, record one, or take an example", "open")
NOT_LISTENING = pictures.headline("not listening", "press Record to start", "open")

SHARES = {"type": "object", "additionalProperties": {"type": "number"}}
CELL = {"start": {"type": "number"}, "end": {"type": "number"}, "probabilities": SHARES}
ANSWER = {
    "genre": {"type": "string"},
    "probabilities": SHARES,
    "timeline": {"type": "array", "items": {"type": "object", "properties": CELL}},
    "seconds": {"type": "number"},
    "is_truncated": {"type": "boolean"},
}
BATCH_ANSWER = {"file": {"type": "string"}, "error": {"type": "string"}} | ANSWER


def build(classifier: GenreClassifier) -> gr.Blocks:
    """The whole page and its API."""
    rate = classifier.sampling_rate
    DECODERS.start(MAX_AT_ONCE + MAX_LISTENERS)
    classifier(np.ones(rate, np.float32), rate)  # the first pass is slow: not for a visitor
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
            kept_minutes = (CACHE_SECONDS + CHECK_SECONDS) // 60
            gr.Markdown(about(classifier, find_report(classifier), kept_minutes))
        for tab in (song_tab, files_tab, about_tab):  # recording goes on only where visitors see it
            tab.select(None, js="() => genrePage.pressStop()")
        _add_api(classifier, song, files)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=MAX_AT_ONCE)


def _result(head: str, body: str, elem_id: str) -> list[gr.HTML]:
    announced = gr.HTML(head, js_on_load="genrePage.announce(element)", elem_id=elem_id)
    return [announced, gr.HTML(body, js_on_load=None)]


def _song_tab(classifier: GenreClassifier) -> gr.Audio:
    empty = pictures.of_nothing(classifier.labels)

    def show(path: str | None, bar: gr.Progress = gr.Progress()) -> tuple[str, str]:  # noqa: B008
        if path is None:
            return NO_SONG, empty

        def progress(done: int, n_windows: int) -> None:
            if n_windows > BATCH_SIZE:  # fewer are done at once
                bar(done / n_windows, desc=f"{done} of {n_windows} windows processed")

        try:
            return classify_upload(classifier, path, progress).as_html()
        except InputError as error:
            return pictures.headline(str(error), "", "error"), empty

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
                f"{MAX_SONG_SECONDS / 60:g} minutes only the beginning is processed."
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
            result = _result(NO_SONG, empty, "answer")
    song.change(None, js="() => genrePage.showResult()")
    song.change(
        show,
        song,
        result,
        show_progress_on=result[0],
        concurrency_id="files",
        api_visibility="private",
    )
    return song


def _listen_tab(classifier: GenreClassifier, tab: gr.Tab) -> None:
    labels, model_free = classifier.labels, threading.Lock()

    def process(path: str | None, session: LiveSession | None) -> tuple[LiveSession, str, str]:
        session = session or LiveSession()
        try:
            path = received(path)
            chunk, sampling_rate = DECODERS.decode(path, pictures.LIVE_SECONDS)
        except (InputError, OSError, TypeError):  # an empty chunk, or none
            return gr.skip()
        if path.name == CHUNK_NAME:  # or three minutes would leave 17 MB behind
            path.unlink(missing_ok=True)
        session.add_chunk(chunk, sampling_rate, classifier.window_seconds)
        session.classify(classifier, model_free)
        return session, *session.as_html(labels)

    def stop(session: LiveSession | None) -> str:
        return gr.skip() if session and session.history else NOT_LISTENING  # an answer stays

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
                f"to {MAX_LISTENERS} visitors can listen at a time."
            )
        with gr.Column(scale=3, min_width=300):
            result = _result(NOT_LISTENING, LiveSession().as_html(labels)[1], "live")
    state = gr.State(None, time_to_live=STATE_SECONDS)
    microphone.start_recording(LiveSession, None, state, queue=False, api_visibility="private")
    # The component of gradio 6.31 forgets `stream_every` when it appears, and then sends chunks of
    # a tenth of a second and loses many: it is reminded, and in the browser, so at once.
    remind = {"__type__": "update", "stream_every": CHUNK_SECONDS}
    tab.select(None, None, microphone, js=f"() => ({json.dumps(remind)})")
    at_start = json.dumps([remind, *LiveSession().as_html(labels)])
    microphone.start_recording(
        None,
        None,
        [microphone, *result],
        js=f"() => {{ genrePage.startListening({LISTEN_SECONDS}); return {at_start} }}",
    )
    microphone.stop_recording(stop, state, result[0], queue=False, api_visibility="private")
    microphone.stream(
        process,
        [microphone, state],
        [state, *result],
        stream_every=CHUNK_SECONDS,
        time_limit=LISTEN_SECONDS + 10,
        concurrency_limit=MAX_LISTENERS,
        show_progress="hidden",
        api_visibility="private",
    )


def _files_tab(classifier: GenreClassifier) -> gr.File:
    def for_page(table: pd.DataFrame) -> pd.DataFrame:
        return table[list(TABLE)].fillna({"genre": "not usable"})  # a phone shows no remark

    def show(paths: list[str] | None) -> Iterator[tuple[pd.DataFrame, Any]]:
        answers: list[dict] = []
        try:
            for answer in classify_uploads(classifier, paths):
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


def _add_api(classifier: GenreClassifier, song: gr.Audio, files: gr.File) -> None:
    """Endpoints on the page's own inputs: those components check that a path is an upload."""

    def classify(file: str | None) -> dict[str, Any]:
        """Classify one audio file: its genre, the probability of each, and the genre over time."""
        try:
            if file is None:
                raise InputError("No file was sent.")
            return classify_upload(classifier, file).as_json()
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def classify_batch(files: list[str] | None) -> list[dict[str, Any]]:
        """Classify several audio files: an answer each, in order, with "file" and maybe "error"."""
        try:
            return list(classify_uploads(classifier, files))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    one = {"type": "object", "properties": ANSWER}
    many = {"type": "array", "items": {"type": "object", "properties": BATCH_ANSWER}}
    for endpoint, source, schema in ((classify, song, one), (classify_batch, files, many)):
        answer = gr.JSON(visible=False, label="answer")
        answer.api_info = lambda schema=schema: schema  # of itself JSON says no more than "any"
        gr.Button(visible=False).click(endpoint, source, answer, concurrency_id="files")
