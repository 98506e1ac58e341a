"""Where genres come from: GTZAN's names, folders, a table, tags, or a dataset; a module for each.

`recognise(text, options)` gives a `MusicSource`: its audio files as `Member`s, and for each of them
a `Track` with all that is known before decoding. What follows is the same for all of them.
"""

from data_prep.sources.music_source import MusicSource
from data_prep.sources.recognise import recognise

__all__ = ["MusicSource", "recognise"]
