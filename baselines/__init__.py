"""Baselines for the fine-tuned model, on feature tables and images of the same archive.

Run: python -m baselines --help. Baselines use the core, evaluation and data_prep; nothing imports
them.
"""
