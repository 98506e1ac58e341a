"""Share work between processes of `accelerate launch`, on one machine or several."""

import multiprocessing
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import TrainingArguments

Result = TypeVar("Result")


def print_once(text: str) -> None:
    """Print in the first process only."""
    if PartialState().is_main_process:
        print(text)


def shared(
    n: int,
    load: Callable[[int], Any],
    compute: Callable[[Any], Result],
    description: str,
    arguments: TrainingArguments,
) -> list[Result]:
    """`[compute(load(i)) for i in range(n)]`, split between processes; each gets the whole list.

    `load` runs in the workers of a DataLoader, so that a GPU does not wait for it.
    """
    state = PartialState()
    is_forked = multiprocessing.get_start_method() == "fork"  # else `load` would be pickled
    with state.split_between_processes(list(range(n))) as indices:
        loader = DataLoader(
            indices,
            batch_size=None,
            collate_fn=load,
            num_workers=arguments.dataloader_num_workers if is_forked else 0,
            pin_memory=arguments.dataloader_pin_memory and state.device.type == "cuda",
            generator=torch.Generator(),  # keeps training's random numbers the same
        )
        is_hidden = arguments.disable_tqdm or not state.is_main_process
        loaded = tqdm(loader, description, disable=is_hidden)
        found = [(i, compute(item)) for i, item in zip(indices, loaded, strict=True)]
    by_index = dict(gather_object(found))  # if n < processes, some are computed twice
    return [by_index[i] for i in range(n)]


def in_any_process(*flags: bool) -> list[bool]:
    """For each flag, whether any process has set it; waits for the device.

    Processes that stop at different steps would wait for each other forever.
    """
    if PartialState().num_processes == 1:
        return list(flags)
    set_in = torch.tensor(flags, dtype=torch.float32, device=PartialState().device)
    return [n > 0 for n in reduce(set_in, "sum").tolist()]
