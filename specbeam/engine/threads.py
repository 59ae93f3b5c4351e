"""CPU threads of the models in this process."""

from __future__ import annotations

import os

import torch


def cpu_threads(wanted: int) -> int:
    """Return the number of CPU threads to use; 0 means every core this process may use."""
    return wanted or len(os.sched_getaffinity(0))


def set_threads(threads: int) -> None:
    """Set the CPU threads of the model work that the calling thread starts."""
    torch.set_num_threads(threads)
