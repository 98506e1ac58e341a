import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AutoModelForAudioClassification,
    pipeline,
)

from data_prep.gtzan import GENRES
from music_genre import GenreClassifier
from music_genre.audio import AudioError
from music_genre.cpu_modules import MatmulFeatureEncoder
from music_genre.errors import InputError
from music_genre.wav import to_pcm16, wav_bytes
from tests.uneven import LABELS


@pytest.fixture(scope="module")
def classifier(tiny_classifier):
    return GenreClassifier(tiny_classifier)


def noise(seconds: float, sampling_rate: int = 16_000) -> np.ndarray:
    n_samples = int(seconds * sampling_rate)
    return (0.1 * np.random.default_rng(0).standard_normal(n_samples)).astype(np.float32)


def test_a_waveform_gets_a_genre_probabilities_and_a_timeline(classifier):
    prediction = classifier(noise(3.5), 16_000)
    assert set(prediction.probabilities) == set(GENRES)
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert prediction.genre == max(prediction.probabilities, key=prediction.probabilities.get)
    assert [round(w.start, 2) for w in prediction.timeline] == [0, 0.83, 1.67, 2.5]
    assert prediction.timeline[-1].end == 3.5
    (window,) = classifier(noise(0.6), 16_000).timeline
    assert (window.start, window.end) == (0.0, 0.6)
    for genre in GENRES:
        mean = np.mean([w.probabilities[genre] for w in prediction.timeline])
        assert prediction.probabilities[genre] == pytest.approx(mean, abs=1e-6)
    first_differs = np.eye(10)[[1, 0, 0, 0]]
    with mock.patch.object(classifier, "window_probabilities", return_value=first_differs):
        assert classifier(noise(3.5), 16_000).genre == classifier.labels[0]


def test_labels_are_the_models_in_its_order(uneven_net):
    """config.json has label2id in alphabetical order, which is not that of the logits."""
    model = AutoModelForAudioClassification.from_pretrained(uneven_net).eval()
    waveform = noise(1)
    with torch.no_grad():
        logits = model(torch.from_numpy((waveform - waveform.mean()) / waveform.std())[None]).logits
    expected = dict(zip(LABELS, logits.softmax(-1)[0].tolist(), strict=True))
    prediction = GenreClassifier(uneven_net, precision="fp32")(waveform, 16_000)
    assert prediction.probabilities == pytest.approx(expected, abs=1e-3)


def test_a_file_its_bytes_and_its_waveform_get_the_same_answer(classifier, tmp_path):
    waveform = to_pcm16(noise(2)).astype(np.float32) / 32768
    path = tmp_path / "song.wav"
    path.write_bytes(wav_bytes(to_pcm16(waveform), 16_000))
    from_waveform = classifier(waveform, 16_000)
    assert classifier(path) == from_waveform
    assert classifier(str(path)) == from_waveform
    assert classifier(path.read_bytes()) == from_waveform
    resampled = classifier(noise(40, 4000), 4000)
    assert len(resampled.timeline) == 40
    assert resampled.timeline[-1].end == pytest.approx(40, abs=0.001)


def test_a_file_silent_in_one_batch_only_is_music(classifier, monkeypatch):
    monkeypatch.setattr("music_genre.classifier.BATCH_SIZE", 2)
    early = np.concatenate([noise(1), np.zeros(5 * 16_000, np.float32)])
    for waveform in (early, early[::-1]):
        assert len(classifier(waveform, 16_000).timeline) == 6


def test_a_file_is_decoded_in_a_process_of_its_own_if_asked(tiny_classifier, tmp_path):
    """The file's decoder is that of this process otherwise."""
    path = tmp_path / "song.wav"
    path.write_bytes(wav_bytes(to_pcm16(noise(2)), 16_000))
    here = mock.patch("music_genre.audio.decode", side_effect=AudioError("here"))
    with here, pytest.raises(AudioError, match="here"):
        GenreClassifier(tiny_classifier)(path)
    isolated = GenreClassifier(tiny_classifier, isolate=True)
    assert isolated(path) == GenreClassifier(tiny_classifier)(path)
    with pytest.raises(AudioError, match="not audio"):
        isolated(b"no music")
    isolated._decoders = mock.Mock(**{"schedule.side_effect": KeyError})
    with pytest.raises(KeyError):
        isolated(path)
    assert isolated._decoders.schedule.call_args.kwargs["timeout"] == 120


