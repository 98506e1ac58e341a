"""Where genres come from: GTZAN's names, folders, a table, or tags; one module for each.

`recognise(path, options)` gives a `Source`: its audio files as `Member`s, and for each of them a
`Track` with all that is known before decoding. What follows is the same for all of them.
"""

from data_prep.sources.recognise import recognise
from data_prep.sources.source import Source

__all__ = ["Source", "recognise"]
