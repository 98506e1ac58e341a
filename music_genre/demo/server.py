"""Launch the page: its look, its limits, and what gradio may not do."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import processing_utils, routes
from gradio.utils import is_in_or_equal

from music_genre.demo import pictures
from music_genre.demo.uploads import MAX_FILE_MB
from music_genre.errors import InputError

MAX_SESSIONS = 500  # kept by gradio, 66 KB each, and of listeners 1 MB more; the oldest go first
HERE = Path(__file__).parent
NO_MICROPHONE = pictures.headline(
    "no microphone", "allow this page to use it, or send a file in “Song”", "error"
)
NO_ADDRESSES = "Addresses are not fetched: send the file itself."
# What gradio fetches addresses with.
FETCHERS = (
    (processing_utils, "async_ssrf_protected_download"),
    (routes, "secure_url_stream_response"),
)


def serve(page: gr.Blocks, **options: Any) -> tuple:
    """Launch the page; takes and returns what `Blocks.launch` does.

    Raises:
        InputError: gradio has changed and would fetch addresses.
        OSError: no port is free, or the one asked for is not.
    """
    refuse_addresses()
    fonts = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    script = (HERE / "page.js").read_text(encoding="utf-8")
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
        css=(HERE / "style.css").read_text(encoding="utf-8"),
        head=f"<script>const NO_MICROPHONE = {json.dumps(NO_MICROPHONE)};\n{script}</script>",
        max_file_size=f"{MAX_FILE_MB}mb",
        share=False,
        ssr_mode=False,
        state_session_capacity=MAX_SESSIONS,
        run_history=False,  # gradio would keep what visitors sent
        show_error=False,  # visitors see the text of gr.Error and of nothing else
        footer_links=["api"],
        **options,
    )


def refuse_addresses() -> None:
    """Make gradio refuse an address that a caller gives as a file; it would download it.

    Only the address of an upload to this page is taken, as the upload that it names, since MCP
    clients know no other way to name one. Nothing is fetched then either.

    Raises:
        InputError: a function to replace is not there, so that another one would fetch.
    """
    for module, name in FETCHERS:
        if not hasattr(module, name):
            raise InputError(
                f"gradio {gr.__version__} has no {module.__name__}.{name}, replaced here so that "
                "no address is fetched: install the gradio that requirements.txt names."
            )

    async def find_upload(url: str, cache_dir: str) -> str:
        path = unquote(urlsplit(url).path).partition("/gradio_api/file=")[2]
        if not (os.path.isfile(path) and is_in_or_equal(path, cache_dir)):
            raise gr.Error(NO_ADDRESSES, print_exception=False)
        return path

    async def refuse_request(*_: Any, **__: Any) -> None:
        raise routes.HTTPException(403, NO_ADDRESSES)

    for (module, name), replacement in zip(FETCHERS, (find_upload, refuse_request), strict=True):
        setattr(module, name, replacement)
