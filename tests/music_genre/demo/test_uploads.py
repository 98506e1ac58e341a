"""A visitor's files: every one ends in an answer or in one sentence."""

import csv
import io
import shutil
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from data_prep.gtzan import GENRES
from music_genre import GenreClassifier
from music_genre.classifier import Prediction, WindowPrediction
from music_genre.demo import pictures
from music_genre.demo.uploads import (
    MAX_FILES,
    TABLE,
    ClassifiedFile,
    as_csv,
    as_table,
    classify_upload,
    classify_uploads,
    count,
    for_page,
    shown_name,
)
from music_genre.errors import InputError
from music_genre.wav import wav_bytes


@pytest.fixture(scope="module")
def classifier(jazz_model):
    return GenreClassifier(jazz_model, device="cpu")


@pytest.fixture(autouse=True)
def uploads(tmp_path, monkeypatch):
    """Files of these tests count as sent."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


@pytest.mark.parametrize(
    "name", ["app.py", "none.py", "/etc/hostname", "{}2.wav", "a\0b", "\udc80", "x" * 9999]
)
def test_a_file_that_was_not_sent_is_refused(classifier, tmp_path, name):
    Path(f"{tmp_path}2.wav").touch()
    with pytest.raises(InputError, match="is not among the files that were sent"):
        classify_upload(classifier, name.format(tmp_path))


def test_a_file_gives_genre_probabilities_and_timeline(classifier, song):
    classified = classify_upload(classifier, song)
    answer = classified.as_json()
    assert answer["genre"] == "jazz"
    assert list(answer["probabilities"]) == list(GENRES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert [cell["start"] for cell in answer["timeline"]] == [0.0, 3.5, 7.0]
    assert answer["seconds"] == pytest.approx(12) and not answer["is_truncated"]
    head, body = classified.as_html()
    assert ">jazz<" in head and "processed 0:12" in head
    assert body.count("<li") == 10 and "12 s" in body and "data:image/png" in body
    assert "0:00 to 0:12 jazz" in body  # what a screen reader says of the picture


def test_longer_files_are_truncated_and_the_page_says_so(classifier, song, monkeypatch):
    monkeypatch.setattr("music_genre.demo.uploads.MAX_SONG_SECONDS", 6.0)
    classified = classify_upload(classifier, song)
    assert classified.is_truncated and classified.seconds == pytest.approx(6)
    assert "the rest was left out" in classified.as_html()[0]
    table = as_table([{"file": "a.wav"} | classified.as_json()], classifier.labels)
    assert table.loc[0, "remark"] == "only the beginning was processed"
    monkeypatch.setattr("music_genre.demo.uploads.MAX_SONG_SECONDS", 12.0)
    assert not classify_upload(classifier, song).is_truncated, "it has just as much"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.mp3", b"I am a text.\n" * 50, "not audio"),
        ("empty.wav", b"", "empty"),
        ("short.wav", wav_bytes(np.full(100, 9999, "<i2"), 16_000), "shorter"),
        ("silence.wav", wav_bytes(np.zeros(32_000, "<i2"), 16_000), "is silent"),
        ("list.m3u", b"#EXTM3U\nhttp://127.0.0.1/x.mp3\n", "not audio"),
        ("picture.mp3", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not audio"),
    ],
)
def test_unusable_files_give_one_sentence_without_the_folder(
    classifier, tmp_path, name, content, reason
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        classify_upload(classifier, path)
    assert reason in str(caught.value) and f"“{name}”" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_has_a_limit_of_time_and_one_that_is_gone_is_a_sentence(
    classifier, song, monkeypatch
):
    decoders = mock.Mock(**{"schedule.side_effect": FileNotFoundError})
    monkeypatch.setattr("music_genre.demo.uploads.DECODERS", decoders)
    with pytest.raises(InputError, match=r"“song\.wav” cannot be used: it cannot be read\."):
        classify_upload(classifier, song)
    assert decoders.schedule.call_args.kwargs == {"args": mock.ANY, "timeout": 30}


def test_a_batch_answers_for_each_file(classifier, song, tmp_path):
    bad = tmp_path / "=cmd.mp3"
    bad.write_text("no audio")
    answers = list(classify_uploads(classifier, [str(song), str(bad)]))
    assert answers[0]["genre"] == "jazz" and "cannot be used" in answers[1]["error"]
    table = as_table(answers, classifier.labels)
    assert list(table.columns) == [*TABLE, *GENRES]
    assert table.loc[0, "seconds"] == 12.0 and table.loc[0, "remark"] == ""
    assert "cannot be used" in table.loc[1, "remark"]
    assert list(for_page(table)["file"]) == ["=cmd.mp3", "song.wav"], "what failed comes first"
    assert count(table, 3) == "2 of 3 files done, **1 not usable** (shown first)."
    assert count(table[:1], 3) == "1 of 3 files done."


def test_files_of_a_long_batch_do_not_grow_old(classifier, song, tmp_path):
    """Their age, by which the server deletes them, starts anew with each file of the batch."""
    last = shutil.copy(song, tmp_path / "last.wav")
    paths = [str(song), "/etc/hostname", str(last)]
    age, answers = last.stat().st_ctime_ns, classify_uploads(classifier, paths)
    for _ in range(2):
        time.sleep(0.05)  # a clock of files may be coarse
        next(answers)
        assert last.stat().st_ctime_ns > age
        age = last.stat().st_ctime_ns
    assert "genre" in next(answers)


def answered(lost_seconds=0.0, jazz=0.9):
    shares = {"jazz": jazz, "rock": 1 - jazz}
    prediction = Prediction("jazz", shares, [WindowPrediction(0.0, 5.0, shares)])
    return ClassifiedFile(prediction, np.ones(16_000 * 5, np.float32), 16_000, False, lost_seconds)


def test_what_could_not_be_decoded_is_said():
    loss = "2.1 s of 0:07 could not be decoded"
    assert loss in answered(2.1).as_html()[0] and "decoded" not in answered().as_html()[0]
    assert answered(2.1).as_json()["lost_seconds"] == 2.1
    table = as_table([{"file": "a.mp3"} | answered(2.1).as_json()], ["jazz", "rock"])
    assert table.loc[0, "remark"] == loss
    cut = answered(2.1).as_json() | {"is_truncated": True}
    table = as_table([{"file": "a.mp3"} | cut], ["jazz", "rock"])
    assert table.loc[0, "remark"] == f"only the beginning was processed; {loss}"


def test_a_close_call_names_the_other_genre():
    assert "56% sure, a close call with rock (44%)" in answered(jazz=0.5566).as_html()[0]
    assert "close call" not in answered(jazz=0.58).as_html()[0]
    table = as_table([{"file": "a.mp3"} | answered(jazz=0.5566).as_json()], ["rock", "jazz"])
    assert list(table.iloc[0]) == ["a.mp3", "jazz", 56, "rock", 5.0, "", 0.4434, 0.5566]


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "＝1", "a,b\nc", "a"]
)
def test_no_name_is_a_formula_for_a_spreadsheet(name):
    table = as_table([{"file": name, "error": "cannot be used"}], ["jazz", "rock"])
    assert as_csv(table)[:3] == b"\xef\xbb\xbf", "or Excel takes it for another encoding"
    text = as_csv(table).decode("utf-8-sig")
    ((cell, *rest),) = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert cell[0] in "a' " and cell.endswith(name[-2:].replace("\n", " "))
    assert rest == ["", "", "", "", "cannot be used", "", ""]


def test_what_could_not_be_decoded_is_in_the_answer(classifier, tmp_path):
    noise = np.random.default_rng(0).integers(-9_000, 9_000, 32_000, dtype="<i2")
    whole = wav_bytes(noise, 16_000)
    (tmp_path / "cut.wav").write_bytes(whole[: 44 + 2 * 24_000])
    answer = classify_upload(classifier, tmp_path / "cut.wav")
    assert answer.as_json()["lost_seconds"] == pytest.approx(0.5, abs=0.01)
    assert "0.5 s of 0:02 could not be decoded" in answer.as_html()[0]


def test_names_in_messages_stay_on_one_short_line():
    assert shown_name("/tmp/a\nb\u202egnp.wav") == "a b gnp.wav"
    assert len(shown_name("x" * 300 + ".wav")) < 61
    assert shown_name("x" * 300 + ".wav").endswith(".wav")


@pytest.mark.parametrize("n_files", [0, MAX_FILES + 1])
def test_a_batch_has_limits(classifier, n_files):
    with pytest.raises(InputError, match="between 1 and"):
        list(classify_uploads(classifier, ["x.wav"] * n_files))


def test_what_a_model_or_a_visitor_names_is_escaped(classifier, tmp_path):
    path = tmp_path / "<img src=x>.mp3"
    path.write_text("no audio")
    with pytest.raises(InputError) as caught:
        classify_upload(classifier, path)
    assert "<img" not in pictures.headline(str(caught.value), "", "error")
    assert "<b>x" not in pictures.empty_picture(["<b>x"])
