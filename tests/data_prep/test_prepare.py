"""Archives of every form and every kind of damage, through the whole preparation."""

import csv
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, load_dataset, load_from_disk

from data_prep.gtzan import GENRES
from data_prep.prepare import prepare, read_preparation
from music_genre import audio
from music_genre.errors import InputError


def clip_bytes(seed: int, seconds: float = 1.5, sampling_rate: int = 22_050, **options) -> bytes:
    """A WAV (or other format) of noise that depends on the seed."""
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * sampling_rate))
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.to_pcm16(samples), sampling_rate, **({"format": "WAV"} | options))
    return buffer.getvalue()


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def three_of_each(folder: str = "genres_original") -> dict[str, bytes]:
    return {
        f"{folder}/{genre}/{genre}.{i:05d}.wav": clip_bytes(100 * g + i)
        for g, genre in enumerate(GENRES[:3])
        for i in range(3)
    }


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return {row["member"]: row for row in csv.DictReader(file)}


def samples_of(folder: Path) -> dict[str, str]:
    return {
        row["track_id"]: row["sha256"]
        for row in manifest(folder).values()
        if row["status"] == "kept"
    }


# --- the contract ---------------------------------------------------------------------------


def test_a_dataset_with_an_empty_split_loads(tmp_path):
    """Two tracks of a genre are too few for three splits, so validation and test are empty."""
    members = {name: data for name, data in three_of_each().items() if "00002" not in name}
    prepare([make_zip(tmp_path / "small.zip", members)], tmp_path / "out", split="random")
    dataset = load_from_disk(tmp_path / "out")
    sizes = {name: len(split) for name, split in dataset.items()}
    assert sizes == {"train": 6, "validation": 0, "test": 0}
    assert dataset["test"].features == dataset["train"].features


def test_the_dataset_is_as_promised(prepared):
    dataset = load_from_disk(prepared)
    assert {name: len(split) for name, split in dataset.items()} == {
        "train": 40,
        "validation": 10,
        "test": 10,
    }
    features = dataset["train"].features
    assert list(features) == ["file", "audio", "genre", "track_id", "artist"]
    assert features["audio"] == Audio(sampling_rate=16_000)
    assert tuple(features["genre"].names) == GENRES
    row = dataset["test"].cast_column("audio", Audio(decode=False))[0]
    assert row["track_id"].startswith(GENRES[row["genre"]])
    info = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert info.duration == pytest.approx(2.0, abs=0.001)


def test_beside_it_lie_manifest_card_and_record(prepared):
    rows = list(manifest(prepared).values())
    assert len(rows) == 60
    assert {row["status"] for row in rows} == {"kept"}
    assert all(len(row["sha256"]) == 64 and row["seconds"] == "2.0" for row in rows)
    card = (prepared / "README.md").read_text()
    assert "synthesised by the project" in card
    assert "| all | 40 | 10 | 10 |" in card
    assert read_preparation(prepared)["is_synthetic"]


def test_audio_columns_decode_with_torchcodec(prepared):
    try:
        import torchcodec  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchcodec or FFmpeg's libraries are missing: {type(error).__name__}")
    decoded = load_from_disk(prepared)["train"][0]["audio"]
    assert decoded["sampling_rate"] == 16_000
    assert decoded["array"].shape == (32_000,)


def test_it_goes_to_parquet_and_streams_back(prepared, tmp_path):
    """As `push_to_hub` stores it and `load_dataset(..., streaming=True)` reads it."""
    whole = load_from_disk(prepared)["validation"]
    whole.to_parquet(tmp_path / "validation.parquet")
    streamed = load_dataset(
        "parquet", data_files=str(tmp_path / "validation.parquet"), split="train", streaming=True
    )
    assert streamed.features == whole.features
    rows = list(streamed.cast_column("audio", Audio(decode=False)))
    assert rows == list(whole.cast_column("audio", Audio(decode=False)))
    assert all(row["audio"]["bytes"] for row in rows)


# --- forms ----------------------------------------------------------------------------------


