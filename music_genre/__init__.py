"""The core: decode audio, cut windows, load a model, classify.

    from music_genre import GenreClassifier

    prediction = GenreClassifier("runs/quickstart")("song.mp3")
    prediction.genre, prediction.probabilities, prediction.timeline

The modules directly in this folder need numpy, torch and transformers (and soundfile, PyAV and
torchaudio for audio). They import `kernels` and none of the other rooms; the other rooms import
them.
"""


def __getattr__(name: str):
    """Import the classifier, and with it torch and transformers, only where it is used."""
    if name == "GenreClassifier":
        from music_genre.memory import large_imports

        with large_imports():
            from music_genre.classifier import GenreClassifier

        return GenreClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
