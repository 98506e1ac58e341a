"""Ends every training after WALK_STEPS steps, in processes that have this folder on PYTHONPATH."""

import importlib.abc
import importlib.util
import os
import sys

STEPS = int(os.environ.get("WALK_STEPS", 0))
MODULE = "transformers.training_args"


class LimitSteps(importlib.abc.MetaPathFinder):
    """Changes TrainingArguments when it is imported, since importing it here would take seconds."""

    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_limit(module):
            execute(module)
            limit(module.TrainingArguments)

        spec.loader.exec_module = execute_and_limit
        return spec


def limit(arguments_class):
    check = arguments_class.__post_init__

    def limit_and_check(self):
        self.max_steps = STEPS
        check(self)

    arguments_class.__post_init__ = limit_and_check


if STEPS:
    sys.meta_path.insert(0, LimitSteps())
