import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    set_seed,
)

from music_genre import GenreClassifier
from music_genre.efficientat import (
    EfficientATConfig,
    EfficientATFeatureExtractor,
    EfficientATForAudioClassification,
)
from music_genre.efficientat.modeling_efficientat import round_channels
from music_genre.loading import find_model, load_classifier, load_feature_extractor
from music_genre.publishing.hub import HANDLER

LABELS = ["ska", "air", "blues"]


@pytest.fixture
def model() -> EfficientATForAudioClassification:
    """A small net whose batch norms are not those of a new one."""
    set_seed(0)
    config = EfficientATConfig(width_multiplier=0.1, id2label=dict(enumerate(LABELS)))
    net = EfficientATForAudioClassification(config)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.bias.data.normal_(0, 0.3)
    net.classifier.weight.data.normal_(0, 1)
    return net.eval()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    EfficientATFeatureExtractor().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise under a rising tone, at 32 kHz."""
    t = np.arange(int(32_000 * seconds)) / 32_000
    noise = np.random.default_rng(seed).normal(0, 0.05, len(t))
    return (noise + 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t)).astype(np.float32)


# --- the front end --------------------------------------------------------------------------


def test_spectrograms_are_those_of_the_paper():
    """By another way: a loop over frames, each through NumPy's Fourier transform in float64.

    The mel filters are Kaldi's.
    """
    waveform = music(0.2)
    y = waveform[1:].astype(np.float64) - 0.97 * waveform[:-1]
    y = np.pad(y, 512, mode="reflect")
    window = np.zeros(1024)
    window[112:912] = np.hanning(800)
    frames = [y[start : start + 1024] * window for start in range(0, len(y) - 1023, 320)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    kaldi = pytest.importorskip("torchaudio").compliance.kaldi  # what serves a model needs none
    banks, _ = kaldi.get_mel_banks(128, 1024, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    expected = (np.log(power[:, :512] @ banks.double().numpy().T + 1e-5) + 4.5) / 5
    found = EfficientATFeatureExtractor()(waveform, sampling_rate=32_000, return_tensors="np")
    assert found["input_values"].dtype == np.float32
    np.testing.assert_allclose(found["input_values"][0], expected, atol=2e-4)


def test_settings_survive_saving(tmp_path):
    EfficientATFeatureExtractor(feature_size=64, hop_length=500).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert not {"mel_filters", "window"} & saved.keys()
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert again(music(1), return_tensors="pt")["input_values"].shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((music(1), 16_000), "32000 Hz, not 16000"),
        ((music(1)[None, None], 32_000), "shape"),
        ((music(1)[:513], 32_000), "at least 514, not"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EfficientATFeatureExtractor()(*arguments)


# --- the net --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "num_tensors", "num_values"), [(0.4, 312, 993_485), (1.0, 312, 4_901_277)]
)
def test_nets_have_the_published_sizes(width, num_tensors, num_values):
    with torch.device("meta"):
        net = EfficientATForAudioClassification(
            EfficientATConfig(width_multiplier=width, num_labels=527)
        )
    tensors = net.state_dict().values()
    assert (len(tensors), sum(t.numel() for t in tensors)) == (num_tensors, num_values)


def test_channels_are_multiples_of_8_and_never_much_fewer():
    assert [round_channels(c) for c in (1.6, 12, 11.9, 72, 68, 18.4)] == [8, 16, 16, 72, 72, 24]


def test_shorter_clips_are_padded_with_silence():
    feature_extractor = EfficientATFeatureExtractor()
    silence = feature_extractor(np.zeros(32_000, np.float32))["input_values"][0]
    features = feature_extractor([music(1.03), music(0.3)], 32_000, return_tensors="pt")
    assert features.keys() == {"input_values"}
    np.testing.assert_allclose(features["input_values"][1, 30:].numpy(), silence[:73], atol=1e-3)


def test_loss_and_gradients(model):
    features = EfficientATFeatureExtractor()([music(0.5), music(0.5, 1)], return_tensors="pt")
    output = model.train()(**features, labels=torch.tensor([2, 0]))
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([2, 0]))
    torch.testing.assert_close(output.loss, expected)
    assert not model(**features).logits.equal(output.logits), "dropout"
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_frozen_parts_stay_as_they_were_in_training(model):
    """The first blocks, and of batch norms the running statistics, too."""
    model.train().freeze_feature_encoder()
    assert not model.efficientat.features[0][1].training, "from now on"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = EfficientATFeatureExtractor()([music(0.5), music(0.5, 1)], return_tensors="pt")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model.eval()
    model.train()(**features, labels=torch.tensor([2, 0])).loss.backward()
    optimizer.step()
    changed = {n for n, tensor in model.state_dict().items() if not tensor.equal(before[n])}
    parts = {name.split(".")[2] for name in changed if "features" in name}
    assert parts == {"13", "14", "15", "16"}
    norms = {n for n, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert not norms & {name.rpartition(".")[0] for name in changed}
    assert {"projector.weight", "efficientat.features.16.0.weight"} <= changed


# --- in transformers ------------------------------------------------------------------------


def test_auto_classes_know_it(folder, model):
    assert AutoConfig.from_pretrained(folder).width_multiplier == 0.1
    features = AutoFeatureExtractor.from_pretrained(folder)(music(1), return_tensors="pt")
    again = AutoModelForAudioClassification.from_pretrained(folder)
    torch.testing.assert_close(again(**features).logits, model(**features).logits)
    base = AutoModel.from_pretrained(folder)(**features)
    assert base.last_hidden_state.shape[2:] == (4, 4)
    torch.testing.assert_close(base.pooler_output, base.last_hidden_state.mean((2, 3)))
    torch.testing.assert_close(base.pooler_output, model.efficientat(**features).pooler_output)


def test_the_project_runs_its_own_code_and_not_the_repositorys(folder, model):
    (folder / "modeling_efficientat.py").write_text("raise SystemExit('foreign code was run')")
    found = find_model(str(folder))
    assert type(load_classifier(found)) is type(model)
    assert type(load_feature_extractor(found)) is EfficientATFeatureExtractor


def test_the_classifier_takes_its_sampling_rate(folder, song):
    classifier = GenreClassifier(folder, window_seconds=2)
    assert classifier.sampling_rate == 32_000
    prediction = classifier(song)
    assert set(prediction.probabilities) == set(LABELS)
    assert prediction.timeline[-1].end == pytest.approx(12, abs=0.01)


def test_it_loads_where_this_project_is_not(folder, model, tmp_path):
    """In a plain pipeline and on an Endpoint."""
    shutil.copyfile(HANDLER, folder / "handler.py")
    clips = [music(1.0), music(1.0, 1)]
    np.savez(tmp_path / "clips.npz", *clips)
    code = (
        "import json, sys, numpy, importlib.util\n"
        "assert importlib.util.find_spec('music_genre') is None\n"
        "clips = list(numpy.load('clips.npz').values())\n"
        "sys.path.append('model')\n"
        "import handler\n"  # first: transformers knows the model after it was loaded once
        "handler.decode = lambda content, rate: clips[0]\n"
        "answers = [handler.EndpointHandler('model')({'inputs': b'a file'})]\n"
        "from transformers import pipeline\n"
        "classify = pipeline('audio-classification', 'model', trust_remote_code=True, top_k=None)\n"
        "answers += classify(clips, batch_size=2)\n"
        "print(json.dumps(answers))\n"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    feature_extractor = EfficientATFeatureExtractor()
    endpoint_answer, *answers = json.loads(run.stdout.splitlines()[-1])
    assert {row["label"] for row in endpoint_answer} == set(LABELS)
    for clip, answer in zip(clips, answers, strict=True):
        logits = model(**feature_extractor(clip, return_tensors="pt")).logits[0]
        expected = dict(zip(LABELS, logits.softmax(-1).tolist(), strict=True))
        assert {row["label"]: row["score"] for row in answer} == pytest.approx(expected, abs=1e-5)
