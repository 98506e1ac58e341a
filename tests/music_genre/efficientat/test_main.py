import hashlib
import http.client
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from music_genre import GenreClassifier, audio
from music_genre.efficientat import (
    EfficientATConfig,
    EfficientATFeatureExtractor,
    EfficientATForAudioClassification,
    __main__,
)
from music_genre.efficientat.__main__ import main
from music_genre.errors import InputError
from music_genre.loading import find_model, load_classifier

GENRES = {"hiphop.00002": "Hip hop music", "reggae.00002": "Reggae", "metal.00003": "Punk rock"}


@pytest.fixture
def theirs() -> dict[str, torch.Tensor]:
    """A small net's tensors by the authors' names."""
    model = EfficientATForAudioClassification(EfficientATConfig(width_multiplier=0.1, num_labels=5))
    parts = {".fc": ".conc_se_layers.0.fc", "efficientat.": "", "classifier.": "classifier.5."}
    parts["projector."] = "classifier.2."
    tensors = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in parts.items():
            name = name.replace(ours, theirs)
        tensors[name] = tensor
    return tensors


@pytest.fixture
def audioset(root):
    path = root.parent / "shared" / "models" / "efficientat-mn04-audioset" / "model.safetensors"
    if not path.is_file():
        pytest.skip(f"the weights of mn04 are not at {path}")
    return path


def call(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["efficientat", *map(str, arguments)])
    main()


def failing(error: Exception):
    def fail(*_: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_becomes_a_model(suffix, theirs, monkeypatch, tmp_path, capsys):
    path = tmp_path / f"mn01_as{suffix}"
    if suffix == ".pt":
        torch.save(theirs, path)
    else:
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in theirs.items()}, path)
    folder = tmp_path / "downloaded"
    folder.mkdir()
    if suffix == ".safetensors":  # a folder with such a file will do
        path = path.rename(folder / "model.safetensors").parent
    (tmp_path / "model").mkdir()  # an empty folder will do
    (tmp_path / "names.txt").write_text("\n".join("edcba"))
    monkeypatch.setattr(__main__, "CLASS_NAMES", tmp_path / "names.txt")
    call(monkeypatch, path, tmp_path / "model")
    model = load_classifier(find_model(str(tmp_path / "model")))
    assert (model.config.width_multiplier, model.config.num_labels) == (0.1, 5)
    assert model.config.label2id == {"e": 0, "d": 1, "c": 2, "b": 3, "a": 4}
    torch.testing.assert_close(
        model.efficientat.features[15].block[2].fc2.weight,
        theirs["features.15.block.2.conc_se_layers.0.fc2.weight"],
    )
    assert "license: mit" in (tmp_path / "model" / "README.md").read_text()
    assert "0.1 million parameters" in capsys.readouterr().out


def test_a_release_is_downloaded_and_checked(theirs, monkeypatch, tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    torch.save(theirs, release / "mn01.pt")
    digest = hashlib.sha256((release / "mn01.pt").read_bytes()).hexdigest()
    monkeypatch.setattr(__main__, "RELEASE", release.as_uri())
    monkeypatch.setattr(__main__, "WEIGHTS", {"mn01": ("mn01.pt", digest)})
    call(monkeypatch, "mn01", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()

    (release / "mn01.pt").write_text("another file")
    with pytest.raises(InputError, match=r"mn01\.pt is another file .* try again"):
        __main__.run("mn01", tmp_path / "other")
    for error in (TimeoutError("timed out"), http.client.IncompleteRead(b"half a file")):
        monkeypatch.setattr(torch.hub, "download_url_to_file", failing(error))
        with pytest.raises(InputError, match=r"mn01\.pt cannot be downloaded \("):
            __main__.run("mn01", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_no_pickle_is_run_and_no_file_is_a_traceback(monkeypatch, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Trap()))
    torch.save({"classifier.2.bias": Trap()}, tmp_path / "zip.pt")
    (tmp_path / "empty.pt").touch()
    for name in ("weights.pt", "zip.pt", "empty.pt"):
        with pytest.raises(SystemExit, match="2"):
            call(monkeypatch, tmp_path / name, tmp_path / "model")
        assert not (tmp_path / "sprung").exists()
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("damage", ["missing", "shape", "not a dict"])
def test_other_weights_are_refused(damage, theirs, monkeypatch, tmp_path, capsys):
    if damage == "missing":
        del theirs["features.16.1.running_var"]
    elif damage == "shape":
        theirs["features.16.0.weight"] = torch.zeros(3, 3, 1, 1)
    torch.save([theirs] if damage == "not a dict" else theirs, tmp_path / "weights.pt")
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, tmp_path / "weights.pt", tmp_path / "model")
    assert "not the weights of an EfficientAT" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_nothing_is_overwritten(theirs, monkeypatch, tmp_path, capsys):
    torch.save(theirs, tmp_path / "weights.pt")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, tmp_path / "weights.pt", tmp_path / "model")
    assert "name a new folder" in capsys.readouterr().err


def test_a_name_that_is_no_file(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="mn99 is neither a file nor one of mn04, mn10"):
        __main__.run("mn99", tmp_path / "model")


def test_audiosets_classes_of_real_music(audioset, real_archive, tmp_path):
    """Music first, in sigmoids; and of the classes that are genres, the right one."""
    __main__.run(str(audioset), tmp_path / "model")
    assert len(load_file(audioset)) == len(load_file(tmp_path / "model" / "model.safetensors"))
    classifier = GenreClassifier(tmp_path / "model")
    feature_extractor = EfficientATFeatureExtractor()
    with zipfile.ZipFile(real_archive) as archive:
        names = {name.split("/")[-1][:-4]: name for name in archive.namelist()}
        for track, genre in GENRES.items():
            data = archive.read(names[track])
            waveform = audio.decode(data, 32_000, seconds=10.0).waveform
            features = feature_extractor(waveform, 32_000, return_tensors="pt")
            with torch.inference_mode():
                scores = classifier.model(**features).logits[0].sigmoid().numpy()
            best = [classifier.labels[i] for i in np.argsort(scores)[::-1]]
            assert best[0] == "Music"
            assert scores.max() > 0.8
            genres = classifier.labels[216:266]
            assert genre in [name for name in best if name in genres][:2]