def test_it_answers_as_a_plain_pipeline_does_on_the_same_window(tiny_classifier):
    waveform = noise(10)
    plain = pipeline("audio-classification", model=str(tiny_classifier), top_k=None)(waveform)
    classifier = GenreClassifier(tiny_classifier, window_seconds=10, device="cpu")
    assert isinstance(classifier.model.hubert.feature_extractor, MatmulFeatureEncoder)
    ours = classifier(waveform, 16_000)
    for answer in plain:
        assert ours.probabilities[answer["label"]] == pytest.approx(answer["score"], abs=1e-4)


def test_progress_is_told_after_each_pass(classifier, monkeypatch):
    monkeypatch.setattr("music_genre.classifier.BATCH_SIZE", 2)
    told = []
    n_windows = len(classifier(noise(5), 16_000, progress=lambda *now: told.append(now)).timeline)
    assert n_windows == 5 and told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("source", "sampling_rate", "error", "message"),
    [
        (noise(0.01), 16_000, AudioError, "shorter than 0.1 s"),
        (np.full(16_000, np.nan, np.float32), 16_000, AudioError, "NaN"),
        (np.zeros(16_000, np.float32), 16_000, AudioError, "it is silent"),
        (b"no music", None, AudioError, "not audio"),
        ("http://example.org/song.mp3", None, FileNotFoundError, "song.mp3"),
    ],
)
def test_unusable_input_says_why(classifier, source, sampling_rate, error, message):
    with pytest.raises(error, match=message):
        classifier(source, sampling_rate)


def test_an_error_names_the_file(classifier, tmp_path):
    file = tmp_path / "letter.mp3"
    file.write_text("Dear reader")
    with pytest.raises(AudioError) as error:
        classifier(file)
    assert str(file) in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "bf61"}, "bf61"),
        ({"window_seconds": 0.01}, "window"),
        ({"window_seconds": float("inf")}, "from 0.1 to 120 s, not inf"),
        ({"device": "qpu"}, "qpu"),
        ({"device": "cuda:99"}, "cuda:99 cannot be used here"),
    ],
)
def test_an_option_is_obeyed_or_refused(tiny_classifier, option, message):
    with pytest.raises(InputError, match=message):
        GenreClassifier(tiny_classifier, **option)


