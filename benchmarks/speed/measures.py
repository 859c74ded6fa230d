"""Measures engines and precisions side by side: opens one after the other, then runs them in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.report import Missing, Report, Row
from benchmarks.speed.source import Source
from benchmarks.stolen_time import StolenTime
from export.errors import ExportError
from models.engines import (
    ENGINES,
    EngineName,
    EngineOptions,
    StageEngine,
    Tensors,
    bundle_inputs,
    open_stages,
    run_stages,
)
from models.engines.opening import PRECISIONS
from models.errors import ModelError
from models.graph.bundle import Precision

ROUNDS = 5
_GPU_ENGINES: frozenset[EngineName] = frozenset({"onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "torch-cuda"})
_SIDE = 8192
"""Rows of the square matrices whose product is a GPU's ceiling."""
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Way:
    """An engine and, for PyTorch, how it runs."""

    engine: EngineName
    graphs: Literal["none", "cuda-graphs", "compile"] = "none"

    @property
    def name(self) -> str:
        """A name such as `openvino` or `torch-cuda+compile`."""
        return self.engine if self.graphs == "none" else f"{self.engine}+{self.graphs}"

    @property
    def on_gpu(self) -> bool:
        """Whether the engine needs a GPU."""
        return self.engine in _GPU_ENGINES


WAYS = (
    *(Way(engine) for engine in ENGINES),
    Way("torch-cpu", "compile"),
    Way("torch-cuda", "cuda-graphs"),
    Way("torch-cuda", "compile"),
)
"""Everything that can be measured."""
_EAGER_CPU, _EAGER_GPU = Way("torch-cpu"), Way("torch-cuda")


@dataclass(frozen=True)
class Asked:
    """The measurements to make.

    ways: engines.
    batches: clips at once; None for 1 on a CPU and powers of two up to 16 on a GPU.
    threads: threads of each engine on the CPU.
    seconds: time for each measurement.
    """

    ways: Sequence[Way]
    precisions: Sequence[Precision]
    batches: Sequence[int] | None
    threads: int
    seconds: float

    def batches_on(self, gpu: bool) -> list[int]:
        """Returns the batch sizes for a kind of device, ascending."""
        return sorted(set(self.batches or ((1, 2, 4, 8, 16) if gpu else (1,))))


@dataclass
class _Contender:
    """An engine, loaded in one precision.

    memory: bytes of the GPU that it took, by batch.
    """

    way: Way
    precision: Precision
    stages: Sequence[StageEngine]
    memory: dict[int, int | None]

    def run(self, tensors: Tensors) -> None:
        """Runs one batch of clips through all stages; returns when the results are in the memory of the CPU."""
        run_stages(self.stages, tensors)


def measure(
    source: Source, asked: Asked, say: Callable[[str], None], show: Callable[[Row], None] = lambda row: None
) -> Report:
    """Measures frames per second of the stages that see frames or clips, for clips of the network's full length.

    Always measures eager PyTorch in fp32 too, on each kind of device that is asked for; its row comes first of each
    batch. Raises ExportError where nothing runs here.

    say: takes lines about the progress.
    show: takes each row when it is there.
    """
    rows: list[Row] = []
    missing: list[Missing] = []
    flops = count_flops(source)
    with _compiling_or_failing(asked), StolenTime() as stolen:
        for gpu in (False, True):
            if ways := [way for way in asked.ways if way.on_gpu == gpu]:
                field = _Field(source, asked, gpu, flops, say)
                field.open(ways)
                for row in field.measure():
                    rows.append(row)
                    show(row)
                missing += field.missing
    if not rows:
        raise ExportError("nothing runs here: " + "; ".join(f"{each.engine}: {each.reason}" for each in missing))
    manifest = source.manifest
    return Report(
        source=source.name,
        frame_width=manifest.frame_size.width,
        frame_height=manifest.frame_size.height,
        clip_length=manifest.clip_length,
        threads=asked.threads,
        seconds=asked.seconds,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        flops_per_frame=flops,
        rows=tuple(rows),
        missing=tuple(missing),
        stolen=stolen.share,
    )


@contextmanager
def _compiling_or_failing(asked: Asked) -> Iterator[None]:
    """Lets torch fail where it would stop compiling, after many shapes, and run the operators one by one."""
    if all(way.graphs != "compile" for way in asked.ways):
        yield
        return
    from torch._dynamo import config

    with config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        yield


