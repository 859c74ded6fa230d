"""OED's files as its code writes them, small, and what that code computes, written out frame by frame and pair by pair.

Names, shapes and formulas follow the official repository (guanw-pku/OED), not this project's modules.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.ops import FrozenBatchNorm2d

WIDTH, HEADS, HIDDEN, QUERIES = 32, 4, 48, 80
HEAD_ROWS = {"obj": 38, "attn": 4, "spatial": 6, "contacting": 17}
ARGUMENTS = {
    "backbone": "resnet18", "hidden_dim": WIDTH, "nheads": HEADS, "dim_feedforward": HIDDEN, "num_queries": QUERIES,
    "enc_layers": 1, "dec_layers_hopd": 2, "dec_layers_interaction": 1, "position_embedding": "sine", "dilation": False,
    "pre_norm": False, "masks": False, "dsgg_task": "sgdet", "dataset_file": "ag_multi", "num_ref_frames": 2,
    "interval1": 4, "interval2": 4, "dec_layers_temporal": 1, "seq_sort": False, "one_temp": False, "lr": 1e-4,
    "query_temporal_interaction": True, "use_nms_filter": True, "eval": False, "output_dir": "exps/temporal",
}  # fmt: skip
State = dict[str, Tensor]


def oed_state(*, temporal: bool, seed: int = 0) -> State:
    """Random weights under the published names; no norm is the identity."""
    random = torch.Generator().manual_seed(seed)
    state: State = {}

    def draw(name: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> None:
        state[name] = around + scale * torch.randn(shape, generator=random)

    def linear(name: str, width_in: int, width_out: int, scale: float = 1.0) -> None:
        draw(f"{name}.weight", width_out, width_in, scale=scale * width_in**-0.5)
        draw(f"{name}.bias", width_out, scale=0.3)

    def norm(name: str, width: int) -> None:
        draw(f"{name}.weight", width, scale=0.2, around=1.0)
        draw(f"{name}.bias", width, scale=0.2)

    def layer(name: str, width: int, attentions: tuple[str, ...], norms: int) -> None:
        for attention in attentions:
            draw(f"{name}.{attention}.in_proj_weight", 3 * width, width, scale=1.5 * width**-0.5)
            draw(f"{name}.{attention}.in_proj_bias", 3 * width, scale=0.2)
            linear(f"{name}.{attention}.out_proj", width, width)
        linear(f"{name}.linear1", width, HIDDEN)
        linear(f"{name}.linear2", HIDDEN, width)
        for number in range(1, norms + 1):
            norm(f"{name}.norm{number}", width)

    for name, value in resnet18(weights=None, norm_layer=FrozenBatchNorm2d).state_dict().items():
        if name.startswith("fc."):
            continue
        if value.dim() == 4:
            draw(f"backbone.0.body.{name}", *value.shape, scale=(2 / value[0].numel()) ** 0.5)
        else:
            positive = name.endswith(("running_var", "weight"))
            draw(f"backbone.0.body.{name}", *value.shape, scale=0.1, around=float(positive))
    draw("input_proj.weight", WIDTH, 512, 1, 1, scale=512**-0.5)
    draw("input_proj.bias", WIDTH, scale=0.2)
    draw("query_embed.weight", QUERIES, WIDTH)
    layer("transformer.encoder.layers.0", WIDTH, ("self_attn",), 2)
    for decoder, layers in (("decoder", 2), ("interaction_decoder", 1)):
        for number in range(layers):
            layer(f"transformer.{decoder}.layers.{number}", WIDTH, ("self_attn", "multihead_attn"), 3)
        norm(f"transformer.{decoder}.norm", WIDTH)
    for prefix in ("", "temporal_") if temporal else ("",):
        for head, rows in HEAD_ROWS.items():
            linear(f"{prefix}{head}_class_embed", WIDTH, rows, 2.0)
        for box in ("sub", "obj"):
            for number, rows in enumerate((WIDTH, WIDTH, 4)):
                linear(f"{prefix}{box}_bbox_embed.layers.{number}", WIDTH, rows)
    for number in (1, 2, 3) if temporal else ():
        layer(f"transformer.temporal_query_layer{number}", 2 * WIDTH, ("self_attn", "cross_attn"), 3)
    return state


def write_oed(path: Path, state: State, **arguments: Any) -> Path:
    """Writes a file as OED's training does, with its optimizer and its command line."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 1e-5}], lr=1e-4)
    weight.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 40)
    content = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(**(ARGUMENTS | arguments)),
    }
    torch.save(content, path)
    return path


@torch.no_grad()
def expected_outputs(state: State, frames: np.ndarray) -> dict[str, Tensor]:
    """What OED computes of the frames (T, H, W, 3) of one video: each output (T, QUERIES, …), its boxes by centre."""
    made = [_Spatial(state, frame) for frame in frames]
    if "temporal_obj_class_embed.weight" not in state:
        return _stack([one.describe("", one.instances, one.relations) for one in made])
    described = []
    for number, one in enumerate(made):
        pairs = torch.cat((one.instances, one.relations), -1)
        others = [made[other] for other in expected_references(len(made), number)]
        seen = torch.cat([torch.cat((other.instances, other.relations), -1) for other in others])
        order = torch.cat([other.rank() for other in others]).argsort(descending=True)
        for layer, kept in enumerate((80, 50, 30), start=1):
            name = f"transformer.temporal_query_layer{layer}"
            best = seen[order[: kept * len(others)]]
            pairs = _norm(state, f"{name}.norm2", pairs + _attend(state, f"{name}.self_attn", pairs, pairs, pairs))
            pairs = _norm(state, f"{name}.norm1", pairs + _attend(state, f"{name}.cross_attn", pairs, best, best))
            pairs = _norm(state, f"{name}.norm3", pairs + _feed(state, name, pairs))
        described.append(one.describe("temporal_", pairs[:, :WIDTH], pairs[:, WIDTH:]))
    return _stack(described)


