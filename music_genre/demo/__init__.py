"""The web page of `app.py`: its tabs, uploads, live listening, pictures and About.

Besides `app.py`, only this room imports gradio; it imports no training, evaluation or data_prep.
"""
