"""A folder per genre, in its layouts, as a folder, zip and tar."""

from pathlib import Path

import pytest
from datasets import load_from_disk

from data_prep.prepare import prepare
from data_prep.selection import _leak_warnings
from music_genre.errors import InputError
from tests.data_prep.archives import make_zip, manifest, samples_of
from tests.data_prep.music import by_genre, clip, prepared, write


def test_the_first_folder_is_the_genre_and_artists_lie_below(tmp_path, capsys):
    files = by_genre(4, pattern="Artist {i}/Album/song.wav")
    done = prepared(write(tmp_path / "My Music", files), tmp_path / "out")
    assert "a folder per genre: 2 genres, 8 files." in capsys.readouterr().out
    assert (done["genres"], done["split"]) == (["Ambient", "Techno"], "artist")
    assert done["dataset_name"] == "My Music"
    assert done["leakage"]["artist_in_train"] == 0
    assert done["warnings"] == []
    rows = {
        row["track_id"]: row
        for split in load_from_disk(tmp_path / "out").values()
        for row in split.remove_columns("audio")
    }
    row = rows["Techno/Artist 1/Album/song.wav"]
    assert (row["artist"], row["genre"], row["start"]) == ("Artist 1", 1, 0.0)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "GTZAN" not in card and "gtzan" not in card
    assert "in 2 genres" in card
    assert "album or folder" not in card, "artists are known, which says more"


def test_music_by_one_artist_is_split_at_random(tmp_path):
    """Validation and test were empty, and training was refused."""
    files = by_genre(10, pattern="Ann feat. {i}/Album {i}/song.wav")
    done = prepared(write(tmp_path / "Mine", files), tmp_path / "out")
    assert done["split"] == "random"
    assert done["warnings"][0].startswith("all tracks belong together by artist")
    assert all(min(counts.values()) for counts in done["counts"].values())


def test_splits_that_the_source_gives_stay_also_where_no_validation_can_be_drawn(tmp_path):
    files = by_genre(4, pattern="Ann/Album {i}/song.wav")
    splits = {"Ambient": {}, "Techno": {}}
    for i, (name, data) in enumerate(files.items()):
        splits[name.split("/")[0]][f"{'test' if i % 4 == 3 else 'train'}/{name}"] = data
    source = write(tmp_path / "Mine", splits["Ambient"] | splits["Techno"])
    done = prepared(source, tmp_path / "out")
    assert done["split"] == "given"
    assert done["counts"]["test"] == {"Ambient": 1, "Techno": 1}
    assert not any("belong together" in warning for warning in done["warnings"])


def test_a_zip_of_a_folder_is_that_folder(tmp_path):
    files = by_genre(3, ("Dev", "Test"))  # no splits, as there is no train
    prepared(write(tmp_path / "source", files), tmp_path / "expected")
    source = make_zip(tmp_path / "a.zip", {f"My music/{n}": d for n, d in files.items()})
    done = prepared(source, tmp_path / "out")
    found, expected = (sorted(samples_of(tmp_path / n).values()) for n in ("out", "expected"))
    assert found == expected
    assert done["genres"] == ["Dev", "Test"]


def test_folders_of_splits_above_the_genres_are_kept(tmp_path):
    files = {}
    for seed, split in enumerate(("train", "valid", "Test")):
        for g, genre in enumerate(("Ambient", "Techno")):
            files |= {f"{split}/{genre}/{i}.wav": clip(seed * 10 + g * 5 + i) for i in range(2)}
    done = prepared(write(tmp_path / "sets", files), tmp_path / "out")
    assert done["split"] == "given"
    assert "The source's own. Leakage:" in (tmp_path / "out" / "README.md").read_text()
    for name in ("train", "validation", "test"):
        assert done["counts"][name] == {"Ambient": 2, "Techno": 2}


def test_album_folders_are_on_one_side_where_artists_are_not_known(tmp_path):
    files = {
        f"{genre}/Album {a}/{i}.wav": clip(100 * g + 10 * a + i)
        for g, genre in enumerate(("Ambient", "Techno"))
        for a in range(5)
        for i in range(2)
    }
    about = {"name": "Mine", "license": "cc-by-4.0", "description": "Two genres."}
    done = prepared(write(tmp_path / "m", files), tmp_path / "out", **about)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-4.0\n" in card and "# Mine\n\nTwo genres.\n" in card
    assert "Album-grouped 80/10/10, seed 0. Leakage:" in card
    assert "0 of 4 are from an album or folder" in card and "`cc-by-4.0`, as stated" in card
    assert done["split"] == "album"
    assert done["leakage"]["album_in_train"] == 0
    splits = {}
    for name, row in manifest(tmp_path / "out").items():
        splits.setdefault(name.rsplit("/", 1)[0], set()).add(row["split"])
    assert all(len(album_splits) == 1 for album_splits in splits.values())


def test_without_artists_and_albums_the_split_is_random_and_ids_stay(tmp_path, monkeypatch):
    """Also when files come. A folder here could be the id of a dataset."""
    source = write(tmp_path / "m", by_genre(3))
    monkeypatch.chdir(tmp_path)
    done = prepared(Path("m"), tmp_path / "one")
    assert done["split"] == "random"
    assert "album or folder" not in (tmp_path / "one" / "README.md").read_text()
    assert any("neither artists nor albums are known" in warning for warning in done["warnings"])
    assert _leak_warnings("random", {"artist_unknown": 2, "test_tracks": 3}), "of most"
    write(source, {"Ambient/0 new.wav": clip(900), "Aardvark/1.wav": clip(901)})
    prepared(source, tmp_path / "two")
    assert samples_of(tmp_path / "one").items() <= samples_of(tmp_path / "two").items()


