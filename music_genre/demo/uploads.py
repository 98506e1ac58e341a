"""A visitor's files: classified for the page, for its API and for a spreadsheet."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from gradio.utils import get_upload_folder

from music_genre import old_audio as audio
from music_genre.classifier import GenreClassifier, Prediction, Progress, top_two
from music_genre.decoder_pool import Decoders
from music_genre.demo import pictures
from music_genre.demo.live import TAKE_LEAD
from music_genre.errors import InputError

MAX_FILES = 20  # in one batch
MAX_FILE_MB = 100
MAX_SONG_SECONDS = 15 * 60.0  # of a file are processed: visitors share the server
DECODERS = Decoders(seconds=5, stalled_after=60)  # others wait meanwhile
FORMATS = "WAV, MP3, FLAC, OGG, Opus, M4A, AAC, WebM or AIFF"
FORMULA = tuple("=+-@＝＋－＠")  # what one may start with
TABLE = ("file", "genre", "sure %", "runner-up", "seconds", "remark")


@dataclass(frozen=True)
class ClassifiedFile:
    """A file's prediction, and what was processed: a waveform, float32, shape (samples,)."""

    prediction: Prediction
    waveform: np.ndarray
    sampling_rate: int
    is_truncated: bool  # the file continues after what was processed

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sampling_rate

    def as_json(self) -> dict[str, Any]:
        """The answer of the API."""
        return {
            "genre": self.prediction.genre,
            "probabilities": self.prediction.probabilities,
            "timeline": [vars(cell) for cell in self.prediction.timeline],
            "seconds": self.seconds,
            "is_truncated": self.is_truncated,
        }

    def as_html(self) -> tuple[str, str]:
        """The headline and the pictures."""
        (genre, share), (second, second_share) = top_two(self.prediction.probabilities)
        note = f"{share:.0%} sure"
        if share - second_share < TAKE_LEAD:
            note += f", a close call with {second} ({second_share:.0%})"
        note += f" · processed {pictures.clock(self.seconds)}"
        if self.is_truncated:
            note += ", the rest was left out"
        return pictures.headline(genre, note), pictures.of_file(
            self.prediction, self.waveform, self.sampling_rate
        )


def classify_upload(
    classifier: GenreClassifier, path: str | os.PathLike, progress: Progress | None = None
) -> ClassifiedFile:
    """Decode and classify a local file, up to MAX_SONG_SECONDS.

    Raises:
        InputError: it cannot be used; the message names the file, without its folder.
    """
    name = shown_name(path)
    try:
        rate = classifier.sampling_rate
        path = received(path)
        waveform, _ = DECODERS.decode(path, MAX_SONG_SECONDS + 1, to=rate)  # a second more tells
        limit = int(MAX_SONG_SECONDS * rate)
        is_truncated, waveform = len(waveform) > limit, waveform[:limit]
        if audio.is_silent(waveform):
            raise InputError(f"“{name}” is silent: try another recording.")
        prediction = classifier(waveform, rate, progress)
        return ClassifiedFile(prediction, waveform, rate, is_truncated)
    except audio.AudioError as error:
        raise InputError(f"“{name}” cannot be used: {error}. Send music as {FORMATS}.") from error


def received(path: str | os.PathLike) -> Path:
    """The real path of a file that was sent to this page.

    gradio lets some forms of a path through unchecked, so that a visitor can name any file of the
    server. The message is the same whether there is such a file or not.

    Raises:
        InputError: it is not a regular file in gradio's upload folder.
    """
    with suppress(ValueError):  # what no path can hold, such as a null character
        real, folder = os.path.realpath(path), os.path.realpath(get_upload_folder())
        if Path(real).is_relative_to(folder) and os.path.isfile(real):
            return Path(real)
    raise InputError(f"“{shown_name(path)}” is not among the files that were sent: send it again.")


def one_line(path: str | os.PathLike) -> str:
    """A file's name without its folder, and without what would break a line or a table."""
    return "".join(c if c.isprintable() else " " for c in Path(path).name)


def shown_name(path: str | os.PathLike) -> str:
    """The same, not too long for a sentence."""
    name = one_line(path)
    return name if len(name) <= 60 else f"{name[:40]}…{name[-15:]}"


def classify_uploads(classifier: GenreClassifier, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one answer per file: `ClassifiedFile.as_json` with "file", or "file" and "error".

    Raises:
        InputError: no files or too many.
    """
    if not 1 <= len(paths or ()) <= MAX_FILES:
        raise InputError(f"Send between 1 and {MAX_FILES} files at once, not {len(paths or ())}.")
    for path in paths:
        try:
            yield {"file": Path(path).name} | classify_upload(classifier, path).as_json()
        except InputError as error:
            yield {"file": Path(path).name, "error": str(error)}


def as_table(answers: Sequence[dict[str, Any]], labels: Sequence[str]) -> pd.DataFrame:
    """One row per answer: the columns of TABLE for the page, then every probability for the CSV."""
    rows = []
    for answer in answers:
        name = one_line(answer["file"])
        if "error" in answer:
            rows.append({"file": name, "remark": answer["error"]})
            continue
        (genre, share), (second, _) = top_two(answer["probabilities"])
        remark = "only the beginning was processed" if answer["is_truncated"] else ""
        values = (name, genre, round(100 * share), second, round(answer["seconds"], 1), remark)
        shares = {label: round(p, 4) for label, p in answer["probabilities"].items()}
        rows.append(dict(zip(TABLE, values, strict=True)) | shares)
    return pd.DataFrame(rows, columns=[*TABLE, *labels])


def as_csv(table: pd.DataFrame) -> bytes:
    """For spreadsheets: with their mark of UTF-8, and no name that they would run as a formula."""
    names = [f"'{name}" if name.startswith(FORMULA) else name for name in table["file"]]
    return table.assign(file=names).to_csv(index=False).encode("utf-8-sig")
