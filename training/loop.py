"""The training loop: resumable, on one process or many (torchrun), with mixed precision, through accelerate."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from models.arn import Arn
from models.arn.weights import load_detr_weights
from models.checkpoint import load_matching_weights, save_checkpoint
from models.clip_image import ClipImageEncoder
from models.clip_text import text_embeddings
from training.action_genome import AnnotatedVideo, load_action_genome
from training.clips import ClipBatch, ClipDataset, collate
from training.configuration import TrainingConfig
from training.data_facts import describe_data
from training.errors import DataError, DivergedError
from training.losses import arn_loss
from training.prediction import evaluate_videos, network_predictor

log = logging.getLogger("vsg.train")


def train(config: TrainingConfig, *, resume: bool = True, command: str = "") -> Path:
    """Runs a configuration to its last step and returns the path of the checkpoint.

    With `resume` a run that was stopped goes on from its last saved state, with the same data order. Raises
    DivergedError when the loss is not finite.
    """
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with="tensorboard",
        project_dir=config.output,
        cpu=not torch.cuda.is_available(),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
    )
    set_seed(config.seed)
    videos = load_action_genome(config.data, split="train", small_objects=config.small_objects)
    held_out = config.validation_videos
    training_videos, validation_videos = videos[: len(videos) - held_out], videos[len(videos) - held_out :]
    loader: Any = _loader(config, training_videos)
    model = _network(config)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), weight_decay=config.weight_decay, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: _rate(step, config))
    average = None
    if config.averaging:
        average = AveragedModel(model, avg_fn=partial(_average, config.averaging), use_buffers=True)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(scheduler, *([average] if average is not None else []))
    imitated = ClipImageEncoder().to(accelerator.device) if config.model.mimicry else None
    accelerator.init_trackers("tensorboard")
    state = config.output / "state"
    step = _resume(accelerator, state) if resume else 0
    provenance = {
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "data": describe_data(config.data),
        "command": command,
    }
    generator = torch.Generator()
    best = cast(Arn, average.module if average is not None else accelerator.unwrap_model(prepared))

    with _bar(accelerator, config.steps) as advance:
        for batch in _batches(accelerator, loader, step):
            if step >= config.steps:
                break
            # Seeded by the step, so that a resumed run changes its batches as a straight one would.
            generator.manual_seed(config.seed + 1 + step)
            terms = _step(accelerator, prepared, optimizer, config.augmentation(batch, generator), config, imitated)
            scheduler.step()
            if average is not None:
                average.update_parameters(accelerator.unwrap_model(prepared))
            step += 1
            advance(step, terms)
            if step % 20 == 0:
                accelerator.log({f"loss/{name}": value for name, value in terms.items()}, step=step)
                accelerator.log({"learning_rate": scheduler.get_last_lr()[0]}, step=step)
            if step % config.save_every == 0:
                accelerator.save_state(str(state))
                (state / "step").write_text(str(step))
            if (
                validation_videos
                and accelerator.is_main_process
                and (step % config.evaluate_every == 0 or step == config.steps)
            ):
                _validate(accelerator, best, validation_videos, config, step)
                save_checkpoint(config.output / "checkpoint.pt", best, provenance)
    checkpoint = config.output / "checkpoint.pt"
    if accelerator.is_main_process:
        save_checkpoint(checkpoint, best, provenance)
    accelerator.end_training()
    return checkpoint


def _network(config: TrainingConfig) -> Arn:
    model = Arn(config.model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.model.triplet_prediction and config.initialise_from is None:
        model.initialise_text(text_embeddings(config.text_embeddings))
    if config.detr_weights is not None:
        log.info("%s", load_detr_weights(model, config.detr_weights))
    if config.initialise_from is not None:
        fresh = load_matching_weights(model, config.initialise_from)
        log.info("started from %s; new weights: %s", config.initialise_from, ", ".join(fresh) or "none")
    return model


def _loader(config: TrainingConfig, videos: list[AnnotatedVideo]) -> DataLoader[Any]:
    height, width = config.model.frame_height, config.model.frame_width
    cache = config.data / "cache" / f"train_{height}x{width}_{len(videos)}.npy" if config.cache_frames else None
    dataset = ClipDataset(videos, height=height, width=width, clip_length=config.clip_length, cache=cache)
    log.info("%d videos, %d frames, %d clips of %d", len(videos), len(dataset.paths), len(dataset), config.clip_length)
    return DataLoader(
        dataset, config.batch_size, shuffle=True, drop_last=True, collate_fn=collate, num_workers=config.workers,
        persistent_workers=config.workers > 0,
    )  # fmt: skip


def _parameter_groups(model: Arn, config: TrainingConfig) -> list[dict[str, Any]]:
    """Three learning rates: backbone, classifiers that start from text, everything else."""
    rates = {
        "backbone": config.backbone_learning_rate or config.learning_rate,
        "text": config.text_learning_rate or config.learning_rate,
        "rest": config.learning_rate,
    }
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in model.named_parameters():
        if config.freeze_backbone and name.startswith("backbone."):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups["backbone" if name.startswith("backbone.") else "text" if name.endswith(".text") else "rest"].append(
                parameter
            )
    return [{"params": groups[name], "lr": rate} for name, rate in rates.items() if groups[name]]


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
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    batch: ClipBatch,
    config: TrainingConfig,
    imitated: ClipImageEncoder | None,
) -> dict[str, float]:
    """One optimiser step; returns the loss terms. `imitated` embeds the frames for the mimicry term, where it is on."""
    model.train()
    frames, targets = batch.frames.to(accelerator.device, non_blocking=True), batch.targets.to(accelerator.device)
    with accelerator.autocast():
        output = model(frames)
    with torch.autocast(accelerator.device.type, enabled=False):
        image_embeddings = None if imitated is None else imitated(frames)
        terms = arn_loss(output, targets, config.loss, image_embeddings)
        loss = torch.stack(list(terms.values())).sum()
    values = {name: float(term.detach()) for name, term in terms.items()} | {"total": float(loss.detach())}
    if not math.isfinite(values["total"]):
        raise DivergedError(f"the loss became {values['total']} ({values}); lower learning_rate or clip_gradient_norm")
    optimizer.zero_grad()
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), config.clip_gradient_norm)
    optimizer.step()
    return values


def _batches(accelerator: Accelerator, loader: Any, step: int) -> Iterator[ClipBatch]:
    """Endless batches, from where a resumed run left off: the same order as if it had never stopped."""
    if len(loader) == 0:
        raise DataError("the training split has fewer clips than one batch; lower batch_size or add data")
    epoch, skipped = divmod(step, len(loader))
    while True:
        loader.set_epoch(epoch)
        yield from accelerator.skip_first_batches(loader, skipped) if skipped else loader
        epoch, skipped = epoch + 1, 0


def _resume(accelerator: Accelerator, state: Path) -> int:
    if not (state / "step").is_file():
        return 0
    accelerator.load_state(str(state))
    step = int((state / "step").read_text())
    log.info("resumed at step %d", step)
    return step


@torch.no_grad()
def _validate(
    accelerator: Accelerator, model: Arn, videos: list[AnnotatedVideo], config: TrainingConfig, step: int
) -> None:
    model.eval()
    shape = config.model
    figures = evaluate_videos(
        videos, network_predictor(model), shape.frame_height, shape.frame_width, config.clip_length
    )
    flat = {f"{constraint}/{name}": value for constraint, values in figures.items() for name, value in values.items()}
    accelerator.log({f"validation/{name}": value for name, value in flat.items()}, step=step)
    shown = ("no/R@20", "no/R@50", "no/mR@50", "with/R@20")
    log.info("step %d: %s", step, "  ".join(f"{name} {flat[name]:.3f}" for name in shown))


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
