"""ONNX: the graph computes what PyTorch computes, at any length and batch, or is not written."""

import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load, numpy_helper, save
from transformers import (
    AutoModelForAudioClassification,
    HubertConfig,
    PreTrainedConfig,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from music_genre.efficientat import EfficientATConfig, EfficientATFeatureExtractor
from music_genre.errors import InputError
from music_genre.publishing import onnx

WAVEFORM = Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True)


def saved(folder, config: PreTrainedConfig, feature_extractor):
    torch.manual_seed(0)
    config.num_labels = 10
    AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_piece(tmp_path_factory):
    """The int8 form is compared on one piece instead of ten."""
    folder = tmp_path_factory.mktemp("pieces")
    shutil.copy(onnx.EXAMPLES / "pop.ogg", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "EXAMPLES", folder)
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """DistilHuBERT's architecture, narrower, with random weights, but sure of genre 5."""
    config = HubertConfig(
        num_hidden_layers=2,
        hidden_size=128,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=(32,) * 7,
        feat_proj_layer_norm=False,
        apply_spec_augment=False,
        window_seconds=1.0,
    )
    folder = saved(tmp_path_factory.mktemp("models") / "distilhubert", config, WAVEFORM)
    model = AutoModelForAudioClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias[5] = 3.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory):
    """The exporter takes seconds: once for all tests. Returns the folder and what it says."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(original, folder)
    return folder, onnx.export(folder)


def test_distilhuberts_architecture_at_lengths_it_was_not_exported_with(exported):
    folder, said = exported
    assert said["max_difference"] <= onnx.MAX_DIFFERENCE
    assert said["transformers_js"] and said["quantized"]["is_kept"]
    assert said["quantized"]["changed"] == 0
    sizes = {path.name: path.stat().st_size for path in (folder / "onnx").iterdir()}
    assert set(sizes) == {"model.onnx", "model_quantized.onnx"}
    assert sizes["model_quantized.onnx"] < 0.7 * sizes["model.onnx"]
    assert_same_logits(folder, ((1, 1600), (5, 7001), (2, 60_000)), torch.from_numpy)


def assert_same_logits(folder, shapes, features):
    """Every clip length and batch goes. features: what the model takes, of the graph's input."""
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("input_values", ["batch", "samples"])
    ]
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    for shape in shapes:
        waveforms = 0.1 * np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        with torch.inference_mode():
            expected = model(features(waveforms)).logits.numpy()
        (logits,) = session.run(["logits"], {"input_values": waveforms})
        assert logits == pytest.approx(expected, abs=1e-4)


def test_a_model_of_spectrograms(tmp_path):
    """Whisper takes one length, that of its window; the batch is free."""
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
        max_source_positions=50, window_seconds=1.0,
    )  # fmt: skip
    folder = saved(tmp_path / "whisper", config, WhisperFeatureExtractor(chunk_length=1))
    exported = onnx.export(folder)
    assert exported["max_difference"] <= onnx.MAX_DIFFERENCE
    assert not exported["transformers_js"]
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", 80, 100]


def test_efficientats_graph_takes_waveforms(tmp_path):
    """Its front end is inside, and in float32 in both forms; every clip length and batch goes."""
    config = EfficientATConfig(width_multiplier=0.1, window_seconds=1.0)
    feature_extractor = EfficientATFeatureExtractor()
    folder = saved(tmp_path / "efficientat", config, feature_extractor)
    exported = onnx.export(folder)
    assert exported["max_difference"] <= onnx.MAX_DIFFERENCE
    assert exported["quantized"]["is_kept"]
    assert exported["quantized"]["mean_difference"] < 0.01
    sizes = {path.name: path.stat().st_size for path in (folder / "onnx").iterdir()}
    assert sizes["model_quantized.onnx"] < sizes["model.onnx"] - 50_000
    assert not exported["transformers_js"]
    assert_same_logits(
        folder,
        ((1, 5000), (3, 70_001)),
        lambda waveforms: feature_extractor(waveforms, return_tensors="pt")["input_values"],
    )


