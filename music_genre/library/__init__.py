"""Scan a music library into a table, and write genres into the files' tags.

    music-genre scan ~/Music --model you/distilhubert-gtzan --output genres.parquet
    music-genre tag ~/Music --table genres.parquet

This room imports only the core, and only music_genre/__main__.py imports it.
"""
