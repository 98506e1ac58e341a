"""Many files: scan a music library into a table, and write genres into the files' tags.

Run: python -m music_genre.library --help. It imports the core only; nothing imports it.
"""
