"""What is measured of a model: metrics, calibration, report.json, predictions and pictures.

Training and baselines use it. It needs evaluate, scikit-learn and matplotlib, so nothing that only
serves a model imports it.
"""