def test_every_form_gives_the_same_clips(tmp_path):
    members = three_of_each("Data/genres_original")
    litter = {
        "__MACOSX/Data/genres_original/blues/._blues.00000.wav": b"x",
        "Data/images_original/blues/blues00000.png": b"x",
        "Data/features_30_sec.csv": b"filename,length\nblues.00000.wav,1\n",
    }
    folder = tmp_path / "unpacked set"
    for name, data in members.items():
        file = folder / Path(name).name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    with tarfile.open(tmp_path / "genres.tar.gz", "w:gz") as file:
        for name, data in members.items():
            samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
            buffer = io.BytesIO()
            soundfile.write(buffer, samples, rate, format="AU", subtype="PCM_16")
            info = tarfile.TarInfo(f"genres/{Path(name).parent.name}/{Path(name).stem}.au")
            info.size = buffer.tell()
            file.addfile(info, io.BytesIO(buffer.getvalue()))
    flac = {}
    for name, data in members.items():
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="FLAC")
        flac[name.replace(".wav", ".flac")] = buffer.getvalue()
    archives = [
        make_zip(tmp_path / "GTZAN Genre Collection.zip", members | litter),
        make_zip(tmp_path / "no-top-folder.bin", {Path(n).name: d for n, d in members.items()}),
        make_zip(tmp_path / "flac.zip", flac),
        tmp_path / "genres.tar.gz",
        folder,
    ]
    results = []
    for i, path in enumerate(archives):
        prepare([path], tmp_path / f"out{i}", split="random")
        results.append(samples_of(tmp_path / f"out{i}"))
    assert len(results[0]) == 9
    assert all(result == results[0] for result in results)
    table = (tmp_path / "out0" / "features_30_sec.csv").read_text()
    assert table == "track_id,filename,length\nblues.00000,blues.00000.wav,1\n"


def test_of_two_archives_the_longest_that_decodes_is_kept(tmp_path):
    name = "genres_original/blues/blues.00000.wav"
    short = make_zip(tmp_path / "short.zip", three_of_each() | {name: clip_bytes(0, 1.2)})
    whole = make_zip(tmp_path / "whole.zip", {name: clip_bytes(0, 3.0)})
    broken = make_zip(tmp_path / "broken.zip", {name: b"RIFF" + bytes(100)})
    prepare([short, whole, broken], tmp_path / "out", split="random")
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["track_id"] == "blues.00000"]
    status = {row["archive"]: row["status"] for row in rows}
    assert status["whole.zip"] == "kept"
    assert status["short.zip"] == "a copy: the track is taken from whole.zip"
    assert "not audio" in status["broken.zip"]


def test_equal_samples_are_found_and_named(tmp_path):
    members = three_of_each()
    members["genres_original/rock/rock.00050.wav"] = members[
        "genres_original/blues/blues.00001.wav"
    ]
    done = prepare([make_zip(tmp_path / "a.zip", members)], tmp_path / "out", split="random")
    assert done["identical_samples"] == [["blues.00001", "rock.00050"]]
    assert "blues.00001, rock.00050" in (tmp_path / "out" / "README.md").read_text()


