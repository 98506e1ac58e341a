"""Classify a visitor's files for the page, its API and a spreadsheet."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from gradio.utils import get_upload_folder

from music_genre.audio import AudioError, decode, loss_in_words
from music_genre.classifier import GenreClassifier, Prediction, Progress
from music_genre.demo import pictures
from music_genre.demo.live import TAKE_LEAD
from music_genre.errors import InputError
from music_genre.isolation import DecoderPool, result

MAX_FILES = 20  # in one batch
MAX_FILE_MB = 100
MAX_SONG_SECONDS = 15 * 60.0  # processed per file, as visitors share the server
MAX_AT_ONCE = 2  # files; one visitor's batch must not make all others wait
DECODING_SECONDS = 30  # time limit for a file, because others wait meanwhile
DECODERS = DecoderPool(MAX_AT_ONCE)
FORMATS = "WAV, MP3, FLAC, OGG, Opus, M4A, AAC, WebM or AIFF"
FORMULA = tuple("=+-@＝＋－＠")  # the characters that start one
TABLE = ("file", "genre", "sure %", "runner-up", "seconds", "remark")


@dataclass(frozen=True)
class ClassifiedFile:
    """A file's prediction, and the processed waveform: float32, shape (samples,)."""

    prediction: Prediction
    waveform: np.ndarray
    sampling_rate: int
    is_truncated: bool  # the file is longer than the waveform
    lost_seconds: float  # how much of the processed time could not be decoded

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
            "lost_seconds": self.lost_seconds,
        }

    def as_html(self) -> tuple[str, str]:
        """The headline and the pictures."""
        (genre, share), (second, second_share) = pictures.best_two(self.prediction.probabilities)
        note = f"{share:.0%} sure"
        if share - second_share < TAKE_LEAD:
            note += f", a close call with {second} ({second_share:.0%})"
        note += f" · processed {pictures.clock(self.seconds)}"
        if self.is_truncated:
            note += ", the rest was left out"
        if loss := loss_in_words(self.lost_seconds, self.seconds):
            note += f" · {loss}"
        return pictures.headline(genre, note), pictures.file_picture(
            self.prediction, self.waveform, self.sampling_rate
        )


def classify_upload(
    classifier: GenreClassifier, path: str | os.PathLike, progress: Progress | None = None
) -> ClassifiedFile:
    """Decode and classify an uploaded file, up to MAX_SONG_SECONDS.

    Raises:
        InputError: the file cannot be used; the message names the file, without its folder.
    """
    file, rate = received(path), classifier.sampling_rate
    try:
        task = DECODERS.schedule(  # one extra second shows whether there is more
            decode, args=[file, rate, 0.0, MAX_SONG_SECONDS + 1], timeout=DECODING_SECONDS
        )
        waveform, lost_seconds = result(task)
        limit = int(MAX_SONG_SECONDS * rate)
        is_truncated, waveform = len(waveform) > limit, waveform[:limit]
        prediction = classifier(waveform, rate, progress)
    except (AudioError, OSError) as error:
        reason = error if isinstance(error, AudioError) else "it cannot be read"
        raise InputError(
            f"“{shown_name(path)}” cannot be used: {reason}. Send music as {FORMATS}."
        ) from error
    return ClassifiedFile(prediction, waveform, rate, is_truncated, lost_seconds)


def received(path: str | os.PathLike) -> str:
    """Return the real path of an uploaded file.

    gradio lets some forms of a path through unchecked, so a visitor could name any file on the
    server. The message is the same whether such a file exists or not.

    Raises:
        InputError: the path is not a regular file in gradio's upload folder.
    """
    with suppress(ValueError):  # no path can hold some characters, such as null
        real, folder = os.path.realpath(path), os.path.realpath(get_upload_folder())
        if Path(real).is_relative_to(folder) and os.path.isfile(real):
            return real
    raise InputError(f"“{shown_name(path)}” is not among the files that were sent: send it again.")


def one_line(path: str | os.PathLike) -> str:
    """Return a file's name, without its folder or characters that break lines or tables."""
    return "".join(c if c.isprintable() else " " for c in Path(path).name)


def shown_name(path: str | os.PathLike) -> str:
    """Return the same, shortened for use in a sentence."""
    name = one_line(path)
    return name if len(name) <= 60 else f"{name[:40]}…{name[-15:]}"


def classify_uploads(classifier: GenreClassifier, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one answer per file: `ClassifiedFile.as_json` with "file", or "file" and "error".

    Raises:
        InputError: there are no files, or too many.
    """
    if not 1 <= len(paths or ()) <= MAX_FILES:
        raise InputError(f"Send between 1 and {MAX_FILES} files at once, not {len(paths or ())}.")
    for i, path in enumerate(paths):
        for waiting in paths[i:]:  # or they are deleted by age during a long batch
            with suppress(InputError, OSError):
                os.utime(received(waiting))
        try:
            yield {"file": one_line(path)} | classify_upload(classifier, path).as_json()
        except InputError as error:
            yield {"file": one_line(path), "error": str(error)}


def as_table(answers: Sequence[dict[str, Any]], labels: Sequence[str]) -> pd.DataFrame:
    """One row per answer: the columns of TABLE for the page, then every probability for the CSV."""
    rows = []
    for answer in answers:
        name = one_line(answer["file"])
        if "error" in answer:
            rows.append({"file": name, "remark": answer["error"]})
            continue
        (genre, share), (second, _) = pictures.best_two(answer["probabilities"])
        seconds = answer["seconds"]
        remark = loss_in_words(answer["lost_seconds"], seconds)
        if answer["is_truncated"]:
            remark = "; ".join(filter(None, ["only the beginning was processed", remark]))
        values = name, genre, round(100 * share), second, round(seconds, 1), remark or ""
        shares = {label: round(p, 4) for label, p in answer["probabilities"].items()}
        rows.append(dict(zip(TABLE, values, strict=True)) | shares)
    return pd.DataFrame(rows, columns=[*TABLE, *labels])


def for_page(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of TABLE; files that cannot be used come first, so visitors see them."""
    is_usable = table["genre"].notna()
    shown = table[list(TABLE)].fillna({"genre": "not usable"})  # phones hide the remark
    return pd.concat([shown[~is_usable], shown[is_usable]])


def count(table: pd.DataFrame, n_files: int) -> str:
    """How many files are done, and how many of them cannot be used."""
    n_failed = table["genre"].isna().sum()
    failed = f", **{n_failed} not usable** (shown first)" if n_failed else ""
    return f"{len(table)} of {n_files} files done{failed}."


def as_csv(table: pd.DataFrame) -> bytes:
    """Write a CSV that spreadsheets read as UTF-8 and in which no name is run as a formula."""
    names = [f"'{name}" if name.startswith(FORMULA) else name for name in table["file"]]
    return table.assign(file=names).to_csv(index=False).encode("utf-8-sig")
