"""PyTorch as the reference engine: eager, compiled or, on a GPU, as captured CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from models.engines.batches import Piece, buckets_of, pieces
from models.engines.engine import Arrays, EngineOptions, Tensors
from models.engines.running import bundle_inputs, run_stages
from models.errors import EngineError
from models.graph.bundle import FRAMES, Bundle, Precision, Stage
from models.graph.validation import in_words
from models.networks.checkpoint import Incomplete, Network, NetworkConfig, load_checkpoint, make_network
from models.networks.stages import NetworkStage, SceneGraphNetwork

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Compute = Callable[..., tuple[Tensor, ...]]


def open_torch(bundle: Bundle, engine: Literal["torch-cpu", "torch-cuda"], options: EngineOptions) -> Sequence[Torch]:
    """Opens all stages; `options.threads` holds for all of torch in this process.

    Raises EngineError where there is no GPU, or where the network is unknown or not the bundle's.
    """
    if engine == "torch-cpu":
        device = torch.device("cpu")
        torch.set_num_threads(options.threads or torch.get_num_threads())
    else:
        device = _gpu(options.device)
    if options.graphs == "cuda-graphs" and engine == "torch-cpu":
        raise EngineError("torch-cpu has no CUDA graphs; take torch-cuda, or the graphs `none` or `compile`")
    if engine == "torch-cuda" and bundle.manifest.precision == "fp32":
        # By default torch convolves in TF32. Only this older switch sets all flags that torch.export compares.
        torch.backends.cudnn.allow_tf32 = False
    network = _network(bundle, options).to(device).eval()
    if isinstance(network, Incomplete):
        raise EngineError(
            f"{options.checkpoint} holds a {network.config.network} alone; name the checkpoint the bundle is made of"
        )
    sources = {source.name: source for source in network.stages()}
    if [stage.name for stage in bundle.manifest.stages] != list(sources):
        raise EngineError(
            f"the network has the stages {', '.join(sources)}, which are not those of {bundle.folder}; "
            "name the checkpoint that the bundle is made of"
        )
    blanks = _blanks(network, device)
    return [Torch(engine, bundle, stage, sources[stage.name], blanks, options) for stage in bundle.manifest.stages]


def _gpu(index: int) -> torch.device:
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # torch without CUDA, a machine without GPU
        raise EngineError(f"torch-cuda cannot run here: {error}; choose a CPU engine") from error
    if index >= torch.cuda.device_count():
        raise EngineError(f"there is no GPU {index}; torch sees {torch.cuda.device_count()}, numbered from 0")
    return torch.device("cuda", index)


def _network(bundle: Bundle, options: EngineOptions) -> Network:
    if options.checkpoint is not None:
        return load_checkpoint(options.checkpoint)[0]
    if bundle.manifest.training.network is None:
        raise EngineError(
            f"{bundle.folder} does not say which network it holds; name its checkpoint, or choose another engine for a "
            "bundle of `vsg join`"
        )
    adapter: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
    try:
        config = adapter.validate_python(bundle.manifest.training.network)
    except ValidationError as error:
        raise EngineError(f"{bundle.folder}: training.network is of another version: {in_words(error)}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_network(config, bundle.manifest.vocabulary)


def _blanks(network: SceneGraphNetwork, device: torch.device) -> dict[str, Tensor]:
    """Returns zeros of the shape that each tensor has for one frame.

    Export drops inputs of a stage that no output depends on, but the stage's module still takes them.
    """
    frame = bundle_inputs(np.zeros((1, 1, *network.frame_size, 3), np.uint8), np.zeros((1, 1)))
    known = run_stages(network.stages(), frame)
    return {name: torch.zeros_like(torch.from_numpy(array), device=device) for name, array in known.items()}


class Torch:
    """One stage in torch; on a GPU batches are padded to buckets."""

    def __init__(
        self,
        engine: Literal["torch-cpu", "torch-cuda"],
        bundle: Bundle,
        stage: Stage,
        source: NetworkStage,
        blanks: Mapping[str, Tensor],
        options: EngineOptions,
    ) -> None:
        self.name = engine
        self._source = source
        self._wanted = [tensor.name for tensor in stage.outputs]
        self.inputs = tuple(tensor.name for tensor in stage.inputs)
        self.span = stage.span
        self._blanks = blanks
        self._device = blanks[FRAMES].device
        self._buckets = buckets_of(stage, options.buckets) if engine == "torch-cuda" else None
        self._compute = self._prepare(_DTYPES[bundle.manifest.precision], options, bundle.manifest.clip_length)

    def _prepare(self, dtype: torch.dtype, options: EngineOptions, clip_length: int) -> Compute:
        module, device = self._source.module, self._device.type

        def compute(*inputs: Tensor) -> tuple[Tensor, ...]:
            # Weights cast during the capture of a graph would be gone when it is replayed.
            kept = options.graphs != "cuda-graphs"
            with torch.autocast(device, dtype, enabled=dtype != torch.float32, cache_enabled=kept):
                outputs = module(*inputs)
            return tuple(output.float() if output.is_floating_point() else output for output in outputs)

        match options.graphs:
            case "none":
                return compute
            case "compile":
                # Inductor's attention pattern for half precision fails on five axes: it permutes four.
                compiled: Compute = torch.compile(compute, options={"pattern_matcher": False})
                return compiled
            case "cuda-graphs":
                captured = _Captured(self._source.name, compute)
                with torch.inference_mode():  # fails now rather than at the first video
                    captured(*(self._blank(name, 1, clip_length) for name in self._source.inputs))
                return captured

    @torch.inference_mode()
    def run(self, tensors: Arrays) -> Tensors:
        """Returns the stage's outputs by name, (B, T, …) each."""
        batch, time = tensors[self.inputs[0]].shape[:2]
        parts = [self._run(tensors, piece, time) for piece in pieces(batch, self._buckets or (batch,))]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._wanted}

    def _run(self, tensors: Arrays, piece: Piece, time: int) -> Tensors:
        inputs = [
            self._padded(tensors[name], piece) if name in self.inputs else self._blank(name, piece.size, time)
            for name in self._source.inputs
        ]
        outputs = dict(zip(self._source.outputs, self._compute(*inputs), strict=True))
        return {name: outputs[name][: piece.stop - piece.start].cpu().numpy() for name in self._wanted}

    def _padded(self, array: NDArray[np.generic], piece: Piece) -> Tensor:
        """Returns a piece of a batch on the device, padded with its first item."""
        part = torch.from_numpy(np.ascontiguousarray(array[piece.start : piece.stop])).to(self._device)
        missing = piece.size - part.shape[0]
        return torch.cat((part, part[:1].expand(missing, *part.shape[1:]))) if missing else part

    def _blank(self, name: str, batch: int, time: int) -> Tensor:
        blank = self._blanks[name]
        return blank.expand(batch, time, *blank.shape[2:])


class _Captured:
    """Captures a CUDA graph for each new shape and replays it afterwards."""

    def __init__(self, stage: str, compute: Compute) -> None:
        self._stage = stage
        self._compute = compute
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        shape = inputs[0].shape[:2]
        if shape not in self._graphs:
            self._graphs[shape] = self._capture([tensor.clone() for tensor in inputs])
        graph, places, outputs = self._graphs[shape]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor)
        graph.replay()
        return outputs

    def _capture(self, places: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]:
        """Captures a graph after three runs on another stream, so that libraries are set up, as torch requires."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._compute(*places)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                outputs = self._compute(*places)
        except RuntimeError as error:
            raise EngineError(
                f"stage {self._stage!r} cannot be captured as a CUDA graph: {error}; "
                "take the graphs `none` or `compile`"
            ) from error
        return graph, places, outputs
