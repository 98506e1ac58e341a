"""Files are decoded in the tests' own process, which takes less time than starting others.

test_crashes.py and test_command.py use real ones.
"""

from pathlib import Path

import pytest

from data_prep.prepare import prepare
from tests.pool_here import PoolHere


@pytest.fixture(autouse=True, scope="module")
def decoders_here():
    with pytest.MonkeyPatch.context() as patch:
        for module in ("decoding", "sources.tagged_files"):
            patch.setattr(f"data_prep.{module}.decoder_pool", PoolHere)
        yield


@pytest.fixture(scope="session")
def real_prepared(real_archive, tmp_path_factory) -> Path:
    """The shared sample of GTZAN, prepared once."""
    folder = tmp_path_factory.mktemp("real") / "dataset"
    prepare([real_archive], folder, split="random")
    return folder
