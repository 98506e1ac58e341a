"""Build a `datasets` Audio dataset from music with genres: sources, splits and leakage.

Run: python -m data_prep --help. It imports the core (modules directly in `music_genre`) and no
other room. Training, baselines and benchmarks import it.
"""
