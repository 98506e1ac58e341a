"""Evaluation of a model: metrics, calibration, report.json, predictions and pictures.

Training and baselines use it. It needs evaluate, scikit-learn and matplotlib, so code that only
serves a model does not import it.
"""
