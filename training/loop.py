"""The training loop: resumable, on one process or many (torchrun), with mixed precision, through accelerate."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, InitProcessGroupKwargs, set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from models.networks.processes import mean_over_processes
from training.configuration import TrainingConfig
from training.data.facts import describe_data
from training.errors import ConfigurationError, DataError, DivergedError, SaveError
from training.objectives import make_objective
from training.objectives.objective import Objective
from training.run_folder import RunFolder, identity_of, plain_values

log = logging.getLogger("vsg.train")

_SHOWN = ("no/R@20", "no/R@50", "no/mR@50", "with/R@10", "with/R@20", "with/mR@10", "with/P@10")
"""Validation figures that the log shows; TensorBoard has all."""
_LONGEST_WAIT = timedelta(days=1)
"""The time that processes wait for the first one, which fills caches and validates alone."""
_SEEDS = 10_000_019
"""Numbers between the seeds of two processes: more than a run has steps."""
_LARGEST_WEIGHT = 1e4
"""No weight of a network that learns comes near it; beyond it boxes overflow, and some operators crash on those."""


def train(config: TrainingConfig, *, resume: bool = True, command: str = "") -> Path:
    """Runs a configuration to its last step and returns the path of the checkpoint.

    With `resume` a run that was stopped goes on from its last saved state, with the same data order. Raises
    ConfigurationError where the folder holds a run of another configuration, data, starting weights or number of
    processes, or is in use, and where a file that the configuration names is missing; DivergedError when the loss is
    not finite or the weights explode; SaveError where a state cannot be written or read.
    """
    if missing := config.missing_files():
        raise ConfigurationError("; ".join(f"{key}: {file} is not a file" for key, file in missing.items()))
    if config.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise ConfigurationError("mixed_precision is fp16, which needs a GPU; take bf16 or no")
    # Accelerate keeps the precision of a process's first run for all that follow.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with="tensorboard",
        project_dir=config.output,
        cpu=not torch.cuda.is_available(),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
    )
    run = RunFolder(config.output)
    with run.locked() if accelerator.is_main_process else nullcontext():
        try:
            return _train(config, accelerator, run, resume=resume, command=command)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise SaveError(f"{config.output}: {error.strerror}; make room, and start again to go on") from error


def _train(config: TrainingConfig, accelerator: Accelerator, run: RunFolder, *, resume: bool, command: str) -> Path:
    identity = identity_of(config, accelerator.num_processes) if accelerator.is_main_process else {}
    if accelerator.is_main_process:
        if resume:  # before caches are filled
            run.claim(identity)
        for line in config.unread_keys():
            log.warning("%s", line)
    set_seed(config.seed)
    # Caches of frames and pairs are filled once, by the first process, before the others read them.
    with accelerator.main_process_first():
        objective = make_objective(config, accelerator.device)
    if accelerator.is_main_process:
        if not resume:
            run.clear()
        run.claim(identity | {"data": objective.data_key})
    if config.epochs is not None:
        config = replace(config, steps=steps_of(config.epochs, objective, config, accelerator.num_processes))
    model = objective.model
    loader: Any = DataLoader(
        objective.dataset, config.batch_size, shuffle=True, drop_last=True, collate_fn=objective.collate,
        num_workers=config.workers, persistent_workers=config.workers > 0,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(objective.parameter_groups(), weight_decay=config.weight_decay, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: _rate(step, config))
    average = None
    if config.averaging:
        average = AveragedModel(model, avg_fn=partial(_average, config.averaging), use_buffers=True)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(scheduler, *([average] if average is not None else []))
    accelerator.init_trackers("tensorboard")
    step = run.load_state(accelerator)
    if step and accelerator.is_main_process:
        log.info("resumed at step %d", step)
    provenance = {
        "config": plain_values(config),
        "data": describe_data(config.data),
        "command": command,
    }
    generator = torch.Generator()
    best: nn.Module = average.module if average is not None else accelerator.unwrap_model(prepared)
    checkpoint = config.output / "checkpoint.pt"

    with _bar(accelerator, config.steps) as advance:
        for batch in _batches(accelerator, loader, step):
            if step >= config.steps:
                break
            # Seeded by the step, so that a resumed run augments, samples and drops out as a straight one would.
            seed = config.seed + 1 + step + _SEEDS * accelerator.process_index
            generator.manual_seed(seed)
            set_seed(seed)
            terms = _step(accelerator, prepared, optimizer, objective, objective.prepare(batch, generator), config)
            scheduler.step()
            if average is not None:
                average.update_parameters(accelerator.unwrap_model(prepared))
            step += 1
            advance(step, terms)
            if step % 20 == 0:
                accelerator.log({f"loss/{name}": value for name, value in terms.items()}, step=step)
                accelerator.log({"learning_rate": scheduler.get_last_lr()[0]}, step=step)
            if (
                config.validates
                and accelerator.is_main_process
                and (step % config.evaluate_every == 0 or step == config.steps)
            ):
                _validate(accelerator, best, objective, step)
                objective.save(checkpoint, best, provenance)
            # After the validation: a run that is killed in between makes up for it.
            if step % config.save_every == 0:
                run.save_state(accelerator, step)
    if accelerator.is_main_process:
        objective.save(checkpoint, best.eval(), provenance)
    accelerator.wait_for_everyone()  # a process that leaves while another still saves may wait for it for ever
    accelerator.end_training()
    return checkpoint


def steps_of(epochs: int, objective: Objective, config: TrainingConfig, processes: int) -> int:
    """Returns the number of steps in which all processes together show the training data so many times."""
    return math.ceil(epochs * objective.items_per_epoch / (config.batch_size * processes))


def _rate(step: int, config: TrainingConfig) -> float:
    """Factor on the learning rate at a step: a linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "step":
        return 1.0 if done < 0.75 else 0.1
    return 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, done))) / 2