# --- damage ---------------------------------------------------------------------------------

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
    assert reasons["metal.00001.wav"] == "digital silence"
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
    data[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")  # claims to be small
    liar = tmp_path / "liar.zip"
    liar.write_bytes(data)
    for i, archive in enumerate((path, liar)):
        prepare([archive], tmp_path / f"out{i}", split="random")
        assert manifest(tmp_path / f"out{i}")["jazz.00000.wav"]["status"] != "kept"


def test_too_many_bytes_or_files_end_the_reading(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    monkeypatch.setattr("data_prep.archive.MAX_TOTAL_BYTES", 100_000)
    with pytest.raises(InputError, match="this is no GTZAN"):
        prepare([path], tmp_path / "out")
    monkeypatch.setattr("data_prep.archive.MAX_MEMBERS", 5)
    with pytest.raises(InputError, match="more than 5 files"):
        prepare([path], tmp_path / "out")


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
    prepare([path], work / "out", split="random")
    assert {f"rock.{i:05d}" for i in range(4)} <= set(samples_of(work / "out"))
    assert "symbolic link" in manifest(work / "out")["rock.00009.wav"]["status"]
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
    prepare([work / "a.tar.gz"], work / "out-tar", split="random")
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


# --- again, interrupted ---------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_run_is_done_at_once_and_other_options_rebuild(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    first = prepare([path], out, split="random", seed=1)
    inode = (out / "manifest.csv").stat().st_ino
    assert prepare([path], out, split="random", seed=1) == first
    assert (out / "manifest.csv").stat().st_ino == inode
    assert prepare([path], out, split="random", seed=2)["seed"] == 2
    assert (out / "manifest.csv").stat().st_ino != inode


def test_the_same_archive_gives_the_same_bytes(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    prepare([path], tmp_path / "one", split="random")
    prepare([path], tmp_path / "two", split="random")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    path = make_zip(tmp_path / "a.zip", three_of_each())
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="holds something else"):
        prepare([path], out)
    assert (out / "thesis.txt").read_text() == "ten years of work"


# --- the command line -----------------------------------------------------------------------


def run_cli(root: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "data_prep", *map(str, arguments)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_prints_counts_and_leakage(root, tmp_path, archive):
    result = run_cli(root, archive, "--output_dir", tmp_path / "out", "--split", "random")
    assert result.returncode == 0, result.stderr
    assert "60 audio files in, 60 kept" in result.stdout
    assert "course-comparable" in result.stdout
    assert "Leakage:" in result.stdout


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p.write_text("no zip at all\n" * 1000), "neither|no zip"),
        (lambda p: make_zip(p, {"holiday.txt": b"sun"}), "holds no usable GTZAN clip"),
        (lambda p: p.write_bytes(b""), "no zip"),
        (lambda p: None, "there is no such file"),
        (lambda p: p.mkdir(), "holds no usable GTZAN clip"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(root, tmp_path, make, sentence):
    path = tmp_path / "given.zip"
    make(path)
    result = run_cli(root, path, "--output_dir", tmp_path / "out")
    assert result.returncode == 2
    message = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(message) == 1
    assert re.search(sentence, message[0])
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_download_without_network_says_what_to_do(root, tmp_path):
    result = run_cli(root, "--download", "--output_dir", tmp_path / "out")
    assert result.returncode == 2
    assert "kaggle.com/datasets/" in result.stderr
    assert "Traceback" not in result.stderr


# --- real GTZAN -----------------------------------------------------------------------------


def test_the_real_sample_in_every_form(real_archive, tmp_path):
    """Zip, tar.gz of .au, folder and FLACs of the same tracks: sample for sample the same."""
    done = prepare([real_archive], tmp_path / "zip", split="random")
    assert (done["n_members"], done["n_kept"]) == (100, 100)
    assert 29.8 < done["seconds"] / 100 < 30.7
    size = sum(p.stat().st_size for p in (tmp_path / "zip").rglob("*.arrow"))
    assert size < 100 * 1_000_000
    assert (tmp_path / "zip" / "features_30_sec.csv").read_text().count("\n") == 1001

    with (
        zipfile.ZipFile(real_archive) as source,
        tarfile.open(tmp_path / "genres.tar.gz", "w:gz", compresslevel=1) as au,
        zipfile.ZipFile(tmp_path / "flac.zip", "w") as flac,
    ):
        for name in (n for n in source.namelist() if n.endswith(".wav")):
            data = source.read(name)
            samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
            file = tmp_path / "unpacked" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            for container, archive in (("AU", au), ("FLAC", flac)):
                buffer = io.BytesIO()
                soundfile.write(buffer, samples, rate, format=container, subtype="PCM_16")
                member = f"genres/{file.parent.name}/{file.stem}.{container.lower()}"
                if archive is au:
                    info = tarfile.TarInfo(member)
                    info.size = buffer.tell()
                    archive.addfile(info, io.BytesIO(buffer.getvalue()))
                else:
                    archive.writestr(member, buffer.getvalue())
    expected = samples_of(tmp_path / "zip")
    assert len(expected) == 100
    for form in ("genres.tar.gz", "flac.zip", "unpacked"):
        prepare([tmp_path / form], tmp_path / f"from {form}", split="random")
        assert samples_of(tmp_path / f"from {form}") == expected, form


def test_the_filtered_split_of_the_real_sample_leaks_no_artist(real_archive, tmp_path):
    done = prepare([real_archive], tmp_path / "out")
    assert done["leakage"]["artist_in_train"] == 0
    assert 90 <= done["n_kept"] < 100, "some of the sample are among the faulty tracks"
    assert all(sum(of_genre.values()) for of_genre in done["counts"].values())
