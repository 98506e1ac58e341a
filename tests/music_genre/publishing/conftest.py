"""One tiny model, trained and pushed by train_hf.py; the tests push copies of its run."""

import json
import shutil
from pathlib import Path

import pytest

from data_prep.prepared import PREPARATION_FILE
from tests.hub import HubDouble
from tests.music_genre.publishing.clients import assert_no_token, train_here


@pytest.fixture(scope="session")
def real_looking(prepared, tmp_path_factory) -> Path:
    """The synthesised clips without what says so: as somebody's own music."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("own") / "dataset")
    path = folder / PREPARATION_FILE
    changes = {"kind": "folders", "is_synthetic": False, "dataset_name": "own music"}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture(scope="session")
def pushed(real_looking, tiny_config, tmp_path_factory):
    """A hub, and the run that train_hf.py made and pushed there as you/tiny."""
    pytest.importorskip("torchaudio", reason="training needs torchaudio")
    root = tmp_path_factory.mktemp("pushed")
    with HubDouble(root / "hub") as hub:
        hub.add_repo("somebody/else")
        output_dir, home = root / "run", root / "home"
        result = train_here(hub, home, real_looking, tiny_config, output_dir, "you/tiny")
        assert result.returncode == 0, result.stderr[-3000:]
        assert_no_token(result.stdout, result.stderr)
        yield hub, output_dir


@pytest.fixture
def finished(pushed, tmp_path) -> Path:
    """A copy of that run, which no Hub knows yet."""
    return Path(shutil.copytree(pushed[1], tmp_path / "my run"))
