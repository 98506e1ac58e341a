"""report.json: what was measured of a model; in a run's folder and on the Hub."""

import json
import os
from pathlib import Path

REPORT_FILE = "report.json"
PREDICTIONS_FILES = {"test": "predictions.csv", "validation": "predictions_validation.csv"}


def read_report(folder: Path) -> dict | None:
    """The report in a folder; None if there is none, or none that can be read."""
    try:
        return json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_report(report: dict, folder: Path) -> None:
    """Write or replace the report; the file is complete at any moment."""
    partial = folder / f"{REPORT_FILE}.{os.getpid()}.partial"
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / REPORT_FILE)
