import numpy as np
import pytest
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from music_genre import windows
from music_genre.loading import find_model, load_classifier, load_feature_extractor


@pytest.mark.parametrize(
    ("seconds", "n_windows"),
    [(0.3, 1), (1, 1), (5, 1), (5.4, 1), (5.6, 2), (29.9, 6), (30, 6), (30.4, 6), (30.6, 7)],
)
def test_a_clip_takes_the_fewest_windows_that_cover_it(seconds, n_windows):
    n_samples, window = round(seconds * 16_000), 5 * 16_000
    starts = windows.window_starts(n_samples, window)
    assert len(starts) == n_windows
    assert starts[0] == 0
    if n_windows > 1:
        assert starts[-1] + window == n_samples
        gaps = np.diff(starts) - window
        assert gaps.max() * (n_windows - 1) <= windows.MAX_GAP * window


def test_windows_are_views_of_one_length():
    waveform = np.arange(100)
    cuts = windows.cut(waveform, 30)
    assert [len(c) for c in cuts] == [30] * 4
    assert all(np.shares_memory(c, waveform) for c in cuts)


def test_a_short_waveform_is_looped():
    (window,) = windows.cut(np.arange(3), 7)
    assert window.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_no_pass_has_more_windows_than_fit_into_memory():
    """A batch of eight songs of ten minutes has 1,600 windows."""

    class Model:
        main_input_name = "input_values"

        def __call__(self, input_values: torch.Tensor) -> SequenceClassifierOutput:
            sizes.append(len(input_values))
            return SequenceClassifierOutput(logits=input_values[:, :2])

    sizes, clips = [], [torch.rand(n, 5) for n in (100, 3, 60)]
    found = windows.clip_probabilities(Model(), clips)
    assert sizes == [64, 64, 35]
    for clip, probabilities in zip(clips, found, strict=True):
        torch.testing.assert_close(probabilities, clip[:, :2].softmax(-1))


def test_clips_of_several_lengths_get_the_answers_they_get_alone(tiny_classifier):
    found = find_model(str(tiny_classifier))
    model, feature_extractor = load_classifier(found), load_feature_extractor(found)
    rng = np.random.default_rng(0)
    clips = [
        windows.extract_features(
            feature_extractor, windows.cut(rng.standard_normal(n).astype(np.float32), 16_000)
        )
        for n in (50_000, 8_000, 16_000, 8_000, 33_000)
    ]
    with torch.no_grad():
        together = windows.clip_probabilities(model, clips)
        for clip, probabilities in zip(clips, together, strict=True):
            alone = windows.clip_probabilities(model, [clip])[0]
            torch.testing.assert_close(probabilities, alone, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(probabilities.sum(-1), torch.ones(len(clip)))
