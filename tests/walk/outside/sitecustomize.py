"""Shortens the README's commands, in processes that have this folder on PYTHONPATH.

Training ends after WALK_STEPS steps, but for the quickstart's; with WALK_STEPS 0 everything is as
long as a user's.
"""

import importlib.abc
import importlib.util
import os
import sys

STEPS = int(os.environ.get("WALK_STEPS", 0))


def limit_steps(module):
    check = module.TrainingArguments.__post_init__

    def limit_and_check(self):
        if self.output_dir != "runs/quickstart":
            self.max_steps = STEPS
        check(self)

    module.TrainingArguments.__post_init__ = limit_and_check


class ChangeWhenImported(importlib.abc.MetaPathFinder):
    """Importing the modules here would take seconds."""

    def __init__(self, changes):
        self.changes = changes

    def find_spec(self, name, path, target=None):
        if name not in self.changes:
            return None
        change = self.changes.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change
        return spec


if STEPS:
    sys.meta_path.insert(0, ChangeWhenImported({"transformers.training_args": limit_steps}))