class _Field:
    """Everything that is measured on one kind of device."""

    def __init__(
        self, source: Source, asked: Asked, gpu: bool, flops: float | None, say: Callable[[str], None]
    ) -> None:
        """`flops`: floating-point operations for one frame."""
        self.missing: list[Missing] = []
        self._source, self._asked, self._gpu, self._flops, self._say = source, asked, gpu, flops, say
        self._batches = asked.batches_on(gpu)
        self._tensors = {batch: _random_clips(source, batch) for batch in self._batches}
        self._contenders: list[_Contender] = []

    def open(self, ways: Sequence[Way]) -> None:
        """Opens eager PyTorch in fp32, then those of `ways` that run here; runs each batch size once."""
        eager = _EAGER_GPU if self._gpu else _EAGER_CPU
        pairs: list[tuple[Way, Precision]] = [(eager, "fp32")]
        for way in ways:
            able = [precision for precision in self._asked.precisions if precision in PRECISIONS[way.engine]]
            if not able:
                unable = ", ".join(self._asked.precisions)
                self.missing.append(Missing(way.name, unable, None, f"{way.engine} does not compute in {unable}"))
            pairs += [(way, precision) for precision in able if (way, precision) != pairs[0]]
        absent: set[Way] = set()
        for way, precision in pairs:
            # An engine that does not run in fp32 is not here, so its other precisions are not made.
            if way not in absent and not self._open(way, precision) and precision == "fp32":
                absent.add(way)

    def measure(self) -> Iterator[Row]:
        """Yields one row for each contender and batch."""
        for batch in self._batches:
            able = [contender for contender in self._contenders if batch in contender.memory]
            if not able:
                return
            products = {each.precision: _product(_DTYPES[each.precision]) for each in able} if self._gpu else {}
            self._say(f"measuring {len(able)} at batch {batch}")
            runs = [partial(each.run, self._tensors[batch]) for each in able]
            rates = take_turns([*products.values(), *runs], self._asked.seconds)
            ceilings = {name: rate * 2 * _SIDE**3 for name, rate in zip(products, rates, strict=False)}
            frames = batch * self._source.manifest.clip_length
            fps = [rate * frames for rate in rates[len(products) :]]
            eager = next((rate for each, rate in zip(able, fps, strict=True) if _is_eager_fp32(each)), None)
            for contender, rate in zip(able, fps, strict=True):
                ceiling = ceilings.get(contender.precision)
                yield Row(
                    engine=contender.way.name,
                    precision=contender.precision,
                    gpu=self._gpu,
                    batch=batch,
                    fps=rate,
                    ratio=rate / eager if eager else None,
                    ceiling=ceiling,
                    share=rate * self._flops / ceiling if self._flops and ceiling else None,
                    memory=contender.memory[batch],
                )

    def _open(self, way: Way, precision: Precision) -> bool:
        self._say(f"opening {way.name} in {precision}")
        source, largest = self._source, self._batches[-1]
        before = _memory_in_use(self._gpu)
        options = EngineOptions(
            threads=self._asked.threads, max_batch=largest, checkpoint=source.checkpoint, graphs=way.graphs
        )
        try:
            bundle = source.bundle(way.engine, precision, options)
            stages = [stage for stage in open_stages(bundle, way.engine, options) if stage.span != "video"]
        except (ExportError, ModelError) as error:
            self.missing.append(Missing(way.name, precision, None, str(error)))
            return False
        contender = _Contender(way, precision, stages, {})
        for batch in self._batches:
            try:
                contender.run(self._tensors[batch])
            except Exception as error:  # compilers and runtimes have errors of their own, which share no other base
                self.missing.append(Missing(way.name, precision, batch, f"{type(error).__name__}: {error}"))
                break
            after = _memory_in_use(self._gpu, give_back=False)
            contender.memory[batch] = None if before is None or after is None else after - before
        self._contenders.append(contender)
        return True


@torch.no_grad()
def count_flops(source: Source) -> float | None:
    """Counts floating-point operations for one frame in products and convolutions; a multiply-add counts as two.

    Leaves out the stages that see whole videos, since they are not measured. Returns None where the network is not
    known.
    """
    if (network := source.network) is None:
        return None
    network.requires_grad_(False)  # the counter would hook itself into gradients
    stages = [stage for stage in network.stages() if stage.span != "video"]
    with FlopCounterMode(display=False) as counter:
        run_stages(stages, _random_clips(source, 1))
    return float(counter.get_total_flops()) / source.manifest.clip_length


def take_turns(runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Returns the runs per second of each function: the median over `ROUNDS` rounds, in which all take turns.

    A machine that gets slower or faster meanwhile does so for all of them. `seconds` is the time for each function in
    all rounds together; each turn is at least one run.
    """
    rates: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, known in zip(runs, rates, strict=True):
            known.append(_rate(run, seconds / ROUNDS))
    return [median(known) for known in rates]


def _rate(run: Callable[[], object], seconds: float) -> float:
    began, elapsed, count = time.perf_counter(), 0.0, 0
    while count == 0 or elapsed < seconds:
        run()
        count += 1
        elapsed = time.perf_counter() - began
    return count / elapsed


def _is_eager_fp32(contender: _Contender) -> bool:
    return contender.way in (_EAGER_CPU, _EAGER_GPU) and contender.precision == "fp32"


def _random_clips(source: Source, batch: int) -> Tensors:
    manifest = source.manifest
    size, length = manifest.frame_size, manifest.clip_length
    shape = (batch, length, size.height, size.width, 3)
    moments = np.arange(length, dtype=np.float32) / np.float32(2)  # the service samples two frames a second
    return bundle_inputs(np.random.default_rng(batch).integers(0, 256, shape, np.uint8), moments)


def _product(dtype: torch.dtype) -> Callable[[], None]:
    """Returns a function that multiplies two large square matrices on the GPU, in fp32 without TF32."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    # Not zeros: a chip that multiplies those draws less power and runs faster.
    left, right = (torch.randn(_SIDE, _SIDE, device="cuda").to(dtype) for _ in range(2))
    result = torch.empty(_SIDE, _SIDE, device="cuda", dtype=dtype)

    def multiply() -> None:
        torch.matmul(left, right, out=result)
        torch.cuda.synchronize()

    multiply()
    return multiply


def _memory_in_use(gpu: bool, *, give_back: bool = True) -> int | None:
    """Returns the bytes of the GPU in use by any process; None where torch sees no GPU."""
    if not gpu or not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    if give_back:
        torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return total - free