def test_a_device_that_fails_without_a_reason_is_one_sentence(tiny_classifier, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to", mock.Mock(side_effect=AssertionError))
    with pytest.raises(InputError, match="cpu cannot be used here: AssertionError"):
        GenreClassifier(tiny_classifier, device="cpu")


def test_a_model_in_pickles_is_not_loaded(tiny_classifier, tmp_path):
    folder = shutil.copytree(tiny_classifier, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        GenreClassifier(folder)


@pytest.mark.parametrize("n_bytes", [0, -10])
def test_weights_that_are_cut_are_one_sentence(tiny_classifier, tmp_path, n_bytes):
    folder = shutil.copytree(tiny_classifier, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"cut cannot be loaded .* cut or damaged; copy or down"):
        GenreClassifier(folder)


ATTENTION = "hubert.encoder.layers.0.attention.k_proj.weight"


def changed(model: Path, folder: Path, config: dict | None = None, **tensors) -> Path:
    """A copy with other values in config.json, and other tensors (None: without it)."""
    shutil.copytree(model, folder)
    values = json.loads((folder / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(values))
    weights = load_file(folder / "model.safetensors") | tensors
    save_file(
        {name: tensor for name, tensor in weights.items() if tensor is not None},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return folder


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({}, {"classifier.weight": None}, "it is not a classifier: classifier.weight is missing"),
        ({}, {ATTENTION: None}, f"its weights lack {ATTENTION}"),
        ({}, {"classifier.weight": torch.zeros(3, 3)}, "cannot be loaded as an audio classifier"),
        ({"id2label": {str(i + 1): g for i, g in enumerate(GENRES)}}, {}, "numbered from 0"),
        ({"id2label": dict.fromkeys(map(str, range(10)), "jazz")}, {}, "have the same name"),
        ({"id2label": ["jazz", "rock"]}, {}, "cannot be loaded as an audio classifier"),
        ({"window_seconds": "3"}, {}, "from 0.1 to 120 s, not 3"),
        ({"window_seconds": 0}, {}, "from 0.1 to 120 s, not 0"),
    ],
)
def test_a_model_that_would_answer_at_random_or_not_at_all_is_refused(
    tiny_classifier, tmp_path, config, tensors, message
):
    folder = changed(tiny_classifier, tmp_path / "other", config, **tensors)
    with pytest.raises(InputError, match=message) as error:
        GenreClassifier(folder)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", ['{"sampling_rate": null}', '{"sampling_rate": "16k"}', "[]"])
def test_a_feature_extractor_without_a_sampling_rate_is_refused(tiny_classifier, tmp_path, content):
    folder = changed(tiny_classifier, tmp_path / "other")
    path = folder / "preprocessor_config.json"
    values = json.loads(content)
    path.write_text(json.dumps(json.loads(path.read_text()) | values if values else values))
    with pytest.raises(InputError, match="other cannot be"):
        GenreClassifier(folder)


def test_an_ast_without_its_head_is_refused(tmp_path):
    config = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                       intermediate_size=32, max_length=200, num_labels=3)  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(tmp_path / "whole")
    ASTFeatureExtractor(max_length=200).save_pretrained(tmp_path / "whole")
    assert len(GenreClassifier(tmp_path / "whole").labels) == 3
    for name in ("classifier.dense.weight", "classifier.layernorm.weight"):
        folder = changed(tmp_path / "whole", tmp_path / name, **{name: None})
        with pytest.raises(InputError, match=f"not a classifier: {name} is missing"):
            GenreClassifier(folder)


def test_a_model_of_one_label_is_refused(tiny_classifier, tmp_path):
    one = {"id2label": {"0": "music"}, "label2id": {"music": 0}}
    weights = load_file(tiny_classifier / "model.safetensors")
    head = {f"classifier.{name}": weights[f"classifier.{name}"][:1] for name in ("weight", "bias")}
    with pytest.raises(InputError, match="it has one label"):
        GenreClassifier(changed(tiny_classifier, tmp_path / "one", one, **head))


def test_weights_in_half_precision_are_computed_with_in_single(tiny_classifier, tmp_path):
    whole = load_file(tiny_classifier / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in whole.items()}
    halves["hubert.masked_spec_embed"] = None  # of training alone
    folder = changed(tiny_classifier, tmp_path / "half", {"dtype": "float16"}, **halves)
    found = GenreClassifier(folder)(noise(2), 16_000).probabilities
    expected = GenreClassifier(tiny_classifier)(noise(2), 16_000).probabilities
    assert found == pytest.approx(expected, abs=0.01)


def test_a_precision_that_is_asked_for_is_computed_in(tiny_classifier):
    exact, rounded = (
        GenreClassifier(tiny_classifier, precision=name).window_probabilities([noise(1)])
        for name in ("fp32", "bf16")
    )
    assert 0 < np.abs(exact - rounded).max() < 0.02


def test_no_code_of_a_repository_is_offered_to_be_run(tiny_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    folder = changed(tiny_classifier, tmp_path / "hostile")
    (folder / "evil.py").write_text("raise SystemExit('it is run')")
    settings = {"auto_map": {"AutoFeatureExtractor": "evil.Evil"}, "sampling_rate": 16_000}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError):
        GenreClassifier(folder)
