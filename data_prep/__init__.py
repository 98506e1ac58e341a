"""From music archives to a `datasets` Audio dataset: sources, splits and leakage.

Run: python -m data_prep --help. It uses the core (`music_genre`: audio decoding, errors) and no
other room; `music_genre.training` uses it, nothing else does.
"""
