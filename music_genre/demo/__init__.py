"""What `app.py` shows: the page, uploads, live listening, pictures and About.

Only `app.py` and this room import gradio. It imports no training, evaluation or data preparation.
"""
