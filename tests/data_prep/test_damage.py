"""Damaged clips and archives, through the whole preparation."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from data_prep.options import SourceOptions
from data_prep.prepare import prepare
from music_genre.errors import InputError
from tests.data_prep.archives import clip_bytes, make_zip, manifest, samples_of, three_of_each

AS_GTZAN = SourceOptions(genre_from="gtzan")
BAD_CLIPS = {
    "text.00000.wav": None,  # not a clip's name
    "jazz.00054.wav": b"\x80garbage header" + clip_bytes(1)[44:],
    "jazz.00001.wav": b"",
    "jazz.00002.wav": clip_bytes(2, seconds=0.5),
    "jazz.00003.wav": clip_bytes(3, seconds=90, sampling_rate=8_000),
    "jazz.00004.wav": clip_bytes(4)[:60],
    "jazz.00005.wav": b"<html>404</html>" * 100,
}
GOOD_CLIPS = {
    "pop.00001.wav": clip_bytes(5, sampling_rate=44_100),
    "pop.00002.wav": clip_bytes(6, sampling_rate=8_000),
    "pop.00003.flac": clip_bytes(7, format="FLAC"),
    "pop.00004.ogg": clip_bytes(8, format="OGG"),
    "POP.00005.WAV": clip_bytes(9),
    "pop.00006.wav": clip_bytes(10)[:-20_000],  # cut off, but long enough
}


def silence_and_nan() -> dict[str, bytes]:
    nan, silent = io.BytesIO(), io.BytesIO()
    soundfile.write(nan, np.full(30_000, np.nan), 22_050, format="WAV", subtype="FLOAT")
    soundfile.write(silent, np.zeros(30_000), 22_050, format="WAV")
    return {"metal.00000.wav": nan.getvalue(), "metal.00001.wav": silent.getvalue()}


def test_bad_clips_are_dropped_with_their_reason_and_good_ones_kept(tmp_path):
    bad = {name: data or clip_bytes(0) for name, data in BAD_CLIPS.items()} | silence_and_nan()
    bad["jazz.00001.wav"] = b""
    path = make_zip(tmp_path / "a.zip", three_of_each() | bad | GOOD_CLIPS)
    done = prepare([path], tmp_path / "out", split="random")
    status = {name: row["status"] for name, row in manifest(tmp_path / "out").items()}
    assert {name: status[name] for name in GOOD_CLIPS} == dict.fromkeys(GOOD_CLIPS, "kept")
    reasons = {name: status[name] for name in bad}
    assert "kept" not in reasons.values()
    assert "not that of a GTZAN clip" in reasons["text.00000.wav"]
    assert reasons["jazz.00001.wav"] == "the file is empty"
    assert reasons["jazz.00002.wav"] == "shorter than 1 s"
    assert "longer than 60 s" in reasons["jazz.00003.wav"]
    assert "NaN" in reasons["metal.00000.wav"]
    assert reasons["metal.00001.wav"] == "silent"
    assert done["n_dropped"] == len(bad)


def test_on_bad_clip_fail_names_the_clip_and_writes_nothing(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each() | {"jazz.00001.wav": b""})
    with pytest.raises(InputError, match=r"jazz\.00001\.wav in a\.zip cannot be used"):
        prepare([path], tmp_path / "out", split="random", on_bad_clip="fail")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_damaged_members_of_a_zip(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each() | {"jazz.00000.wav": clip_bytes(1)})
    data = bytearray(path.read_bytes())
    offset = data.find(b"jazz.00000.wav")
    data[offset + 200] ^= 0xFF  # a flipped byte in its compressed data
    encrypted = data.rfind(b"rock") if b"rock" in data else data.find(b"PK\x01\x02")
    data[encrypted + 8] |= 1  # the first member's flag in the central directory
    path.write_bytes(data)
    prepare([path], tmp_path / "out", split="random")
    reasons = [r["status"] for r in manifest(tmp_path / "out").values() if r["status"] != "kept"]
    assert len(reasons) == 2
    assert any("damaged in the archive" in reason for reason in reasons)
    assert any("encrypted" in reason for reason in reasons)


def test_a_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.archive.MAX_MEMBER_BYTES", 2**20)
    path = make_zip(tmp_path / "a.zip", three_of_each() | {"jazz.00000.wav": bytes(2**24)})
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"jazz.00000.wav") - 46
    data[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    prepare([path], tmp_path / "out", split="random")
    assert manifest(tmp_path / "out")["jazz.00000.wav"]["status"] != "kept"


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
    prepare([path], work / "out", split="random", source_options=AS_GTZAN)
    assert {f"rock.{i:05d}" for i in range(4)} <= set(samples_of(work / "out"))
    assert "symbolic link" in manifest(work / "out")["rock.00009.wav"]["status"]
    names = set(manifest(work / "out"))
    assert "line\\nbreak/rock.00003.wav" in names, "one row is one line"
    assert max(map(len, names)) == 200
    files = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert files == {"secret.wav", "deep"}

    with tarfile.open(work / "a.tar.gz", "w:gz") as file:
        for name, data in three_of_each().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("rock.00000.wav")
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
        file.addfile(info)
    prepare([work / "a.tar.gz"], work / "out-tar", split="random", source_options=AS_GTZAN)
    assert "a link or a device" in manifest(work / "out-tar")["rock.00000.wav"]["status"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_cut_off_archive_is_one_sentence(tmp_path, kind):
    whole = tmp_path / f"whole.{kind}"
    if kind == "zip":
        make_zip(whole, three_of_each())
    else:
        source = tmp_path / "src"
        for name, data in three_of_each().items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        with tarfile.open(whole, "w:gz") as file:
            file.add(source, "genres")
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match="download it again"):
        prepare([cut], tmp_path / "out", split="random")
    assert not (tmp_path / "out").exists()
