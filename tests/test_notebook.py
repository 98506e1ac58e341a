"""The notebook from its first to its last cell, as a person without data or GPU runs it."""

import re
import urllib.error
import urllib.request

import nbformat
import pytest
from nbclient import NotebookClient

from data_prep.synthetic import write_archive

NAME = "gtzan_colab.ipynb"
# Shorter than the quickstart, and else the same: fewer and shorter clips, fewer epochs.
SHORTER = 'OPTIONS = "--num_train_epochs 2 --disable_tqdm True"'


@pytest.fixture(scope="module")
def notebook(root):
    return nbformat.read(root / "notebooks" / NAME, as_version=4)


def test_it_is_saved_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert not any(cell.get("attachments") for cell in notebook.cells)


@pytest.fixture(scope="module")
def executed(notebook, root, tmp_path_factory):
    """Run in a folder that has the repository's files, but data and runs of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("train_hf.py", "app.py", "baselines", "configs", "data_prep", "music_genre"):
        (folder / name).symlink_to(root / name)
    (folder / "data").mkdir()
    write_archive(folder / "data" / "synthetic.zip", clips_per_genre=5, seconds=4.0)
    copy = nbformat.from_dict(notebook)
    (parameters,) = (c for c in copy.cells if "parameters" in c.metadata.get("tags", []))
    assert "OPTIONS" in parameters.source
    parameters.source += f"\n{SHORTER}"
    client = NotebookClient(
        copy, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return folder, copy


def texts(notebook) -> str:
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert not any(o.output_type == "error" for o in outputs)
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


def pictures_after(notebook, text: str) -> int:
    (cell,) = (c for c in notebook.cells if c.cell_type == "code" and text in c.source)
    return sum("image/png" in o.get("data", {}) for o in cell.outputs)


def test_every_stage_leaves_its_result(executed):
    folder, notebook = executed
    text = texts(notebook)
    assert "no zip, so synthesised music" in text
    assert "synthesised music, random split: 10 test clips" in text
    assert "Not pushed." in text
    assert (folder / "runs" / "quickstart-notebook" / "model.safetensors").is_file()
    assert pictures_after(notebook, "imshow") == 1
    assert pictures_after(notebook, "confusion_matrix.png") == 2
    assert pictures_after(notebook, "comparison.png") == 1
    (compared,) = (c for c in notebook.cells if "-m baselines" in c.source and c.outputs)
    table = next(
        o.data["text/markdown"] for o in compared.outputs if "text/markdown" in o.get("data", {})
    )
    assert "| tiny-hubert, from scratch | audio, windows of 2 s (synthesised music) |" in table


def test_the_app_started_and_ended_with_it(executed):
    _, notebook = executed
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+", texts(notebook))
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)
