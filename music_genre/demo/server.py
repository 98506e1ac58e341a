"""Launch the page: its look, its limits, and what gradio may not do."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import processing_utils, route_utils, routes
from gradio.utils import is_in_or_equal
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from music_genre.demo import pictures
from music_genre.demo.uploads import MAX_FILE_MB
from music_genre.errors import InputError

MAX_SESSIONS = 100  # kept by gradio, 66 KB each, and of listeners 1 MB more; the oldest go first
HERE = Path(__file__).parent
NO_MICROPHONE = pictures.headline(
    "no microphone", "allow this page to use it, or send a file in “Song”", "error"
)
NO_ROOM = pictures.headline("no room", "the server's disk is full: try again later", "error")
DISK_IS_FULL = "The server has no room for files now: try again later."
NO_ADDRESSES = "Addresses are not fetched: send the file itself."
# What gradio fetches addresses with, and reads uploads with.
REPLACED = (
    (processing_utils, "async_ssrf_protected_download"),
    (routes, "secure_url_stream_response"),
    (route_utils, "GradioMultiPartParser"),
)


def serve(page: gr.Blocks, **options: Any) -> tuple:
    """Launch the page; takes and returns what `Blocks.launch` does.

    Raises:
        InputError: gradio has changed, as in `replace_functions`.
        OSError: no port is free, or the one asked for is not.
    """
    replace_functions()
    fonts = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "sans-serif")]
    script = (HERE / "page.js").read_text(encoding="utf-8")
    headlines = f"NO_MICROPHONE = {json.dumps(NO_MICROPHONE)}, NO_ROOM = {json.dumps(NO_ROOM)}"
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
        head=f"<script>const {headlines};\n{script}</script>",
        max_file_size=f"{MAX_FILE_MB}mb",
        share=False,
        ssr_mode=False,
        state_session_capacity=MAX_SESSIONS,
        run_history=False,  # gradio would keep what visitors sent
        show_error=False,  # visitors see the text of gr.Error and of nothing else
        footer_links=["api"],
        **options,
    )


def replace_functions() -> None:
    """Make gradio refuse addresses, and delete the part of an upload that breaks off.

    It would download an address that a caller gives as a file. Only the address of an upload to
    this page is taken, as the upload that it names, since MCP clients know no other way to name
    one. Nothing is fetched then either.

    Raises:
        InputError: what is to be replaced is not there, so that something else would act.
    """
    for module, name in REPLACED:
        if not hasattr(module, name):
            raise InputError(
                f"gradio {gr.__version__} has no {module.__name__}.{name}, replaced here so that "
                "no address is fetched and no part of a file stays: install the gradio that "
                "requirements.txt names."
            )

    async def find_upload(url: str, cache_dir: str) -> str:
        path = unquote(urlsplit(url).path).partition("/gradio_api/file=")[2]
        if not (os.path.isfile(path) and is_in_or_equal(path, cache_dir)):
            raise gr.Error(NO_ADDRESSES, print_exception=False)
        return path

    async def refuse_request(*_: Any, **__: Any) -> None:
        raise routes.HTTPException(403, NO_ADDRESSES)

    replacements = (find_upload, refuse_request, UploadParser)
    for (module, name), replacement in zip(REPLACED, replacements, strict=True):
        setattr(module, name, replacement)


class UploadParser(route_utils.GradioMultiPartParser):
    """Deletes the part of a file whose visitor left, or which the disk has no room for.

    gradio has it in none of its lists: it would stay, and a full disk would stay full.
    """

    async def parse(self) -> FormData:
        try:
            return await super().parse()
        except (OSError, ClientDisconnect) as error:
            for file in self._files_to_close_on_error:
                with suppress(OSError):  # it still holds what it could not write
                    file.close()
                Path(file.name).unlink(missing_ok=True)
            raise MultiPartException(DISK_IS_FULL) from error
