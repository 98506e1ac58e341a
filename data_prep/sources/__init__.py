"""Where genres come from: GTZAN's names, folders, a table, tags, or a dataset.

`recognise.recognise(path, options)` returns a `MusicSource`: its audio files as `Member`s, and for
each of them a `Track` with everything that is known before decoding.
"""
