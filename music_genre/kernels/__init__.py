"""Faster computation of the same numbers on a CPU, and the choice of precision.

Everything here takes torch modules or tensors and imports torch and torchaudio only. Clips and
genres do not belong here.
"""
