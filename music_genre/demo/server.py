"""Launch the page with its look and its limits."""

import json
import os
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fastapi
import gradio as gr
from gradio_client.utils import is_http_url_like

from music_genre.demo import pictures
from music_genre.demo.uploads import MAX_FILE_MB

MAX_SESSIONS = 100  # that gradio keeps, and 1 MB more per listener; the oldest go first
CHECK_SECONDS, CACHE_SECONDS = 60, 900  # uploads and recordings are deleted at this age
HERE = Path(__file__).parent
NO_ADDRESSES = (
    "Addresses of files are not fetched: upload the file (an assistant uses upload_file_to_gradio) "
    "and send what that returns."
)


REFUSALS = {  # why the microphone gives no sound, and what to do
    "refused": "allow this page to use it",
    "http": "browsers allow it only at addresses that start with https:// or are on this machine "
    "(localhost): open the page at such an address",
    "none": "the browser finds none: connect one",
    "broken": "the browser cannot open it: check whether another program uses it",
}


def serve(page: gr.Blocks, uploads: str | os.PathLike, **options: Any) -> tuple:
    """Launch the page. Takes the options of `Blocks.launch`, and returns what it returns.

    Args:
        uploads: gradio's folder for uploads (GRADIO_TEMP_DIR), an absolute path. No other
            program may use it: all old files in it are deleted.

    Raises:
        OSError: no port is free, or the one asked for is not.
    """
    fonts = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    script = (HERE / "page.js").read_text(encoding="utf-8")
    refusals = {
        name: pictures.headline("no microphone", f"{reason}, or send a file in “Song”", "error")
        for name, reason in REFUSALS.items()
    }
    launch = partial(
        page.launch,
        theme=gr.themes.Soft(
            primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=fonts
        ).set(  # gradio's own are too pale for some readers
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
        css=(HERE / "style.css").read_text(encoding="utf-8"),
        head=f"<script>const REFUSALS = {json.dumps(refusals)};\n{script}</script>",
        max_file_size=f"{MAX_FILE_MB}mb",
        share=False,
        ssr_mode=False,
        state_session_capacity=MAX_SESSIONS,
        run_history=False,  # or gradio keeps what visitors send
        show_error=False,  # visitors see only the text of a gr.Error
        footer_links=["api"],
        app_kwargs={"dependencies": [fastapi.Depends(refuse_addresses)]},
        **options,
    )
    threading.Thread(target=keep_deleting_uploads, args=(page, uploads), daemon=True).start()
    try:
        return launch()
    except ValueError:
        # gradio gives its server 3 s for the first answer, which a busy machine may exceed. On the
        # second try, everything is loaded.
        page.close()
        return launch()


async def refuse_addresses(request: fastapi.Request) -> None:
    """Refuse a file that is given by its address: gradio would read all of it into memory.

    MCP clients send the address of an upload, which gradio does not fetch from localhost: it is
    replaced by the path. The request keeps its parsed JSON, so the endpoint gets the new value.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        return  # an upload, which is streamed
    try:
        values = [await request.json()]
    except ValueError:  # not JSON: the endpoint says what it takes
        return
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            values += value.values()
            if is_http_url_like(value.get("path")):
                _, is_upload, path = value["path"].partition("/gradio_api/file=")
                if not is_upload:
                    raise fastapi.HTTPException(422, [gr.validate(False, NO_ADDRESSES)])
                value["path"] = unquote(path)


def keep_deleting_uploads(page: gr.Blocks, uploads: str | os.PathLike) -> None:
    """Delete old uploads while the program runs; app.py deletes the rest at exit.

    gradio's own `delete_cache` stops forever when a file arrives while it looks for old ones, and
    it does not know about uploads that broke off.
    """
    while True:
        time.sleep(CHECK_SECONDS)
        delete_uploads(page, uploads, CACHE_SECONDS)


def delete_uploads(page: gr.Blocks, uploads: str | os.PathLike, age: float) -> None:
    """Delete visitors' files that are older than `age` seconds, and their folders."""
    kept = {path for block in page.blocks.values() for path in getattr(block, "keep_in_cache", ())}
    for folder, _, names in os.walk(uploads):
        for path in {os.path.join(folder, name) for name in names} - kept:
            with suppress(OSError):  # it has been moved, or is in use
                if time.time() - os.lstat(path).st_ctime > age:
                    os.remove(path)
                    for files in page.temp_file_sets:
                        files.discard(path)
                    if not os.path.samefile(folder, uploads):
                        os.rmdir(folder)  # gradio made it for this file
