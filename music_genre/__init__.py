"""The core: decode audio, cut windows, load a model, classify.

    from music_genre import GenreClassifier

    prediction = GenreClassifier("runs/quickstart")("song.mp3")
    prediction.genre, prediction.probabilities, prediction.timeline

The modules directly in this folder are the core. They import none of the rooms, which are the
subfolders; the rooms import them. audio.py and isolation.py, which decode audio, need no torch.
"""


def __getattr__(name: str):
    """Import the classifier, and with it torch and transformers, only when it is used."""
    if name == "GenreClassifier":
        from music_genre.classifier import GenreClassifier

        return GenreClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
