"""The tables of audio features in the Kaggle archive: CSV files with one row per clip."""

import csv
import io

from music_genre.errors import InputError


class FeatureTableError(InputError):
    """A file that is not such a table; the message says why."""


def add_track_ids(table: bytes) -> str:
    """Put a first column, `track_id`, before the columns of a feature table.

    Raises:
        FeatureTableError: it is not a CSV file in UTF-8 whose first column is `filename`, or it
            has a cell of more than 128 KB.
    """
    if b"\0" in table:
        raise FeatureTableError("it holds NUL bytes")
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    try:
        rows = csv.reader(table.decode("utf-8-sig").splitlines())
        header = next(rows, [])
        if header[:1] != ["filename"]:
            raise FeatureTableError("it has no first column filename")
        writer.writerow(["track_id", *header])
        for row in rows:
            # "blues.00000.wav" is a track, "blues.00000.3.wav" three seconds of it.
            writer.writerow([".".join(row[0].split(".")[:2]) if row else "", *row])
    except UnicodeDecodeError as error:
        raise FeatureTableError("it is not text in UTF-8") from error
    except csv.Error as error:
        raise FeatureTableError(f"it is not a CSV table ({error})") from error
    return out.getvalue()