def _average(decay: float, average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
    """Exponential moving average that follows faster at first, so that the start's random weights do not linger."""
    weight = max(1 - decay, 9 / (10 + float(updates)))
    return average + (current - average) * weight


def _step(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, objective: Objective, batch: Any, config: TrainingConfig
) -> dict[str, float]:
    """One optimiser step; returns the loss terms."""
    model.train()
    terms = objective.loss_terms(model, batch, accelerator.device)
    loss = torch.stack(list(terms.values())).sum()
    # The same on all processes, so that all stop together.
    means = mean_over_processes(torch.stack([*terms.values(), loss]).detach())
    values = dict(zip([*terms, "total"], means.tolist(), strict=True))
    if not math.isfinite(values["total"]):
        raise DivergedError(f"the loss became {values['total']} ({values}); lower learning_rate or clip_gradient_norm")
    optimizer.zero_grad()
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), config.clip_gradient_norm)
    optimizer.step()
    largest = float(nn.utils.get_total_norm(model.parameters(), math.inf))
    if not largest < _LARGEST_WEIGHT:
        raise DivergedError(
            f"the largest weight became {largest:g} at a loss of {values['total']:g}; "
            "lower learning_rate or clip_gradient_norm"
        )
    return values


def _batches(accelerator: Accelerator, loader: Any, step: int) -> Iterator[Any]:
    """Endless batches, from where a resumed run left off: the same order as if it had never stopped."""
    if len(loader) == 0:
        raise DataError("the training split has fewer clips than one batch; lower batch_size or add data")
    epoch, skipped = divmod(step, len(loader))
    while True:
        loader.set_epoch(epoch)
        yield from accelerator.skip_first_batches(loader, skipped) if skipped else loader
        epoch, skipped = epoch + 1, 0


@torch.no_grad()
def _validate(accelerator: Accelerator, model: nn.Module, objective: Objective, step: int) -> None:
    figures = objective.validate(model.eval())
    flat = {f"{constraint}/{name}": value for constraint, values in figures.items() for name, value in values.items()}
    accelerator.log({f"validation/{name}": value for name, value in flat.items()}, step=step)
    known = [name for name in _SHOWN if name in flat] or list(flat)
    log.info("step %d: %s", step, "  ".join(f"{name} {flat[name]:.3f}" for name in known))


@contextmanager
def _bar(accelerator: Accelerator, steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A progress bar on a terminal, and a log line now and then everywhere."""
    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    shown = accelerator.is_main_process and console.is_terminal
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task("training", total=steps, loss="")

        def advance(step: int, terms: dict[str, float]) -> None:
            progress.update(task, completed=step, loss=f"loss {terms['total']:.3f}")
            if step % 100 == 0 and accelerator.is_main_process:
                log.info(
                    "step %d/%d: %s", step, steps, "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
                )

        yield advance
