"""A folder per genre, in its layouts, as a folder, zip and tar."""

import pytest
from datasets import load_from_disk

from data_prep.prepare import prepare
from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, manifest, samples_of
from tests.data_prep.music import by_genre, clip, prepared, write
from tests.data_prep.test_archive import make


def rows_of(folder) -> dict[str, dict]:
    return {
        row["track_id"]: row
        for split in load_from_disk(folder).values()
        for row in split.remove_columns("audio")
    }


def test_the_first_folder_is_the_genre_and_artists_lie_below(tmp_path, capsys):
    files = by_genre(4, pattern="Artist {i}/Album/song.wav")
    done = prepared(write(tmp_path / "My Music", files), tmp_path / "out")
    assert "a folder per genre: 2 genres, 8 files." in capsys.readouterr().out
    assert (done["genres"], done["split"]) == (["Ambient", "Techno"], "artist")
    assert done["dataset_name"] == "My Music"
    assert done["leakage"]["artist_in_train"] == 0
    assert done["warnings"] == []
    row = rows_of(tmp_path / "out")["Techno/Artist 1/Album/song.wav"]
    assert (row["artist"], row["start"]) == ("Artist 1", 0.0)
    features = load_from_disk(tmp_path / "out")["train"].features
    assert features["genre"].names == ["Ambient", "Techno"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "GTZAN" not in card and "gtzan" not in card
    assert "in 2 genres" in card


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz", "wrapped zip"])
def test_every_form_gives_the_same_clips(tmp_path, form):
    files = by_genre(3)
    expected = sorted(clip_hash(tmp_path / "expected", files).values())
    if form == "wrapped zip":
        source = make_zip(tmp_path / "a.zip", {f"My music/{n}": d for n, d in files.items()})
    else:
        source = make(tmp_path / "a", form, files)
    prepared(source, tmp_path / "out")
    assert sorted(samples_of(tmp_path / "out").values()) == expected
    genres = {row["genre"] for row in manifest(tmp_path / "out").values()}
    assert genres == {"Ambient", "Techno"}


def clip_hash(folder, files) -> dict[str, str]:
    prepared(write(folder / "source", files), folder / "out")
    return samples_of(folder / "out")


def test_folders_of_splits_above_the_genres_are_kept(tmp_path):
    files = {}
    for seed, split in enumerate(("train", "valid", "Test")):
        for g, genre in enumerate(("Ambient", "Techno")):
            files |= {f"{split}/{genre}/{i}.wav": clip(seed * 10 + g * 5 + i) for i in range(2)}
    done = prepared(write(tmp_path / "sets", files), tmp_path / "out")
    assert done["split"] == "given"
    assert done["counts"] == {
        name: {"Ambient": 2, "Techno": 2} for name in ("train", "validation", "test")
    }


def test_album_folders_are_on_one_side_where_artists_are_not_known(tmp_path):
    files = {
        f"{genre}/Album {a}/{i}.wav": clip(100 * g + 10 * a + i)
        for g, genre in enumerate(("Ambient", "Techno"))
        for a in range(5)
        for i in range(2)
    }
    done = prepared(write(tmp_path / "m", files), tmp_path / "out")
    assert done["split"] == "album"
    assert done["leakage"]["album_in_train"] == 0
    splits = {}
    for name, row in manifest(tmp_path / "out").items():
        splits.setdefault(name.rsplit("/", 1)[0], set()).add(row["split"])
    assert all(len(of_album) == 1 for of_album in splits.values())


def test_without_artists_and_albums_the_split_is_random_and_says_so(tmp_path):
    done = prepared(write(tmp_path / "m", by_genre(4)), tmp_path / "out")
    assert done["split"] == "random"
    (warning,) = done["warnings"]
    assert "neither artists nor albums are known" in warning


def test_ids_stay_when_files_are_added(tmp_path):
    source = write(tmp_path / "m", by_genre(3))
    before = clip_ids(source, tmp_path / "one")
    write(source, {"Ambient/0 new.wav": clip(900), "Aardvark/1.wav": clip(901)})
    after = clip_ids(source, tmp_path / "two")
    assert before.items() <= after.items()


def clip_ids(source, out) -> dict[str, str]:
    prepared(source, out)
    return {row["track_id"]: row["sha256"] for row in manifest(out).values() if row["sha256"]}


def test_small_genres_are_left_out_by_name_with_their_count(tmp_path):
    files = by_genre(10) | {f"Polka/{i}.wav": clip(500 + i) for i in range(3)}
    done = prepare([write(tmp_path / "m", files)], tmp_path / "out")
    assert done["genres"] == ["Ambient", "Techno"]
    statuses = {row["status"] for row in manifest(tmp_path / "out").values()}
    assert statuses == {"kept", "its genre Polka has fewer than 10 tracks"}


def test_two_spellings_of_a_genre_are_one(tmp_path):
    files = by_genre(3, ("Hip-Hop", "Techno")) | {"hip hop/9.wav": clip(900)}
    done = prepared(write(tmp_path / "m", files), tmp_path / "out")
    assert done["genres"] == ["Hip-Hop", "Techno"]
    assert done["n_kept"] == 7


def test_60_genres_with_names_of_every_kind(tmp_path):
    names = ["演歌", "Música popular", "R&B", "8-bit", *(f"Genre {i:03d}" for i in range(56))]
    files = {f"{name}/{i}.wav": clip(3 * g + i) for g, name in enumerate(names) for i in range(3)}
    done = prepared(write(tmp_path / "m", files), tmp_path / "out")
    assert len(done["genres"]) == 60
    assert set(names) == set(done["genres"])
    assert all(n == 1 for n in done["counts"]["test"].values())


def test_several_sources_of_ones_own_are_refused(tmp_path):
    one, two = (write(tmp_path / name, by_genre(2)) for name in ("one", "two"))
    with pytest.raises(InputError, match="merged for GTZAN only"):
        prepare([one, two], tmp_path / "out")


@pytest.mark.parametrize("folder", [("bebop", "swing"), ("train/jazz", "test/jazz")])
def test_folders_win_over_names_of_files(tmp_path, folder, capsys):
    """Files of one's own are called jazz.00001.wav as well; they were trained as GTZAN's."""
    files = {f"{folder[i % 2]}/jazz.{i:05d}.wav": clip(i) for i in range(8)}
    files |= {f"{folder[i % 2].replace('jazz', 'pop')}/x{i}.wav": clip(i + 50) for i in range(4)}
    done = prepared(write(tmp_path / "m", files), tmp_path / "out")
    assert "a folder per genre" in capsys.readouterr().out.splitlines()[0]
    assert done["kind"] == "folders"
    assert done["genres"] == (["bebop", "swing"] if folder[0] == "bebop" else ["jazz", "pop"])


def test_gtzan_and_a_genre_of_ones_own_are_custom_genres(tmp_path):
    """All of techno was lost."""
    files = {f"{g}/{g}.{i:05d}.wav": clip(10 * n + i) for n, g in enumerate(("jazz", "pop"))
             for i in range(3)}  # fmt: skip
    source = write(tmp_path / "m", files | {f"techno/{i}.wav": clip(90 + i) for i in range(3)})
    assert prepared(source, tmp_path / "out")["genres"] == ["jazz", "pop", "techno"]


def test_names_that_agree_with_their_folders_are_gtzan(tmp_path, capsys):
    files = {f"Music/{g}/{g}.{i:05d}.wav": clip(10 * n + i) for n, g in enumerate(("jazz", "pop"))
             for i in range(3)}  # fmt: skip
    source = write(tmp_path / "m", files)
    assert prepare([source], tmp_path / "out", "random")["kind"] == "gtzan"
    assert "GTZAN, by the names of its files" in capsys.readouterr().out.splitlines()[0]
    folders = prepared(source / "Music", tmp_path / "two", genre_from="folders")
    assert folders["kind"] == "folders"


def test_folders_that_are_links_are_followed(tmp_path):
    source = write(tmp_path / "m", by_genre(3))
    write(tmp_path / "elsewhere", {f"Polka/{i}.wav": clip(500 + i) for i in range(3)})
    (source / "Polka").symlink_to(tmp_path / "elsewhere" / "Polka")
    assert prepared(source, tmp_path / "out")["genres"] == ["Ambient", "Polka", "Techno"]


def test_spaces_make_no_other_genre(tmp_path):
    files = by_genre(2, ("Hip  Hop ", "Hip Hop", "Techno"))
    assert prepared(write(tmp_path / "m", files), tmp_path / "out")["genres"] == [
        "Hip Hop",
        "Techno",
    ]


def test_an_archive_beside_the_music_or_instead_of_it_is_named(tmp_path, capsys):
    """A genre that lay there as a zip was left out without a word."""
    source = make_zip(tmp_path / "outer.zip", {"inner.zip": b"PK", "notes.txt": b""})
    with pytest.raises(InputError, match=r"holds no audio file, but inner\.zip: unpack it"):
        prepared(source, tmp_path / "out")
    prepared(write(tmp_path / "m", by_genre(3) | {"Polka.zip": b"PK"}), tmp_path / "two")
    assert "Not read: 1 archives in" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["#recycle/Techno", "$RECYCLE.BIN/S-1-5", "@eaDir"])
def test_what_lies_in_a_bin_is_no_genre(tmp_path, folder):
    files = by_genre(3) | {f"{folder}/{i}.wav": clip(500 + i) for i in range(3)}
    done = prepared(write(tmp_path / "m", files), tmp_path / "out")
    assert (done["genres"], done["n_members"]) == (["Ambient", "Techno"], 6)


def test_fail_asks_only_about_files_that_cannot_be_used(tmp_path):
    """It failed on those that --genres and --min_tracks leave out."""
    source = write(tmp_path / "m", by_genre(3) | {"Polka/1.wav": clip(500), "no folder.wav": b""})
    done = prepared(source, tmp_path / "out", on_bad_clip="fail", genres="Ambient,Techno")
    assert done["n_kept"] == 6
    (source / "Techno" / "9.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"Techno/9\.wav in m cannot be used: the file is empty"):
        prepared(source, tmp_path / "two", on_bad_clip="fail")