def test_small_genres_and_spellings(tmp_path, capsys):
    files = by_genre(10, ("hip  hop", "Techno")) | {"Hip-Hop/9.wav": clip(900)}
    files |= {"hip hop /9.wav": clip(901)} | {f"Polka/{i}.wav": clip(500 + i) for i in range(9)}
    done = prepare([write(tmp_path / "m", files)], tmp_path / "out")
    assert (done["genres"], done["n_kept"]) == (["Techno", "hip hop"], 22), "the commonest spelling"
    statuses = {row["status"] for row in manifest(tmp_path / "out").values()}
    assert done["n_dropped"] == 9
    assert statuses == {"kept", "its genre Polka has fewer than 10 tracks"}
    assert "Left out, with fewer than 10 tracks: Polka (9)." in capsys.readouterr().out


def test_fewer_tracks_are_offered_only_where_that_gives_a_second_genre(tmp_path):
    source = write(tmp_path / "m", by_genre(3) | {"Polka/1.wav": clip(500)})
    small = r"at least 3 tracks each; here are Ambient 3, Polka 1\. \(.*--min_tracks N takes fewer"
    with pytest.raises(InputError, match=small):
        prepared(source, tmp_path / "out", min_tracks=3, genres="Ambient,Polka")
    with pytest.raises(InputError, match=r"3 tracks each; here are Ambient 3\.$"):
        prepared(source, tmp_path / "out", min_tracks=3, genres="1")


@pytest.mark.parametrize("stray", ["stray.wav", "My Music/stray.wav"])
def test_a_file_beside_the_genres_in_a_zip_makes_their_folder_the_only_genre(tmp_path, stray):
    files = {f"My Music/{name}": data for name, data in by_genre(3).items()} | {stray: clip(500)}
    said = r"in one folder, My Music, .* only genre: .*, give that folder alone\.$"
    with pytest.raises(InputError, match=said):
        prepared(make_zip(tmp_path / "a.zip", files), tmp_path / "out")


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


def test_names_that_agree_with_their_folders_are_gtzan(tmp_path, capsys):
    files = {f"Music/{g}/{g}.{i:05d}.wav": clip(10 * n + i) for n, g in enumerate(("jazz", "pop"))
             for i in range(3)}  # fmt: skip
    source = write(tmp_path / "m", files)
    assert prepare([source], tmp_path / "out", split="random")["kind"] == "gtzan"
    assert "GTZAN, by the names of its files" in capsys.readouterr().out.splitlines()[0]
    table = source / "Music" / "tracks.csv"
    table.write_text("path,genre\njazz/jazz.00000.wav,Soul\n")
    folders = prepared(source / "Music", tmp_path / "two", genre_from="folders")
    assert folders["kind"] == "folders"
    table.unlink()
    write(source, {f"Music/techno/{i}.wav": clip(90 + i) for i in range(3)})
    done = prepared(source / "Music", tmp_path / "three")
    assert done["genres"] == ["jazz", "pop", "techno"], "all of techno was lost"


def test_links_are_followed_and_bins_are_no_genres(tmp_path):
    source = write(tmp_path / "m", by_genre(3))
    write(tmp_path / "elsewhere", {f"Polka/{i}.wav": clip(500 + i) for i in range(3)})
    (source / "Polka").symlink_to(tmp_path / "elsewhere" / "Polka")
    for n, folder in enumerate(("#recycle/Techno", "$RECYCLE.BIN/S-1-5", "@eaDir")):
        write(source, {f"{folder}/{i}.wav": clip(600 + 10 * n + i) for i in range(3)})
    done = prepared(source, tmp_path / "out")
    assert (done["genres"], done["n_members"]) == (["Ambient", "Polka", "Techno"], 9)


def test_an_archive_beside_the_music_or_instead_of_it_is_named(tmp_path, capsys):
    """A genre that lay there as a zip was left out without a word."""
    source = make_zip(tmp_path / "outer.zip", {"inner.zip": b"PK", "notes.txt": b""})
    with pytest.raises(InputError, match=r"holds no audio file, but inner\.zip: unpack it"):
        prepared(source, tmp_path / "out")
    prepared(write(tmp_path / "m", by_genre(3) | {"Polka.zip": b"PK"}), tmp_path / "two")
    assert "Not read: 1 archives in" in capsys.readouterr().out


def test_fail_asks_only_about_files_that_cannot_be_used(tmp_path):
    """It failed on those that --genres and --min_tracks leave out."""
    source = write(tmp_path / "m", by_genre(3) | {"Polka/1.wav": clip(500), "no folder.wav": b""})
    done = prepared(source, tmp_path / "out", on_bad_clip="fail", genres="Ambient,Techno")
    assert done["n_kept"] == 6
    (source / "Techno" / "9.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"Techno/9\.wav in m cannot be used: the file is empty"):
        prepared(source, tmp_path / "two", on_bad_clip="fail")
    assert not (tmp_path / "two").exists()
