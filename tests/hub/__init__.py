"""A small Hugging Face Hub on loopback, for the real and unpatched huggingface_hub client.

    with HubDouble(tmp_path / "hub") as hub:
        hub.faults.append(Fault("PUT", "/storage/", cut_after=1000, times=1))
        subprocess.run([...], env=os.environ | hub.environment(tmp_path / "cache"))
        assert [r.path for r in hub.requests if r.method == "PUT"] == [...]

The client reads HF_ENDPOINT when it is imported: run it in a process of its own. It speaks what
huggingface_hub 2.4 asks for (`_commit_api.py`, `lfs.py`, `file_download.py`, `hf_api.py`) when a
repository is made, written and read. Files are kept on disk, by their hashes.

What it does not cover: Xet storage (`HF_HUB_DISABLE_XET` is set; only the request for a Xet token
is there, to be refused), uploads in parts, pull requests, branches, copies and folder deletions,
gated repositories, fine-grained tokens, resource groups, the rate limits and the exact wording of
the real Hub, and what validate-yaml knows beyond a card's shape.
"""

from tests.hub.access import READER, WRITER
from tests.hub.server import Exchange, Fault, HubDouble

__all__ = ["READER", "WRITER", "Exchange", "Fault", "HubDouble"]
