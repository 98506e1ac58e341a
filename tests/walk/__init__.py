"""The README walked as a new user walks it: its commands as typed, in order, in a fresh clone.

No option is added to any command. What a test cannot have is stood in for from outside:

- the Hub: `tests.hub` on loopback, through HF_ENDPOINT and HF_TOKEN. It has ntu-spml/distilhubert
  with the files, layers and names of the tensors of the real one, but narrow, with random weights.
- the 5 GB of packages: `python3 -m venv` (outside/bin/python3, first on PATH) makes a folder with
  the environment that runs the tests, and pip finds all requirements satisfied there; it has no
  index to get others from (PIP_NO_INDEX).
- hours of training: outside/sitecustomize.py, on PYTHONPATH, ends training after WALK_STEPS steps,
  but for the quickstart's.
- `~/Music`: a folder of synthesised songs, through HOME; song.mp3 lies in the working folder.
- GTZAN: 6 s of three tracks a genre of the shared sample where it is there, synthesised clips
  elsewhere.

By hand, with another archive and all steps of training (0):

    WALK_ARCHIVE="../shared/data/GTZAN Genre Collection.zip" WALK_STEPS=0 \\
        python -m pytest -s tests/test_readme.py
"""
