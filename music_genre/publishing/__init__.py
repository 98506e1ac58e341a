"""Publish a finished run on the Hub, with its card and ONNX form, and the demo as a Space.

It reads the files in a run's folder, above all report.json; it does not train or measure.
"""
