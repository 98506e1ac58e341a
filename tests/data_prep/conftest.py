"""Files are decoded in the tests' own process, which takes less time than starting others.

test_crashes.py and test_command.py use real ones.
"""

import pytest

from tests.pool_here import PoolHere


@pytest.fixture(autouse=True, scope="module")
def decoders_here():
    with pytest.MonkeyPatch.context() as patch:
        for module in ("decoding", "sources.tagged_files"):
            patch.setattr(f"data_prep.{module}.DecoderPool", PoolHere)
        yield
