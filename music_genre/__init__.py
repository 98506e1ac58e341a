"""What training and serving share: windows, loading a model, predicting, metrics, the report.

from music_genre import GenreClassifier

prediction = GenreClassifier("runs/quickstart")("song.mp3")
prediction.genre, prediction.probabilities, prediction.timeline
"""


def __getattr__(name: str):
    """Import the classifier, and with it torch and transformers, only where it is used."""
    if name == "GenreClassifier":
        from music_genre.classifier import GenreClassifier

        return GenreClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
