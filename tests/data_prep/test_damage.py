"""Damaged clips and archives of GTZAN, through the whole preparation."""

import tarfile
import zipfile

import pytest

from data_prep.prepare import prepare
from music_genre.errors import InputError
from tests.data_prep.archives import clip_bytes, make_zip, manifest, samples_of, three_of_each

BAD_CLIPS = {
    "text.00000.wav": (clip_bytes(0), "not that of a GTZAN track"),
    "jazz.00054.wav": (b"\x80garbage header" + clip_bytes(1)[44:], "not audio"),
    "jazz.00003.wav": (clip_bytes(3, seconds=61, sampling_rate=8_000), "longer than 60 s"),
    "jazz.00004.wav": (clip_bytes(4)[:60], ""),
}
GOOD_CLIPS = {
    "pop.00001.wav": clip_bytes(5, sampling_rate=44_100),
    "pop.00004.ogg": clip_bytes(8, sampling_rate=8_000, format="OGG"),
    "POP.00005.WAV": clip_bytes(9),
    "pop.00006.wav": clip_bytes(10)[:-20_000],  # cut off, but long enough
}


def test_bad_clips_are_dropped_with_their_reason_and_good_ones_kept(tmp_path):
    bad = {name: data for name, (data, _) in BAD_CLIPS.items()}
    path = make_zip(tmp_path / "a.zip", three_of_each() | bad | GOOD_CLIPS)
    done = prepare([path], tmp_path / "out", split="random")
    status = {name: row["status"] for name, row in manifest(tmp_path / "out").items()}
    assert {name: status[name] for name in GOOD_CLIPS} == dict.fromkeys(GOOD_CLIPS, "kept")
    for name, (_, reason) in BAD_CLIPS.items():
        assert status[name] != "kept" and reason in status[name]
    assert done["n_dropped"] == len(bad)
    with pytest.raises(InputError, match=r"text\.00000\.wav in a\.zip cannot be used"):
        prepare([path], tmp_path / "two", split="random", on_bad_clip="fail")


def test_names_that_climb_and_links_write_nothing_outside(tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(clip_bytes(77))
    climbing = {
        "../../rock.00000.wav": clip_bytes(1),
        "/etc/rock.00001.wav": clip_bytes(2),
        "a" * 5000 + "/rock.00002.wav": clip_bytes(3),
        "line\nbreak/rock.00003.wav": clip_bytes(4),
    }
    work = tmp_path / "deep" / "er"
    work.mkdir(parents=True)
    path = make_zip(work / "a.zip", three_of_each() | climbing)
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("rock.00009.wav")
        link.external_attr = 0o120777 << 16
        file.writestr(link, str(secret))
    prepare([path], work / "out", split="random", genre_from="gtzan")
    assert {f"rock.{i:05d}" for i in range(4)} <= set(samples_of(work / "out"))
    rows = manifest(work / "out")
    assert "a link" in rows["rock.00009.wav"]["status"]
    assert "line\\nbreak/rock.00003.wav" in rows, "one row is one line"
    assert max(map(len, rows)) == 200
    files = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert files == {"secret.wav", "deep"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_cut_off_archive_is_one_sentence(tmp_path, kind):
    whole = make_zip(tmp_path / "whole.zip", three_of_each())
    if kind == "tar.gz":
        with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as file:
            for i in range(9):
                file.add(whole, f"blues.0000{i}.wav")
        whole = tmp_path / "whole.tar.gz"
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match="download it again"):
        prepare([cut], tmp_path / "out", split="random")
    assert not (tmp_path / "out").exists()
