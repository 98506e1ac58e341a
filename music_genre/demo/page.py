"""The page: its tabs and its API. `server.serve(build(classifier), uploads)` shows it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from gradio.processing_utils import save_bytes_to_cache

from music_genre.classifier import GenreClassifier
from music_genre.demo import pictures, uploads
from music_genre.demo.about import about, model_name
from music_genre.demo.live import LiveSession, read_chunk
from music_genre.demo.server import CACHE_SECONDS, CHECK_SECONDS
from music_genre.demo.uploads import (
    FORMATS,
    MAX_AT_ONCE,
    MAX_FILE_MB,
    MAX_FILES,
    MAX_SONG_SECONDS,
    classify_upload,
    classify_uploads,
)
from music_genre.errors import InputError
from music_genre.genre_names import same_name_key
from music_genre.report import read_report

MAX_WAITING = 32  # requests; any more are told that the queue is full
STATE_SECONDS = 60  # an open page keeps its listener's 1 MB this long after the last sound
EXAMPLES = Path(__file__).parents[1] / "examples"  # synthesised, named after their genres

NO_SONG = pictures.headline("no song yet", "drop one, record one, or take an example", "open")
NOT_LISTENING = pictures.headline("not listening", "press Listen to start", "open")


def build(classifier: GenreClassifier) -> gr.Blocks:
    """Build the whole page and its API."""
    rate, name = classifier.sampling_rate, model_name(classifier)
    uploads.DECODERS.schedule(abs, args=[0], timeout=60)  # starts the decoder processes
    classifier(np.random.default_rng(0).uniform(-1, 1, rate), rate)  # the first pass is slow
    with gr.Blocks(title=f"{name} · music genre", analytics_enabled=False) as page:
        gr.Markdown(_introduction(classifier, name), elem_id="introduction")
        with gr.Tab("Song") as song_tab:
            song = _song_tab(classifier)
        with gr.Tab("Listen"):
            _listen_tab(classifier)
        with gr.Tab("Files") as files_tab:
            files = _files_tab(classifier)
        with gr.Tab("About") as about_tab:
            kept_minutes = (CACHE_SECONDS + CHECK_SECONDS) // 60
            gr.Markdown(about(classifier, read_report(classifier.folder), kept_minutes))
        for tab in (song_tab, files_tab, about_tab):  # leaving the Listen tab stops the microphone
            tab.select(None, js="() => genrePage.stopListening()")
        _add_api(classifier, song, files)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=MAX_AT_ONCE)


def _introduction(classifier: GenreClassifier, name: str) -> str:
    lines = ["# Which genre is it?", f"**{name}** knows {len(classifier.labels)} genres."]
    if classifier.is_demonstration:
        lines.append(
            "> **A demonstration:** this model was trained on synthesised music. Its answers "
            "for real music mean nothing."
        )
    return "\n\n".join(lines)


def _result(head: str, body: str, elem_id: str) -> list[gr.HTML]:
    announced = gr.HTML(head, js_on_load="genrePage.announce(element)", elem_id=elem_id)
    return [announced, gr.HTML(body, js_on_load=None)]


def _song_tab(classifier: GenreClassifier) -> gr.Audio:
    empty = pictures.empty_picture(classifier.labels)

    def show(path: str | None, bar: gr.Progress = gr.Progress()) -> tuple[str, str]:  # noqa: B008
        if path is None:
            return NO_SONG, empty

        def progress(done: int, n_windows: int) -> None:
            bar((done, n_windows), unit="windows")

        try:
            return classify_upload(classifier, path, progress).as_html()
        except InputError as error:
            return pictures.headline(str(error), "", "error"), empty

    with gr.Row(elem_classes="answer-first"):
        with gr.Column(scale=2, min_width=300):
            song = gr.Audio(
                label="Song or recording",
                type="filepath",  # no `format`, or gradio converts with its own decoder
                sources=["upload", "microphone"],
                buttons=[],
                editable=False,
                elem_id="song",
            )
            gr.Markdown(
                f"{FORMATS}, up to {MAX_FILE_MB} MB. If a song is longer than "
                f"{MAX_SONG_SECONDS / 60:g} minutes, only its beginning is processed."
            )
            if examples := examples_of(classifier.labels):
                with gr.Column(elem_classes="last"):
                    gr.Examples(
                        [str(path) for path in examples.values()],
                        song,
                        label="Examples, synthesised by this project",
                        example_labels=list(examples),
                        cache_examples=False,
                        api_visibility="private",
                    )
                song.keep_in_cache |= song.temp_files  # now only gradio's copies of the examples
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


def examples_of(labels: list[str]) -> dict[str, Path]:
    """Return the examples of genres that the model knows, keyed by its labels ("Hip-Hop")."""
    files = {path.stem: path for path in sorted(EXAMPLES.glob("*.ogg"))}
    keys = {label: same_name_key(label) for label in labels}
    return {label: files[key] for label, key in keys.items() if key in files}


def _listen_tab(classifier: GenreClassifier) -> None:
    labels = classifier.labels

    def process(sound: Any, session: LiveSession | None) -> tuple[LiveSession, str, str, None]:
        chunk = read_chunk(sound)
        if chunk is None:
            return gr.skip()
        if session is None or sound.get("is_first"):
            session = LiveSession()
        session.add_chunk(*chunk, classifier.window_seconds)
        session.classify(classifier)
        return session, *session.as_html(labels), None  # None, or gradio keeps the sound

    def stop(session: LiveSession | None) -> str:
        return gr.skip() if session and session.history else NOT_LISTENING  # keep the last answer

    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            listener = gr.HTML(
                html_template="<button>Listen</button>",
                js_on_load="genrePage.listener(element, props, trigger)  // may say 'refused'",
                elem_id="listener",
            )
            gr.Markdown(
                "Press Listen and play music near the microphone. “Unsure” means that no genre is "
                "clearly ahead. Listening stops by itself after 3 minutes."
            )
        with gr.Column(scale=3, min_width=300):
            result = _result(NOT_LISTENING, LiveSession().as_html(labels)[1], "live")
    state = gr.State(None, time_to_live=STATE_SECONDS)
    at_start = json.dumps(LiveSession().as_html(labels))
    listener.start_recording(None, None, result, js=f"() => {at_start}")
    listener.refused(None, None, result[0], js="() => genrePage.refusal")
    listener.stop_recording(stop, state, result[0], queue=False, api_visibility="private")
    answer = listener.input(
        process,
        [listener, state],
        [state, *result, listener],
        concurrency_limit=1,  # listeners take turns: the model serves one at a time
        concurrency_id="live",
        show_progress="hidden",
        api_visibility="private",
    )
    for done in (answer.then, answer.failure):  # gradio does not call `then` after a failure
        done(None, js="() => genrePage.answered()")


def _files_tab(classifier: GenreClassifier) -> gr.File:
    def show(paths: list[str] | None) -> Iterator[tuple[str, pd.DataFrame, Any]]:
        answers: list[dict] = []
        try:
            for answer in classify_uploads(classifier, paths):
                answers.append(answer)
                table = uploads.as_table(answers, classifier.labels)
                yield uploads.count(table, len(paths)), uploads.for_page(table), gr.skip()
        except InputError as error:
            raise gr.Error(str(error), title="Nothing done", print_exception=False) from error
        file = save_bytes_to_cache(
            uploads.as_csv(table), "genres.csv", cache_dir=download.GRADIO_CACHE
        )
        yield gr.skip(), gr.skip(), gr.update(value=file, interactive=True)

    # No `file_types`: gradio checks suffixes, and would refuse all files because of one.
    files = gr.File(label="Songs", file_count="multiple", type="filepath")
    gr.Markdown(f"Up to {MAX_FILES} files of {MAX_FILE_MB} MB each: {FORMATS}.")
    button = gr.Button("Classify", variant="primary", interactive=False)
    done = gr.Markdown("", elem_id="done")
    table = gr.Dataframe(
        headers=list(uploads.TABLE),
        datatype=["str", "str", "number", "str", "number", "str"],
        label="Results. To sort, open the ⋮ of a heading.",
        column_widths=[140, 100, 95, 130, 105, 480],
        elem_id="genres",
        interactive=False,
        wrap=True,
    )
    download = gr.DownloadButton("Download as CSV", interactive=False)
    files.change(
        lambda paths: (gr.update(interactive=bool(paths)), "", None, gr.update(interactive=False)),
        files,
        [button, done, table, download],  # or old rows would seem to be of the new files
        queue=False,
        api_visibility="private",
    )
    button.click(
        show, files, [done, table, download], concurrency_id="files", api_visibility="private"
    )
    return files


def _add_api(classifier: GenreClassifier, song: gr.Audio, files: gr.File) -> None:
    """Add endpoints on the page's own inputs, which check that a path is an upload."""

    def classify(file: str | None) -> dict[str, Any]:
        """Classify one audio file.

        Returns:
            {"genre", "probabilities" by genre, "timeline" (windows with "start", "end" and
            "probabilities"), "seconds", "is_truncated", "lost_seconds"}
        """
        try:
            if file is None:
                raise InputError("No file was sent.")
            return classify_upload(classifier, file).as_json()
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def classify_batch(files: list[str] | None) -> list[dict[str, Any]]:
        """Classify audio files in order; each answer has "file", and "error" if the file failed."""
        try:
            return list(classify_uploads(classifier, files))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    for endpoint, source in ((classify, song), (classify_batch, files)):
        answer = gr.JSON(visible=False, label="answer")
        gr.Button(visible=False).click(endpoint, source, answer, concurrency_id="files")
