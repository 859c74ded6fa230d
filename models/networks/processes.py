"""Counts that the processes of a training run share."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_processes(total: Tensor) -> Tensor:
    """Averages a sum or a count over the processes of a run; alone it is returned as it is.

    Several processes average their gradients. Where each divides its loss by the averaged count, as DETR does, the
    average is the gradient of one process that has all clips. All processes must call it, equally often.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return total
    shared = total.detach().float()
    distributed.all_reduce(shared)
    return shared / distributed.get_world_size()
