"""Classify ten pieces with transformers.js, in Node and in a browser, and compare with PyTorch.

    npm install --ignore-scripts --prefix js @huggingface/transformers
    python benchmarks/transformers_js.py runs/quickstart --packages js/node_modules

Source of the figures in docs/serving.md. The browser is a headless Chromium with docs/browser.html
as it stands. Nothing is fetched: the addresses of the Hub and of the CDN are answered from the
model's folder and from node_modules. It exports the model to ONNX first if that was not done.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import print_head, print_row
from music_genre import GenreClassifier, audio
from music_genre.publishing.onnx import EXAMPLES, ONNX_FILE, QUANTIZED_FILE, export
from music_genre.windows import cut

ROOT = Path(__file__).resolve().parents[1]
MODEL_ID = "you/model"
ON_THE_HUB = f"/{MODEL_ID}/resolve/main/"
# With the defaults of transformers.js; the windows are raw float32, one after another.
NODE = """
import { readFileSync } from "node:fs";
import { env, pipeline } from "@huggingface/transformers";
const [remoteHost, model, request] = process.argv.slice(2);
Object.assign(env, { remoteHost, allowLocalModels: false, cacheDir: "./cache" });
const classify = await pipeline("audio-classification", model);
const answers = [];
for (const { file, length } of JSON.parse(readFileSync(request))) {
  const bytes = readFileSync(file);
  const samples = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const windows = [];
  for (let start = 0; start < samples.length; start += length)
    windows.push(await classify(samples.slice(start, start + length), { top_k: null }));
  answers.push(windows);
}
console.log(JSON.stringify(answers));
"""


@contextmanager
def serving(folder: Path, prefix: str) -> Iterator[str]:
    """Serve a folder's files on loopback under a prefix; yields the address without it."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return super().translate_path(path.removeprefix(prefix.rstrip("/")))

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def in_node(
    folder: Path, packages: Path, classifier: GenreClassifier, files: list[Path]
) -> list[dict[str, float]]:
    """Probabilities of each file, by the pipeline of transformers.js."""
    window = int(classifier.window_seconds * classifier.sampling_rate)
    with tempfile.TemporaryDirectory() as name, serving(folder, ON_THE_HUB) as address:
        work = Path(name)
        (work / "node_modules").symlink_to(packages.resolve())
        (work / "classify.mjs").write_text(NODE)
        request = []
        for i, file in enumerate(files):
            waveform = audio.decode(file, classifier.sampling_rate).waveform
            np.concatenate(cut(waveform, window)).astype("<f4").tofile(work / f"{i}.f32")
            request.append({"file": f"{i}.f32", "length": window})
        (work / "request.json").write_text(json.dumps(request))
        result = subprocess.run(
            ["node", "classify.mjs", address, MODEL_ID, "request.json"],
            cwd=work, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    if result.returncode:
        sys.exit(f"node: {result.stderr[-2000:]}")
    answers = []
    for answer in json.loads(result.stdout.splitlines()[-1]):
        rows = [{row["label"]: row["score"] for row in window} for window in answer]
        answers.append({label: float(np.mean([row[label] for row in rows])) for label in rows[0]})
    return answers


def in_browser(folder: Path, packages: Path, files: list[Path]) -> list[dict[str, float]]:
    """Probabilities of each file, as docs/browser.html shows them."""
    from playwright.sync_api import Route, sync_playwright

    def answer(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.hostname == "huggingface.co":
            path = folder / url.path.removeprefix(ON_THE_HUB)
        else:  # https://cdn.jsdelivr.net/npm/PACKAGE@VERSION/PATH
            package, _, rest = url.path.removeprefix("/npm/").rpartition("@")
            file = rest.partition("/")[2] or "dist/transformers.min.js"  # its key "jsdelivr"
            path = packages / package / file
        if path.is_file():
            route.fulfill(path=path, headers={"Access-Control-Allow-Origin": "*"})
        else:
            route.fulfill(status=404, headers={"Access-Control-Allow-Origin": "*"})

    answers = []
    with serving(ROOT / "docs", "/") as address, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 640, "height": 760})
        page.route(lambda url: not url.startswith((address, "blob:", "data:")), answer)
        page.goto(f"{address}browser.html?model={MODEL_ID}")
        status = page.get_by_role("status")
        for file in files:
            page.set_input_files("input", file)
            done = status.filter(has_text=f"{file.name}: ")
            done.or_(status.filter(has_text="cannot be")).wait_for(timeout=300_000)
            text = status.inner_text()
            if "cannot be" in text:
                sys.exit(f"browser: {text}")
            rows = [row.split("\t") for row in page.locator("table").inner_text().splitlines()]
            answers.append({label: float(p) for label, p in rows})
        browser.close()
    return answers


def difference(found: dict[str, float], expected: dict[str, float]) -> float:
    """The largest difference of a probability."""
    return max(abs(found[label] - p) for label, p in expected.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the folder of a model")
    parser.add_argument("--packages", type=Path, required=True, help="a node_modules folder")
    arguments = parser.parse_args()
    folder, packages = arguments.model, arguments.packages
    if not all((folder / name).is_file() for name in (ONNX_FILE, QUANTIZED_FILE)):
        export(folder)
    classifier = GenreClassifier(folder, device="cpu", precision="fp32")
    files = sorted(EXAMPLES.glob("*.ogg"))
    expected = [classifier(file).probabilities for file in files]
    node = in_node(folder, packages, classifier, files)
    browser = in_browser(folder, packages, files)
    print_head("10 s of", "PyTorch", "Node, fp32", "browser, int8")
    for file, *answers in zip(files, expected, node, browser, strict=True):
        label = max(answers[0], key=answers[0].get)
        print_row(file.stem, *(f"{label} {found[label]:.4f}" for found in answers))
    for name, answers in (("Node", node), ("browser", browser)):
        largest = max(difference(a, b) for a, b in zip(answers, expected, strict=True))
        print(f"{name}: probabilities within {largest:.1g} of PyTorch's")


if __name__ == "__main__":
    main()
