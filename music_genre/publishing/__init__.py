"""A finished run on the Hub: access, card, ONNX, and the demo as a Space.

It reads what a run left in its folder, report.json above all; it does not train or measure.
"""
