"""Fine-tuning: arguments, data, crops, augmentation, trainer, checkpoints and the linear probe.

`train_hf.py` is the program. Nothing that a Space or an installed classifier needs belongs here.
"""
