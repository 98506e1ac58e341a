import base64
import itertools

import numpy as np
import pytest

from music_genre.audio import AudioError
from music_genre.classifier import Prediction, WindowPrediction
from music_genre.demo.live import LiveSession, read_chunk


class Scripted:
    """Stands in for GenreClassifier: gives out rows of probabilities for two labels in turn."""

    labels = ("jazz", "rock")
    window_seconds = 5.0

    def __init__(self, *jazz):
        self.jazz = itertools.chain(jazz, itertools.repeat(jazz[-1]))
        self.seconds = []

    def __call__(self, waveform, sampling_rate):
        self.seconds.append(len(waveform) / sampling_rate)
        p = next(self.jazz)
        shares = {"jazz": p, "rock": 1 - p}
        cell = WindowPrediction(0.0, self.seconds[-1], shares)
        return Prediction(max(shares, key=shares.get), shares, [cell])


def second(loudness=0.1, sampling_rate=8000):
    noise = np.random.default_rng(0).standard_normal(sampling_rate)
    return (loudness * noise).astype(np.float32)


def run(classifier, chunks, session=None):
    """Feed chunks; returns the shown word after each."""
    session, words = session or LiveSession(), []
    for chunk in chunks:
        session.add_chunk(chunk, 8000, classifier.window_seconds)
        session.classify(classifier)
        head, _ = session.as_html(classifier.labels)
        words.append(head.split('">')[2].split("<")[0])
    return words


def test_the_first_second_already_has_an_answer():
    assert run(Scripted(0.9), [second()]) == ["jazz"]


def test_the_newest_window_is_what_is_classified():
    session = LiveSession()
    for loudness in (0.1, 0.2, 0.3):
        session.add_chunk(np.full(8000, loudness, np.float32), 8000, 2.0)
    assert session.waveform.tolist() == pytest.approx([0.2] * 8000 + [0.3] * 8000)


def test_a_moments_doubt_does_not_change_the_word():
    assert run(Scripted(0.9, 0.9, 0.9, 0.2, 0.9), [second()] * 5) == ["jazz"] * 5


def test_a_change_goes_through_unsure():
    words = run(Scripted(0.9, 0.9, 0.9, 0.1), [second()] * 8)
    assert [word for word, _ in itertools.groupby(words)] == ["jazz", "unsure", "rock"]


def test_a_named_genre_stays_with_a_smaller_lead_than_it_needs_to_be_named():
    assert run(Scripted(0.45), [second()] * 2, session := LiveSession()) == ["unsure"] * 2
    assert "rock 55%, jazz 45%" in session.as_html(Scripted.labels)[0]
    assert run(Scripted(0.9, *[0.55] * 20), [second()] * 21)[-1] == "jazz"


def test_silence_is_no_music_and_keeps_the_last_answer():
    classifier = Scripted(0.9)
    session = LiveSession()
    assert "first answer comes after a second" in session.as_html(classifier.labels)[0]
    (click := second(0))[0] = 0.05
    assert run(classifier, [second(0), click], session) == ["listening…"] * 2
    assert "waiting for sound that is loud enough" in session.as_html(classifier.labels)[0]
    assert not classifier.seconds
    assert run(classifier, [second(), second(0)], session) == ["jazz"] * 2
    assert "quiet now" in session.as_html(classifier.labels)[0]
    run(classifier, [second()], session)
    assert classifier.seconds == [1.0, 1.0]  # what was before the silence is not classified again
    run(classifier, [second(0)] * 5, session)
    assert "processed 0:10" in session.as_html(classifier.labels)[0]
    assert 'x="23.00" y="0.06" width="2.00"' in session.as_html(classifier.labels)[1], "ago"
    run(classifier, [second()], session)
    assert session.history[-1][:2] == (9.0, 11.0)  # nor drawn as if it had lasted until now


def test_no_more_than_a_window_is_kept_and_classified():
    classifier, session = Scripted(0.9), LiveSession()
    run(classifier, [second()] * 200, session)
    assert classifier.seconds[:6] == [1, 2, 3, 4, 5, 5] and max(classifier.seconds) == 5
    assert len(session.history) == session.history.maxlen
    assert "−30 s" in session.as_html(classifier.labels)[1]


def test_what_is_no_sound_to_the_model_keeps_the_last_answer():
    def refuse(waveform, sampling_rate):
        raise AudioError("it is silent")

    run(Scripted(0.9), [second()], session := LiveSession())
    session.add_chunk(second(), 8000, 5.0)
    session.classify(refuse)
    assert ">jazz<" in session.as_html(Scripted.labels)[0] and len(session.history) == 1


def test_after_a_pause_smoothing_starts_anew():
    """The song before the pause has no say in what the next one is."""
    classifier = Scripted(0.9, 0.9, 0.9, 0.9, 0.1)
    words = run(classifier, [*[second()] * 4, second(0), second()])
    assert words == [*["jazz"] * 5, "rock"]


def test_a_chunk_is_read_as_the_page_writes_it():
    pcm = np.array([0, 16384, -32768], "<i2")
    chunk = {"sampling_rate": 48_000, "pcm": base64.b64encode(pcm).decode(), "is_first": True}
    waveform, sampling_rate = read_chunk(chunk)
    assert waveform.tolist() == [0, 0.5, -1] and waveform.dtype == np.float32
    assert sampling_rate == 48_000


@pytest.mark.parametrize(
    "sound",
    [None, 7, "x", [], {}, {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}},
     {"sampling_rate": 48_000}, {"sampling_rate": 48_000, "pcm": ""},
     {"sampling_rate": 48_000, "pcm": "AAA"}, {"sampling_rate": 48_000, "pcm": "AA=="},
     {"sampling_rate": 48_000, "pcm": "é" * 4}, {"sampling_rate": 48_000, "pcm": None},
     {"sampling_rate": 1, "pcm": "AAAA"}, {"sampling_rate": float("inf"), "pcm": "AAAA"},
     {"sampling_rate": 384_000, "pcm": "AAAA"},
     {"sampling_rate": "x", "pcm": "AAAA"}, {"sampling_rate": 8_000, "pcm": "A" * 10**6}],
)  # fmt: skip
def test_anything_else_is_no_chunk(sound):
    """It comes from a visitor."""
    assert read_chunk(sound) is None


def test_another_sampling_rate_starts_anew():
    classifier, session = Scripted(0.9), LiveSession()
    run(classifier, [second()], session)
    session.add_chunk(second(sampling_rate=16_000), 16_000, 5.0)
    assert len(session.waveform) == 16_000
