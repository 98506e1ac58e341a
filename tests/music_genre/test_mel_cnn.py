import numpy as np
import pytest
import torch
from transformers import AutoModelForAudioClassification, set_seed

from data_prep.gtzan import GENRES
from music_genre import GenreClassifier
from music_genre.loading import find_model, load_classifier
from music_genre.training.model import load_for_training


@pytest.fixture
def new_model(root):
    set_seed(0)
    location = find_model(str(root / "configs" / "mel-cnn"))
    return load_for_training(location, list(GENRES), window_seconds=1.0, from_scratch=True)


def test_a_saved_one_answers_as_before(new_model, tmp_path, tone):
    model, feature_extractor = new_model
    waveforms = torch.from_numpy(tone[None, :16_000])
    model.train()(waveforms.repeat(4, 1))  # moves the statistics that batch norm keeps
    before = model.eval()(waveforms).logits
    model.save_pretrained(tmp_path)
    feature_extractor.save_pretrained(tmp_path)
    after = load_classifier(find_model(str(tmp_path)))
    torch.testing.assert_close(after(waveforms).logits, before, rtol=0, atol=0)
    torch.testing.assert_close(after.log_mel(waveforms), model.log_mel(waveforms), rtol=0, atol=0)
    assert set(GenreClassifier(tmp_path)(tone, 16_000).probabilities) == set(GENRES)


def test_a_new_head_leaves_the_net_as_it_was_trained(new_model, tmp_path):
    model, feature_extractor = new_model
    model.save_pretrained(tmp_path)
    feature_extractor.save_pretrained(tmp_path)
    other, _ = load_for_training(find_model(str(tmp_path)), ["a", "b"], 1.0, from_scratch=False)
    assert other.net.classifier.out_features == 2
    torch.testing.assert_close(other.net.blocks[1].weight, model.net.blocks[1].weight)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 3.0])
def test_any_length_that_the_classifier_takes(new_model, seconds):
    waveform = torch.randn(1, int(seconds * 16_000))
    assert new_model[0].eval()(waveform).logits.shape == (1, len(GENRES))


def test_spectrogram_is_where_the_tone_is(new_model, tone):
    mel = new_model[0].log_mel(torch.from_numpy(tone[None]))[0, 0]
    assert mel.shape == (96, 1 + len(tone) // 256)
    # 440 Hz on the mel scale (HTK) between 0 and 8 kHz
    expected = 96 * np.log10(1 + 440 / 700) / np.log10(1 + 8000 / 700)
    assert abs(int(mel.mean(dim=1).argmax()) - expected) <= 1.5


def test_loud_sound_stays_finite_in_half_precision(new_model):
    """A tone with unit variance has a power of 10^5 there: beyond fp16."""
    waveform = torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)[None] * 2**0.5
    assert new_model[0].mel(waveform).max() > 65_504
    with torch.autocast("cpu", torch.float16):
        assert torch.isfinite(new_model[0].eval()(waveform).logits).all()


def test_it_learns_to_tell_high_from_low(root):
    set_seed(0)
    location = find_model(str(root / "configs" / "mel-cnn"))
    model, _ = load_for_training(location, ["low", "high"], 0.25, from_scratch=True)
    times, rng = np.arange(4_000) / 16_000, np.random.default_rng(0)

    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = np.arange(n) % 2
        hertz = np.where(labels, 2000, 300) * rng.uniform(0.8, 1.2, n)
        noise = rng.normal(0, 0.5, (n, len(times)))
        sound = np.sin(2 * np.pi * hertz[:, None] * times) + noise
        return torch.tensor(sound, dtype=torch.float32), torch.from_numpy(labels)

    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model.train()
    for _ in range(40):  # batch norm needs as many for its running mean
        waveforms, labels = batch(8)
        model(waveforms, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    waveforms, labels = batch(40)
    with torch.no_grad():
        assert (model.eval()(waveforms).logits.argmax(-1) == labels).float().mean() > 0.9


def test_auto_class_takes_its_configuration(new_model):
    copy = AutoModelForAudioClassification.from_config(new_model[0].config)
    assert type(copy) is type(new_model[0])
    assert copy.num_parameters() < 1_000_000
