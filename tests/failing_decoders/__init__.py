"""Decoders that fail on demand, in processes that are started with ENVIRONMENT.

A file fails its decoder that begins with `beginning(way)`, for each of WAYS. The product knows
nothing of it.
"""

import os
from pathlib import Path

from tests.failing_decoders.sitecustomize import WAYS, beginning

ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
}
__all__ = ["ENVIRONMENT", "WAYS", "beginning"]
