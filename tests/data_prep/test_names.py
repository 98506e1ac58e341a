"""One spelling for the same name, and names that fit a line, a path and a card."""

import pytest

from data_prep.names import MAX_LENGTH, path_id
from data_prep.prepared import (
    PREPARATION_FILE,
    default_output_dir,
    is_prepared,
    plain_name,
)
from music_genre.genre_names import artist_key, same_name_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hip-Hop", "hip hop"),
        ("Earth, Wind & Fire", "Earth Wind and Fire"),
        ("Caf\u00e9", "CAFE\u0301"),
        ("ＪＡＺＺ", "jazz"),
        ("ガ", "カ\u3099"),
    ],
)
def test_spellings_of_one_name(one, other):
    assert same_name_key(one) == same_name_key(other) != ""


def test_other_scripts_and_punctuation_alone_keep_their_difference():
    names = ["演歌", "民謡", "हिन्दी", "हन्द", "!!!", "???", "C", "C2"]
    assert len({same_name_key(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["Jay-Z feat. U2", "Jay Z (ft. U2)", "JAY-Z [Featuring U2]"])
def test_guests_are_left_out_of_an_artist(name):
    assert artist_key(name) == "jayz"


def test_an_id_is_short_stable_and_on_one_line():
    assert path_id("./a\\b\n.wav") == "a/b\\n.wav"
    long = "x" * 300 + ".wav"
    assert len(path_id(long)) == MAX_LENGTH and path_id(long).endswith("x.wav")
    assert path_id(long) != path_id("y" + long[1:])


def test_the_name_of_a_source(tmp_path):
    (tmp_path / "Vol. 1.2").mkdir()
    names = ["GTZAN.ZIP", "My music.tar.gz", "a.tgz", "t.csv", "l.json", "Vol. 1.2"]
    plain = [plain_name(tmp_path / name) for name in names]
    assert plain == ["GTZAN", "My music", "a", "t", "l", "Vol. 1.2"]
    assert default_output_dir(["You/Gtzan"], "artist").name == "you-gtzan-artist"


@pytest.mark.parametrize("text", ["{}", '{"seed": 1}', '["split"]', '"split"', "{"])
def test_a_preparation_of_another_program_is_none(tmp_path, text):
    (tmp_path / PREPARATION_FILE).write_text(text)
    assert not is_prepared(tmp_path)