def expected_references(time: int, number: int, count: int = 2, distance: int = 4) -> list[int]:
    """The reference frames of the official evaluation. It has no rule for a video of one frame."""
    around = [each for each in range(time) if each != number and abs(each - number) <= distance]
    if not around:
        return [number] * count
    step = (len(around) - 1) // (count - 1) if len(around) > count else 1
    chosen = around[::step]
    while len(chosen) < count:
        chosen += chosen
    return chosen[:count]


class _Spatial:
    """OED's spatial stage on one frame, (H, W, 3) uint8."""

    def __init__(self, state: State, frame: np.ndarray) -> None:
        self.state = state
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        image = (image - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)) / torch.tensor((0.229, 0.224, 0.225)).view(
            3, 1, 1
        )
        body = resnet18(weights=None, norm_layer=FrozenBatchNorm2d).eval()
        body.fc = torch.nn.Identity()
        body.avgpool = torch.nn.Identity()
        body.load_state_dict({name[16:]: value for name, value in state.items() if name.startswith("backbone.0.body.")})
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            image = getattr(body, name)(image)
        mapped = F.conv2d(image, state["input_proj.weight"], state["input_proj.bias"])[0]
        place = _positions(*mapped.shape[1:])
        tokens = mapped.flatten(1).T
        name = "transformer.encoder.layers.0"
        placed = tokens + place
        tokens = _norm(state, f"{name}.norm1", tokens + _attend(state, f"{name}.self_attn", placed, placed, tokens))
        self.tokens = _norm(state, f"{name}.norm2", tokens + _feed(state, name, tokens))
        self.keys = self.tokens + place
        self.instances = self._decode("decoder", 2, state["query_embed.weight"])
        self.relations = self._decode("interaction_decoder", 1, self.instances)

    def _decode(self, decoder: str, layers: int, position: Tensor) -> Tensor:
        queries, state = torch.zeros_like(position), self.state
        for number in range(layers):
            name = f"transformer.{decoder}.layers.{number}"
            placed = queries + position
            looked = _attend(state, f"{name}.self_attn", placed, placed, queries)
            queries = _norm(state, f"{name}.norm1", queries + looked)
            looked = _attend(state, f"{name}.multihead_attn", queries + position, self.keys, self.tokens)
            queries = _norm(state, f"{name}.norm2", queries + looked)
            queries = _norm(state, f"{name}.norm3", queries + _feed(state, name, queries))
        return _norm(state, f"transformer.{decoder}.norm", queries)

    def rank(self) -> Tensor:
        said = {
            name: _linear(self.state, f"{name}_class_embed", self.instances if name == "obj" else self.relations)
            for name in HEAD_ROWS
        }
        ranks = torch.ones(QUERIES)
        for name, logits in said.items():
            scores = logits.softmax(-1)[:, :-1] if name in ("obj", "attn") else logits.sigmoid()
            ranks = ranks * scores.max(-1).values
        return ranks

    def describe(self, prefix: str, instances: Tensor, relations: Tensor) -> dict[str, Tensor]:
        state = self.state
        boxes = {}
        for box, name in (("sub", "subject_boxes"), ("obj", "object_boxes")):
            head = f"{prefix}{box}_bbox_embed.layers"
            hidden = _linear(state, f"{head}.1", _linear(state, f"{head}.0", instances).relu()).relu()
            boxes[name] = _linear(state, f"{head}.2", hidden).sigmoid()
        return {
            **boxes,
            "object_scores": _linear(state, f"{prefix}obj_class_embed", instances).softmax(-1)[:, 1:37],
            "attention": _linear(state, f"{prefix}attn_class_embed", relations)[:, :3].softmax(-1),
            "spatial": _linear(state, f"{prefix}spatial_class_embed", relations).sigmoid(),
            "contacting": _linear(state, f"{prefix}contacting_class_embed", relations).sigmoid(),
        }


def _stack(frames: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([frame[name] for frame in frames]) for name in frames[0]}


def _positions(rows: int, columns: int) -> Tensor:
    """DETR's sine code of the cells of a map, (rows * columns, WIDTH)."""
    steps = 10000 ** (2 * (torch.arange(WIDTH // 2) // 2) / (WIDTH // 2))

    def code(number: int, count: int) -> Tensor:
        angles = torch.tensor((number + 1) / (count + 1e-6) * 2 * np.pi) / steps
        return torch.stack((angles[0::2].sin(), angles[1::2].cos()), 1).flatten()

    cells = [torch.cat((code(y, rows), code(x, columns))) for y in range(rows) for x in range(columns)]
    return torch.stack(cells).float()


def _attend(state: State, name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    attended, _ = F.multi_head_attention_forward(
        query[:, None], key[:, None], value[:, None], query.shape[-1], HEADS, state[f"{name}.in_proj_weight"],
        state[f"{name}.in_proj_bias"], None, None, False, 0.0, state[f"{name}.out_proj.weight"],
        state[f"{name}.out_proj.bias"], training=False, need_weights=False,
    )  # fmt: skip
    return attended[:, 0]


def _linear(state: State, name: str, values: Tensor) -> Tensor:
    return F.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])


def _feed(state: State, name: str, values: Tensor) -> Tensor:
    return _linear(state, f"{name}.linear2", _linear(state, f"{name}.linear1", values).relu())


def _norm(state: State, name: str, values: Tensor) -> Tensor:
    return F.layer_norm(values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])
