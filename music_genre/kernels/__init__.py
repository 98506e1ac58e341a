"""Faster computation of the same numbers on a CPU, and the choice of precision.

Everything here takes torch modules or tensors and knows torch alone. What a clip or a genre is does
not belong here.
"""
