"""docs/browser.html in a real browser, with a stand-in for transformers.js."""

import pytest

from benchmarks.transformers_js import serving_docs
from tests.browser import CHROMIUM, FLAGS, PATIENCE, expect, sync_api

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

WITHOUT_INT8 = """
export const AutoConfig = { from_pretrained: async () => ({ window_seconds: 1 }) };
export const read_audio = async () => new Float32Array(32000);
export async function pipeline(task, model, options) {
  if (options?.dtype !== "fp32") throw Error("Could not locate onnx/model_quantized.onnx");
  return async () => [{ label: "jazz", score: 1 }];
}"""


def test_a_model_without_an_int8_file_is_loaded_in_float32(tmp_path, song):
    script = {"body": WITHOUT_INT8, "content_type": "text/javascript"}
    with serving_docs() as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.route("https://cdn.jsdelivr.net/**", lambda route: route.fulfill(**script))
        page.goto(f"{address}browser.html?model=you/model")
        page.set_input_files("input", song)
        expect(page.get_by_role("status")).to_contain_text("song.wav: jazz", timeout=PATIENCE)
        browser.close()
