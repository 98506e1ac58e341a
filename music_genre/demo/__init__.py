"""What `app.py` shows: uploads, live listening, pictures and the About page.

Only `app.py` and this room import gradio. It imports no training, evaluation or data preparation.
"""
