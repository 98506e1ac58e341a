"""Run the notebook from its first to its last cell, as someone without data or GPU would."""

import re
import urllib.error
import urllib.request

import nbformat
import pytest
from nbclient import NotebookClient

from data_prep.synthetic import write_archive

NAME = "gtzan_colab.ipynb"
# Of fewer and shorter clips than the quickstart's.
SHORTER = 'OPTIONS = "--num_train_epochs 1 --disable_tqdm True"'


@pytest.fixture(scope="module")
def notebook(root):
    return nbformat.read(root / "notebooks" / NAME, as_version=4)


def test_the_notebook_is_saved_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert not any(cell.get("attachments") for cell in notebook.cells)


@pytest.fixture(scope="module")
def executed(notebook, root, tmp_path_factory):
    """Run in a folder that has the repository's files, but its own data and runs."""
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
        copy, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return folder, copy


def outputs_of(notebook, text: str = "") -> list:
    """The outputs of the cells whose code contains this text."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
    return [output for cell in cells for output in cell.outputs]


def printed(notebook) -> str:
    return "".join(output.get("text", "") for output in outputs_of(notebook))


def shown(notebook, text: str, kind: str) -> list[str]:
    data = [output.get("data", {}) for output in outputs_of(notebook, text)]
    return [output_data[kind] for output_data in data if kind in output_data]


def test_every_stage_leaves_its_result(executed):
    folder, notebook = executed
    text = printed(notebook)
    assert "no music, so it is synthesised" in text
    assert "synthesised music, random split: 10 test clips" in text
    assert "Not published." in text
    run_dir = folder / "runs" / "notebook-synthetic-random-tiny"
    assert (run_dir / "model.safetensors").is_file()
    assert len(shown(notebook, "specgram", "image/png")) == 1
    assert len(shown(notebook, "specgram", "text/html")) == 1  # the player
    assert len(shown(notebook, "confusion_matrix.png", "image/png")) == 2


def test_the_app_started_and_ended_with_the_notebook(executed):
    _, notebook = executed
    (address,) = set(re.findall(r"http://127\.0\.0\.1:\d+", printed(notebook)))
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)
