"""Work that several processes share; `accelerate launch` starts them."""

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from tqdm.auto import tqdm

Result = TypeVar("Result")


def print_once(text: str) -> None:
    """By the first of several processes."""
    if PartialState().is_main_process:
        print(text)


def shared(
    n: int, function: Callable[[int], Result], description: str, is_quiet: bool = False
) -> list[Result]:
    """`[function(i) for i in range(n)]`, each `i` in one process; all of them get the list."""
    is_hidden = is_quiet or not PartialState().is_main_process
    with PartialState().split_between_processes(list(range(n))) as indices:
        found = [(i, function(i)) for i in tqdm(indices, description, disable=is_hidden)]
    by_index = dict(gather_object(found))  # with fewer than processes, some are computed twice
    return [by_index[i] for i in range(n)]


def in_any_process(flag: bool) -> bool:
    """Processes that stop at different steps would wait for each other for ever."""
    if PartialState().num_processes == 1:
        return flag
    return bool(reduce(torch.tensor(float(flag), device=PartialState().device), "sum"))
