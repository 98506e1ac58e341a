"""To the Hub and back, through the real client in processes of its own and a Hub on loopback.

One tiny model is trained and pushed by train_hf.py; the rest of the tests push copies of its run.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk

from data_prep.gtzan import GENRES
from music_genre import GenreClassifier, audio
from music_genre.errors import InputError
from music_genre.publishing.__main__ import parse_arguments
from music_genre.publishing.hub import PUBLISHED, complete, publish
from tests.hub import READER, WRITER, Fault, HubDouble

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = "model.safetensors"
LFS_FILES = {WEIGHTS, "onnx/model.onnx", "example.ogg", "confusion_matrix.png",
             "reliability.png", "learning_curves.png"}  # fmt: skip


def environment(hub: HubDouble, home: Path, token: str | None = WRITER, **more: str) -> dict:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | hub.environment(home, token) | {"PYTHONPATH": path} | more


def run(command: list[object], env: dict, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def push(hub: HubDouble, home: Path, *arguments: object, **more) -> subprocess.CompletedProcess:
    return run(["-m", "music_genre.publishing", *arguments], environment(hub, home, **more))


def start_push(hub: HubDouble, folder: Path, home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "music_genre.publishing", str(folder), "you/x"],
        env=environment(hub, home), cwd=ROOT, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored(hub: HubDouble) -> list[str]:
    """Hashes of the LFS objects that came in whole, in order, one entry for each time."""
    whole = [r for r in hub.sent("PUT", "^/storage/upload/") if r.status == 200]
    return [r.path.split("/")[-1] for r in whole]


def assert_no_token(*texts: str | bytes) -> None:
    for text in texts:
        assert WRITER not in (text if isinstance(text, str) else text.decode("latin-1"))


@pytest.fixture(scope="module")
def real_looking(prepared, tmp_path_factory) -> Path:
    """The synthesised clips without what says so: as somebody's own audio dataset."""
    folder = tmp_path_factory.mktemp("own") / "dataset"
    load_from_disk(prepared).save_to_disk(folder)
    return folder