@pytest.mark.parametrize(("error", "is_kept"), [(0.01, False), (2e-4, False), (5e-5, True)])
def test_a_graph_with_other_numbers_is_not_kept(
    original, exported, tmp_path, monkeypatch, error, is_kept
):
    """As if the exporter had made a mistake: one logit of the graph is off by `error`.

    The limit is 1e-4: ten times more or less fails here.
    """
    folder = tmp_path / "model"
    shutil.copytree(original, folder)

    def write_another(model, example, path):
        other = load(exported[0] / "onnx" / "model.onnx")
        (bias,) = [t for t in other.graph.initializer if list(t.dims) == [10]]
        values = numpy_helper.to_array(bias).copy()
        values[3] += error
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        save(other, path)

    monkeypatch.setattr(onnx, "write_graph", write_another)
    if is_kept:
        assert onnx.export(folder)["max_difference"] == pytest.approx(error, rel=0.1)
        assert (folder / "onnx" / "model.onnx").is_file()
    else:
        with pytest.raises(onnx.OnnxError, match=f"than PyTorch: .* up to {error:.1g}"):
            onnx.export(folder)
        assert not (folder / "onnx").exists()


def test_an_int8_form_with_other_answers_is_not_kept(original, exported, tmp_path, monkeypatch):
    """As if it had lost the bias that makes it sure; the fp32 form is there all the same."""
    folder, graph = tmp_path / "model", load(exported[0] / "onnx" / "model.onnx")
    shutil.copytree(original, folder)
    (folder / "onnx").mkdir()
    (folder / onnx.QUANTIZED_FILE).write_bytes(b"of other weights")

    def quantize_badly(source, target, has_front_end):
        graph = load(source)
        for tensor in graph.graph.initializer:
            if list(tensor.dims) == [10]:
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(10, np.float32), tensor.name))
        save(graph, target)

    monkeypatch.setattr(onnx, "write_graph", lambda model, example, path: save(graph, path))
    monkeypatch.setattr(onnx, "quantize", quantize_badly)
    result = onnx.export(folder)["quantized"]
    assert [path.name for path in (folder / "onnx").iterdir()] == ["model.onnx"]
    assert not result["is_kept"] and result["windows"] == 10
    assert 0.4 < result["mean_difference"] < result["max_difference"], "of the likeliest genre"
    assert 0.8 < result["changed"] <= 1 and onnx.MAX_MEAN_DIFFERENCE < 0.4


def test_a_model_that_cannot_be_exported_is_one_sentence(tiny_classifier, tmp_path, monkeypatch):
    """transformers has none among those that are supported, so a layer is put in its way."""
    model_class = type(AutoModelForAudioClassification.from_pretrained(tiny_classifier))
    forward = model_class.forward

    def forward_by_content(self, input_values, **kwargs):
        if input_values.sum().item() > 1e9:  # what a graph cannot know beforehand
            raise AssertionError
        return forward(self, input_values, **kwargs)

    folder = tmp_path / "model"
    AutoModelForAudioClassification.from_pretrained(tiny_classifier).save_pretrained(folder)
    WAVEFORM.save_pretrained(folder)
    monkeypatch.setattr(model_class, "forward", forward_by_content)
    with pytest.raises(onnx.OnnxError, match="of type hubert cannot be exported") as error:
        onnx.export(folder)
    assert len(str(error.value).splitlines()) == 1
    assert not (folder / "onnx").exists()


def test_missing_packages_are_named(tiny_classifier, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else 1)
    with pytest.raises(onnx.OnnxError, match="needs onnxscript: install"):
        onnx.export(tiny_classifier)


def test_no_model(tmp_path):
    with pytest.raises(InputError, match="is not a model"):
        onnx.export(tmp_path)
