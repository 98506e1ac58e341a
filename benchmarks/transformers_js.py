"""Classify ten pieces in a browser, with docs/browser.html, and compare with PyTorch.

    npm install --ignore-scripts --prefix js @huggingface/transformers
    python benchmarks/transformers_js.py runs/quickstart --packages js/node_modules

Source of the figures in docs/serving.md. The browser is a headless Chromium. Nothing is downloaded:
requests to the Hub and the CDN are answered from the model's folder and from node_modules. The
model is exported to ONNX first if that was not done. Each piece is classified as it is, resampled
by the browser's own filter, and as a WAV at the model's sampling rate.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, parser_of, print_head, print_row
from music_genre import GenreClassifier
from music_genre.audio import decode
from music_genre.publishing.onnx import EXAMPLES, ONNX_FILE, QUANTIZED_FILE, export

MODEL_ID = "you/model"


@contextmanager
def serving_docs() -> Iterator[str]:
    """Serve docs/ on loopback; yields the address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(ROOT / "docs"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def in_browser(folder: Path, packages: Path, files: list[Path]) -> list[dict[str, float]]:
    """Return the probabilities of each file, as docs/browser.html shows them."""
    from playwright.sync_api import Route, sync_playwright

    def answer(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.hostname == "huggingface.co":
            path = folder / url.path.removeprefix(f"/{MODEL_ID}/resolve/main/")
        else:  # https://cdn.jsdelivr.net/npm/PACKAGE@VERSION/PATH
            package, _, rest = url.path.removeprefix("/npm/").rpartition("@")
            file = rest.partition("/")[2] or "dist/transformers.min.js"  # package.json's "jsdelivr"
            path = packages / package / file
        found = {"path": path} if path.is_file() else {"status": 404}
        route.fulfill(**found, headers={"Access-Control-Allow-Origin": "*"})

    answers = []
    with serving_docs() as address, sync_playwright() as playwright:
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


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path, help="the folder of a model")
    parser.add_argument("--packages", type=Path, required=True, help="a node_modules folder")
    arguments = parser.parse_args()
    folder = arguments.model
    if not all((folder / name).is_file() for name in (ONNX_FILE, QUANTIZED_FILE)):
        export(folder)
    classifier = GenreClassifier(folder, device="cpu", precision="fp32")
    files = sorted(EXAMPLES.glob("*.ogg"))
    rate = classifier.sampling_rate
    with tempfile.TemporaryDirectory() as temporary:
        resampled = [Path(temporary, f"{file.stem}.wav") for file in files]
        for file, wav in zip(files, resampled, strict=True):
            soundfile.write(wav, decode(file, rate).waveform, rate, subtype="FLOAT")
        forms = [in_browser(folder, arguments.packages, paths) for paths in (files, resampled)]
    largest = [0.0, 0.0]
    print_head("10 s of", "PyTorch", "browser, int8", f"the same at {rate} Hz")
    for file, *found in zip(files, *forms, strict=True):
        prediction = classifier(file)
        label, expected = prediction.genre, prediction.probabilities
        shown = [f"{label} {one[label]:.4f}" for one in (expected, *found)]
        print_row(file.stem, *shown)
        for i, one in enumerate(found):
            largest[i] = max([largest[i], *(abs(one[name] - p) for name, p in expected.items())])
    print_row("largest difference", "", *(f"{difference:.4f}" for difference in largest))


if __name__ == "__main__":
    main()