def training(dataset: Path, tiny_config: Path, output_dir: Path, repo_id: str) -> list[object]:
    return [
        ROOT / "train_hf.py", "--dataset", dataset, "--model_name_or_path", tiny_config,
        "--from_scratch", "True", "--freeze_feature_encoder", "False", "--window_seconds", 1,
        "--num_train_epochs", 1, "--learning_rate", 0.01, "--per_device_train_batch_size", 16,
        "--precision", "fp32", "--disable_tqdm", "True", "--output_dir", output_dir,
        "--push_to_hub", "True", "--hub_model_id", repo_id,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pushed(real_looking, tiny_config, tmp_path_factory):
    """A hub, and the run that train_hf.py made and pushed there as you/tiny."""
    root = tmp_path_factory.mktemp("pushed")
    with HubDouble(root / "hub") as hub:
        hub.add_repo("somebody/else")
        command = training(real_looking, tiny_config, root / "run", "you/tiny")
        result = run(command, environment(hub, root / "home"))
        assert result.returncode == 0, result.stderr[-3000:]
        assert_no_token(result.stdout, result.stderr)
        yield hub, root / "run"


@pytest.fixture
def finished(pushed, tmp_path) -> Path:
    """A copy of that run, which no Hub knows yet."""
    return Path(shutil.copytree(pushed[1], tmp_path / "my run"))


def enlarge(folder: Path) -> str:
    """Give a run 8 MB of weights, more than sockets buffer; returns their hash."""
    content = np.random.default_rng(0).bytes(8_000_000)
    (folder / WEIGHTS).write_bytes(content)
    report = json.loads((folder / "report.json").read_text())
    report["onnx"]["weights_sha256"] = sha256(content)
    (folder / "report.json").write_text(json.dumps(report))
    return sha256(content)


@pytest.fixture
def large(finished) -> tuple[Path, str]:
    return finished, enlarge(finished)


@pytest.fixture(scope="module", autouse=True)
def always_cut(pushed, tmp_path_factory):
    """A push that is under way from the start of this module on: it fails, but not soon."""
    root = tmp_path_factory.mktemp("cut")
    folder = Path(shutil.copytree(pushed[1], root / "run"))
    weights = enlarge(folder)
    with HubDouble(root / "hub") as hub:
        hub.faults.append(Fault("PUT", weights, cut_after=1_000_000))
        process = start_push(hub, folder, root / "home")
        yield hub, folder, weights, process
        process.kill()


@pytest.fixture
def hub(tmp_path):
    with HubDouble(tmp_path / "hub") as hub:
        yield hub


# --- there ----------------------------------------------------------------------------------


def test_training_pushes_one_private_commit_of_what_is_promised(pushed):
    hub, folder = pushed
    assert len(hub.commits("you/tiny")) == 1
    assert hub.storage.load("models", "you/tiny")["private"]
    files = hub.files("you/tiny")
    assert set(files) == {*PUBLISHED, ".gitattributes"}
    assert any(folder.glob("checkpoint-*/optimizer.pt")), "there was something to leave out"
    for name in PUBLISHED:
        assert files[name] == (folder / name).read_bytes()
    uploaded = sorted(stored(hub))
    assert uploaded == sorted(sha256(files[name]) for name in LFS_FILES)
    assert all("authorization" not in r.headers for r in hub.sent("PUT", ""))
    assert_no_token(*files.values(), *(p.read_bytes() for p in folder.rglob("*") if p.is_file()))


def test_nothing_is_sent_twice(hub, finished, tmp_path):
    """A second push sends no object; one after a change sends that and takes away what is gone."""
    assert push(hub, tmp_path, finished, "tiny").returncode == 0  # your name is understood
    n_stored = len(stored(hub))
    again = push(hub, tmp_path, finished, "you/tiny")
    assert again.returncode == 0, again.stderr
    assert len(hub.commits("you/tiny")) == 1
    (finished / "learning_curves.png").unlink()
    assert push(hub, tmp_path, finished, "you/tiny").returncode == 0
    assert len(hub.commits("you/tiny")) == 2
    assert "learning_curves.png" not in hub.files("you/tiny")
    assert len(stored(hub)) == n_stored


def test_a_large_file_goes_up_in_parts(finished, tmp_path):
    with HubDouble(tmp_path / "hub", part_size=10_000) as hub:
        result = push(hub, tmp_path, finished, "you/tiny", "--public")
        assert result.returncode == 0, result.stderr
        assert len(hub.sent("PUT", "/storage/part/")) > 20
        assert hub.files("you/tiny")[WEIGHTS] == (finished / WEIGHTS).read_bytes()
        assert not hub.storage.load("models", "you/tiny")["private"]


# --- what goes wrong ------------------------------------------------------------------------

BUSY = {"Retry-After": "0"}  # the client waits a second, not up to eight
PUT = ("PUT", "^/storage/upload/")
COMMIT = ("POST", "/commit/main$")


@pytest.mark.parametrize(
    ("repo_id", "token", "fault", "message"),
    [
        ("you/x", None, None, "no token for the Hub: run `hf auth login`"),
        ("you/x", "hf_wrong", None, "does not accept the token"),
        ("you/x", READER, None, "The token for the Hub may only read"),
        ("somebody/else", WRITER, None, "this token may not write there"),
        ("nobody/x", WRITER, None, "this token may not write there"),
        ("you/a b", WRITER, None, "is no name for a repository"),
        ("you/public", WRITER, None, "you/public exists and is public"),
        (
            "you/x",
            WRITER,
            Fault("GET", "/api/whoami-v2", 500),
            "the Hub has an internal error (500)",
        ),
        ("you/x", WRITER, Fault("POST", "/api/repos/create", 429), "wait some minutes"),
        ("you/x", WRITER, Fault("POST", "/objects/batch", 403), "this token may not write there"),
        ("you/x", WRITER, Fault(*PUT, 500, headers=BUSY), "has an internal error (500)"),
        ("you/x", WRITER, Fault(*COMMIT, 401), "does not accept the token"),
        ("you/x", WRITER, Fault(*COMMIT, 409), "another process is changing the repository"),
        ("you/x", WRITER, Fault(*COMMIT, 429), "wait some minutes"),
        (
            "you/x",
            WRITER,
            Fault(*COMMIT, cut_after=500),
            "the connection failed or was interrupted",
        ),
    ],
)
def test_a_failed_push_says_why_and_how_to_try_again(
    hub, finished, tmp_path, repo_id, token, fault, message
):
    hub.add_repo("somebody/else")
    hub.add_repo("you/public")
    hub.faults += [fault] if fault else []
    before = {name: (finished / name).read_bytes() for name in (WEIGHTS, "config.json")}
    failed = push(hub, tmp_path / "home", finished, repo_id, token=token)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert before == {name: (finished / name).read_bytes() for name in before}
    assert_no_token(failed.stdout, failed.stderr)
    if token != WRITER:
        assert token is None or token not in failed.stderr
        assert not hub.sent("POST", "/preupload/"), "known before anything is sent"

    command = shlex.split(last.split("try again: ")[1])
    assert command == ["python", "-m", "music_genre.publishing", str(finished), repo_id]
    if fault:
        hub.faults.clear()
        already = stored(hub)
        result = run(command[1:], environment(hub, tmp_path / "home"))
        assert result.returncode == 0, result.stderr
        assert set(hub.files(repo_id)) == {*PUBLISHED, ".gitattributes"}
        assert len(stored(hub)) == len(LFS_FILES), "no object is sent twice"
        assert set(stored(hub)[: len(already)]) == set(already)


def test_a_line_that_is_cut_once_is_taken_up_by_the_client(hub, large, tmp_path):
    folder, weights = large
    hub.faults.append(Fault("PUT", weights, cut_after=1_000_000, times=1))
    result = push(hub, tmp_path, folder, "you/x")
    assert result.returncode == 0, result.stderr
    cut, whole = hub.sent("PUT", weights)
    assert cut.status is None
    assert 1_000_000 < cut.n_received < whole.n_received == 8_000_000


def test_a_line_that_is_always_cut(always_cut):
    """The client tries six times, for 23 seconds: they pass while the other tests run."""
    hub, folder, weights, process = always_cut
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    last = error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert "the connection failed or was interrupted" in last
    assert [r.status for r in hub.sent("PUT", weights)] == [None] * 6
    assert not hub.commits("you/x")
    assert sha256((folder / WEIGHTS).read_bytes()) == weights
    hub.faults.clear()
    already = set(stored(hub))
    assert len(already) == len(LFS_FILES) - 1
    command = shlex.split(last.split("try again: ")[1])
    result = run(command[1:], environment(hub, folder.parent / "home"))
    assert result.returncode == 0, result.stderr
    assert set(stored(hub)) - already == {weights}
    assert len(stored(hub)) == len(LFS_FILES)


def test_killed_in_the_middle_the_next_try_sends_the_rest(hub, large, tmp_path):
    folder, weights = large
    hub.faults.append(Fault("PUT", weights, hold_after=1_000_000, times=1))
    process = start_push(hub, folder, tmp_path / "home")
    assert hub.held.wait(60)
    while len(stored(hub)) < len(LFS_FILES) - 1:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert hub.sent("PUT", weights)[0].n_received < 8_000_000
    assert not hub.commits("you/x")
    assert sha256((folder / WEIGHTS).read_bytes()) == weights

    result = push(hub, tmp_path / "home", folder, "you/x")
    assert result.returncode == 0, result.stderr
    assert stored(hub)[-1] == weights
    in_repository = [sha256(hub.files("you/x")[name]) for name in LFS_FILES]
    assert sorted(stored(hub)) == sorted(in_repository), "each object came in whole once"


def test_what_xet_storage_refuses_is_one_sentence_too(hub, finished, tmp_path):
    """The real Hub is written by hf_xet; all that can be seen here is how it fails."""
    result = push(hub, tmp_path, finished, "you/x", HF_HUB_DISABLE_XET="")
    assert hub.sent("GET", "/xet-write-token/main")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert "this token may not write there" in last
    assert "try again: python -m music_genre.publishing" in last


def test_a_right_that_is_missing_is_known_before_training(
    pushed, real_looking, tiny_config, tmp_path
):
    hub, _ = pushed
    command = training(real_looking, tiny_config, tmp_path / "run", "somebody/else")
    result = run(command, environment(hub, tmp_path))
    assert result.returncode == 2
    assert "this token may not write there" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_token_on_the_command_line_is_refused(real_looking, tiny_config, tmp_path):
    import train_hf
    from music_genre.training.arguments import parse_arguments

    command = training(real_looking, tiny_config, tmp_path / "run", "you/x")
    argv = [*map(str, command[1:]), "--hub_token", WRITER]
    with pytest.raises(InputError, match="does not belong on a command line") as error:
        train_hf.run(*parse_arguments(argv))
    assert_no_token(str(error.value))


def test_a_model_without_onnx_form_is_published_without(finished, monkeypatch, capsys):
    """And the form of the weights that were there before does not stay beside the new ones."""
    from music_genre.publishing import onnx

    def give_up(folder):
        raise onnx.OnnxError("A model of type novelty cannot be exported to ONNX.")

    monkeypatch.setattr(onnx, "export", give_up)
    (finished / WEIGHTS).write_bytes(b"other weights")
    report = json.loads((finished / "report.json").read_text())
    complete(finished, report, "you/x")
    assert json.loads((finished / "report.json").read_text())["onnx"] is None
    assert not (finished / "onnx" / "model.onnx").exists()
    assert "ONNX" not in (finished / "README.md").read_text()
    assert capsys.readouterr().err == (
        "Published without ONNX: A model of type novelty cannot be exported to ONNX.\n"
    )


def test_only_finished_runs_on_real_music_are_published(finished):
    report = json.loads((finished / "report.json").read_text())
    (finished / "report.json").write_text(json.dumps(report | {"is_synthetic": True}))
    with pytest.raises(InputError, match="synthesised music: a demonstration is not published"):
        publish(finished, "you/x")
    (finished / "report.json").unlink()
    with pytest.raises(InputError, match="holds no finished run"):
        publish(finished, "you/x")


# --- and back -------------------------------------------------------------------------------

PULL = """
import hashlib, json, sys
import numpy as np
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import pipeline
from music_genre import GenreClassifier

noise = np.load("noise.npy")
classify = pipeline("audio-classification", model="you/pulled", revision="v1", top_k=None)
card = ModelCard.load(hf_hub_download("you/pulled", "README.md"))
name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
weights = hf_hub_download("you/pulled", "model.safetensors", revision="v1")
print(json.dumps({
    "classifier": GenreClassifier("you/pulled", revision="v1")(noise, 16_000).probabilities,
    "newest": GenreClassifier("you/pulled")(noise, 16_000).probabilities,
    "pipeline": {answer["label"]: answer["score"] for answer in classify(noise)},
    "sha256": hashlib.sha256(open(weights, "rb").read()).hexdigest(),
    "card": [name, [[r.dataset_split, r.metric_type, r.metric_value] for r in results]],
    "torch": sorted(m for m in sys.modules if m.startswith("transformers_modules")),
}))
"""


def test_pulled_on_a_cold_cache_and_again_without_network(hub, finished, tmp_path):
    """v1 is the first commit; the weights of the second are others. The first download is cut."""
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    assert push(hub, tmp_path / "home", finished, "you/pulled").returncode == 0
    tag = "from huggingface_hub import HfApi; HfApi().create_tag('you/pulled', tag='v1')"
    assert run(["-c", tag], environment(hub, tmp_path / "home")).returncode == 0
    content = (finished / WEIGHTS).read_bytes()
    other = content[:-400] + bytes(400)
    files = hub.commits("you/pulled")[-1]["files"] | {WEIGHTS: hub.storage.lfs(other)}
    hub.storage.commit(hub.storage.load("models", "you/pulled"), "other weights", files)

    hub.faults.append(Fault("GET", f"/storage/lfs/{sha256(content)}", cut_after=3000, times=1))
    online = run(["-c", PULL], environment(hub, tmp_path / "home"), cwd=tmp_path)
    assert online.returncode == 0, online.stderr[-3000:]
    answer = json.loads(online.stdout)
    assert len(hub.sent("GET", f"/storage/lfs/{sha256(content)}")) == 2
    expected = GenreClassifier(finished)(noise, 16_000).probabilities
    assert answer["sha256"] == sha256(content)
    assert answer["classifier"] == pytest.approx(expected, abs=1e-6)
    assert answer["pipeline"] == pytest.approx(expected, abs=1e-6)
    assert answer["newest"] != pytest.approx(expected, abs=1e-6)
    assert answer["torch"] == [], "no code of the repository is run"
    report = json.loads((finished / "report.json").read_text())
    name, results = answer["card"]
    assert name == "pulled"
    assert ["test", "accuracy", round(report["test"]["accuracy"], 4)] in results

    cut_off = environment(hub, tmp_path / "home", HF_ENDPOINT="http://127.0.0.1:9")
    offline = run(["-c", PULL], cut_off, cwd=tmp_path)
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert json.loads(offline.stdout) == answer


def test_a_long_download_is_taken_up_where_it_was_cut(hub, tmp_path):
    """The client keeps what it has by 10 MiB; shorter files it fetches anew."""
    hub.add_repo("you/long")
    content = np.random.default_rng(0).bytes(12_000_000)
    files = {WEIGHTS: hub.storage.lfs(content)}
    hub.storage.commit(hub.storage.load("models", "you/long"), "long", files)
    hub.faults.append(Fault("GET", "/storage/lfs/", cut_after=11_000_000, times=1))
    code = f"from huggingface_hub import hf_hub_download as d; print(d('you/long', '{WEIGHTS}'))"
    result = run(["-c", code], environment(hub, tmp_path))
    assert Path(result.stdout.strip()).read_bytes() == content
    cut, resumed = hub.sent("GET", "/storage/lfs/")
    assert "range" not in cut.headers
    assert resumed.headers["range"] == f"bytes={10 * 2**20}-"
    assert resumed.status == 206


def test_the_snippets_of_the_card_run_and_agree(pushed, tmp_path):
    hub, folder = pushed
    import soundfile

    rate = 16_000
    waveform, _ = audio.decode(folder / "example.ogg", 10, to=rate)
    soundfile.write(tmp_path / "song.wav", waveform[:rate], rate)  # a window: they agree on one
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    script = 'print("---")\n'.join(snippets)
    result = run(["-c", script], environment(hub, tmp_path / "home"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    by_pipeline, by_classifier, by_onnx = result.stdout.split("---\n")
    genre = by_onnx.strip()
    assert genre in GENRES
    assert by_classifier.split()[0] == genre
    assert f"'label': '{genre}'" in by_pipeline[: by_pipeline.index("}")]


@pytest.mark.parametrize(
    ("model_id", "message"),
    [
        ("you/missing", "The Hub has no model you/missing that you may read (404)"),
        ("somebody/secret", "The Hub has no model somebody/secret that you may read (404)"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_sentence(pushed, tmp_path, model_id, message):
    hub, _ = pushed
    hub.add_repo("somebody/secret", private=True)
    code = f"from music_genre import GenreClassifier; GenreClassifier({model_id!r})"
    result = run(["-c", code], environment(hub, tmp_path))
    assert message in result.stderr.splitlines()[-1]


# --- the Space ------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A git checkout like this one, with data in it."""
    root = tmp_path / "checkout"
    for name in ("data_prep", "music_genre"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "requirements.txt", "train_hf.py"):
        shutil.copy(ROOT / name, root / name)
    (root / "app.py").write_text("# the demo\n")
    (root / "docs").mkdir()
    (root / "docs" / "app.png").write_bytes(b"\x89PNG\0")
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    (root / "music_genre" / "clip.wav").write_bytes(b"not known to git")
    (root / "data").mkdir()
    (root / "data" / "gtzan.zip").write_bytes(b"known to git by mistake")
    subprocess.run([*git, "add", "data"], check=True)
    return root


def test_one_command_makes_a_space_that_shows_a_model(hub, checkout, tmp_path):
    import yaml

    hub.add_repo("you/tiny")
    env = environment(hub, tmp_path / "home") | {"PYTHONPATH": str(checkout)}
    command = ["-m", "music_genre.publishing", "--space", "you/demo", "--model", "you/tiny"]
    result = run(command, env, cwd=checkout)
    assert result.returncode == 0, result.stderr
    repo, files = hub.storage.load("spaces", "you/demo"), hub.files("you/demo", "spaces")
    assert repo["private"] and repo["sdk"] == "gradio"
    assert repo["variables"]["MODEL_ID"]["value"] == "you/tiny"
    assert len(hub.commits("you/demo", "spaces")) == 1
    assert {"app.py", "requirements.txt", "music_genre/classifier.py", "README.md"} <= set(files)
    assert files["docs/app.png"] == b"\x89PNG\0"
    assert not [n for n in files if n.startswith(("data/", "train_hf")) or n.endswith(".wav")]
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert front["models"] == front["preload_from_hub"] == ["you/tiny"]
    gradio = re.search(r"^gradio==(\S+)", files["requirements.txt"].decode(), re.MULTILINE)
    assert str(front["sdk_version"]) == gradio[1]
    assert_no_token(result.stdout, result.stderr)


def test_a_space_without_its_model_is_refused(hub, checkout, tmp_path):
    env = environment(hub, tmp_path / "home") | {"PYTHONPATH": str(checkout)}
    command = ["-m", "music_genre.publishing", "--space", "you/demo", "--model", "you/none"]
    result = run(command, env, cwd=checkout)
    assert result.returncode == 2
    assert "you/none cannot be found on the Hub" in result.stderr.splitlines()[-1]
    assert hub.storage.load("spaces", "you/demo") is None


@pytest.mark.parametrize("argv", [[], ["runs/x"], ["--space", "you/s"], ["f", "r", "--space", "s"]])
def test_half_a_command_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(argv)
    assert stop.value.code == 2
    assert "give FOLDER USER/NAME, or --space" in capsys.readouterr().err
