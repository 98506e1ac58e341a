"""What the fine-tuned model is compared with: CSV features, spectrogram images, the table of all.

Run: python -m baselines --help. Baselines use the core, evaluation and data_prep; nothing imports
them.
"""
