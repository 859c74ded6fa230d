"""STTran's published files, small: the names of its repository (yrcong/STTran), and its rules written out in loops."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import nms

from models.networks.relations.sttran import SttranConfig

State = dict[str, Tensor]
BLOCKS = (1, 1, 1, 1)
GROUP_WIDTH = 4


def detector_state(seed: int = 0, images: Tensor | None = None) -> State:
    """A random detector of few layers under the names of `faster_rcnn_ag.pth`; no norm is the identity.

    images: (N, 3, H, W) in the hundreds, by which the norms are calibrated, so that the features of regions differ.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = ResNet(Bottleneck, list(BLOCKS), width_per_group=GROUP_WIDTH)
        parts = {
            "RCNN_base": nn.Sequential(
                body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3
            ),
            "RCNN_top": nn.Sequential(body.layer4),
            "RCNN_rpn.RPN_Conv": nn.Conv2d(1024, 512, 3),
            "RCNN_rpn.RPN_cls_score": nn.Conv2d(512, 24, 1),
            "RCNN_rpn.RPN_bbox_pred": nn.Conv2d(512, 48, 1),
            "RCNN_cls_score": nn.Linear(2048, 37),
            "RCNN_bbox_pred": nn.Linear(2048, 4 * 37),
        }
        for part in parts.values():
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if isinstance(module, nn.BatchNorm2d):
                    for values in (module.weight, module.bias, module.running_mean, module.running_var):
                        assert values is not None
                        nn.init.uniform_(values, 0.4, 1.2)
        # Images are in the hundreds; behind the first norm all is about 1, as in a trained network.
        assert body.bn1.running_var is not None
        nn.init.uniform_(body.bn1.running_var, 5e3, 2e4)
        for name, scale in (
            ("RCNN_rpn.RPN_cls_score", 0.02), ("RCNN_rpn.RPN_bbox_pred", 0.003), ("RCNN_cls_score", 0.06),
            ("RCNN_bbox_pred", 0.01),
        ):  # fmt: skip
            nn.init.normal_(parts[name].weight, std=scale)  # type: ignore[arg-type]
        if images is not None:
            for module in body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 1.0
            parts["RCNN_top"].train()(parts["RCNN_base"].train()(images))
        return {
            f"{name}.{key}": value.detach().clone()
            for name, part in parts.items()
            for key, value in part.state_dict().items()
        }


def published_shapes(config: SttranConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint of these sizes, but for the counters of the batch norms."""
    visual, words, width, hidden = config.visual_width, config.word_width, config.width, config.feed_forward
    region, size, feature = visual // 2, config.union_size, config.feature_width
    shapes: dict[str, tuple[int, ...]] = {"obj_embed.weight": (37, words), "obj_embed2.weight": (37, words)}

    def linear(name: str, width_in: int, width_out: int, *kernel: int) -> None:
        shapes.update({f"{name}.weight": (width_out, width_in, *kernel), f"{name}.bias": (width_out,)})

    def norm(name: str, channels: int, *, batch: bool = False) -> None:
        shapes.update({f"{name}.weight": (channels,), f"{name}.bias": (channels,)})
        if batch:
            shapes.update({f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,)})

    shapes["object_classifier.obj_embed.weight"] = (36, words)
    norm("object_classifier.pos_embed.0", 4, batch=True)
    linear("object_classifier.pos_embed.1", 4, 128)
    linear("object_classifier.decoder_lin.0", feature + words + 128, 1024)
    norm("object_classifier.decoder_lin.1", 1024, batch=True)
    linear("object_classifier.decoder_lin.3", 1024, 37)
    linear("union_func1", config.union_channels, region, 1, 1)
    linear("conv.0", 2, region // 2, 7, 7)
    norm("conv.2", region // 2, batch=True)
    linear("conv.4", region // 2, region, 3, 3)
    norm("conv.6", region, batch=True)
    linear("subj_fc", feature, visual)
    linear("obj_fc", feature, visual)
    linear("vr_fc", region * size * size, visual)
    layers: dict[str, tuple[str, ...]] = {"local_attention.layers.0": ("self_attn", "norm1", "norm2")}
    layers |= {f"global_attention.layers.{number}": ("multihead2", "norm3") for number in range(3)}
    for layer, (attention, *norms) in layers.items():
        prefix = f"glocal_transformer.{layer}"
        shapes[f"{prefix}.{attention}.in_proj_weight"] = (3 * width, width)
        shapes[f"{prefix}.{attention}.in_proj_bias"] = (3 * width,)
        linear(f"{prefix}.{attention}.out_proj", width, width)
        linear(f"{prefix}.linear1", width, hidden)
        linear(f"{prefix}.linear2", hidden, width)
        for name in norms:
            norm(f"{prefix}.{name}", width)
    shapes["glocal_transformer.position_embedding.weight"] = (2, width)
    linear("a_rel_compress", width, 3)
    linear("s_rel_compress", width, 6)
    linear("c_rel_compress", width, 17)
    return shapes


def published_state(config: SttranConfig, device: str = "cpu") -> dict[str, Tensor]:
    """Random weights under the published names."""
    torch.manual_seed(0)
    state = {name: torch.rand(shape, device=device) for name, shape in published_shapes(config).items()}
    return state | _counters(state, device)


def lively_state(config: SttranConfig, seed: int = 0) -> State:
    """Random weights under the published names that react to what they see; no norm is the identity.

    Of the three layers of the temporal decoder there is one.
    """
    random = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in published_shapes(config).items():
        if re.search(r"global_attention\.layers\.[12]\.", name):
            continue
        values = torch.randn(shape, generator=random)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = 1 + values.abs() / 4
        elif len(shape) == 1:
            state[name] = values / 5
        else:
            state[name] = 1.5 * values / values[0].numel() ** 0.5
    return state | _counters(state)


def _counters(state: State, device: str = "cpu") -> State:
    """What batch norms count in training, for each mean in the state."""
    means = [name for name in state if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): torch.tensor(7, device=device) for name in means}


@dataclass(frozen=True)
class Found:
    """Objects of one frame: boxes (N, 4) in pixels of the picture, probabilities (N, 36), features (N, F)."""

    boxes: Tensor
    probabilities: Tensor
    features: Tensor


def expected_objects(
    boxes: Tensor, logits: Tensor, deltas: Tensor, features: Tensor, frame: tuple[int, int], scale: float
) -> Found:
    """What STTran makes of the regions of one frame for SGDet.

    boxes: (R, 4) in pixels of the frame.
    logits: (R, 37).
    deltas: (R, 37, 4).
    features: (R, F).
    frame: height and width.
    scale: pixels of the frame in one of the picture.
    """
    scores = logits.softmax(-1)
    distributions = logits[:, 1:].softmax(-1)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for label in range(1, 37):
        moved = _clip(_move(boxes, deltas[:, label] * torch.tensor((0.1, 0.1, 0.2, 0.2))), frame) / scale
        chosen = [region for region in range(len(boxes)) if scores[region, label] > 0.1]
        kept = _suppress(moved[chosen], scores[chosen, label], 0.4)
        for place in kept[:1] if label == 1 else kept:
            region = chosen[place]
            found.append((moved[region], distributions[region], features[region]))
    for label in (5, 8, 17):
        for box, distribution, feature in list(found):
            if int(distribution.argmax()) + 1 == label:
                cleaned = distribution.clone()
                cleaned[label - 1] = 0
                found.append((box, cleaned, feature))
    final: list[tuple[Tensor, Tensor, Tensor]] = []
    for label in range(36):
        group = [one for one in found if int(one[1].argmax()) == label]
        if group:
            kept = _suppress(torch.stack([one[0] for one in group]), torch.stack([one[1][label] for one in group]), 0.6)
            final.extend(group[place] for place in kept)
    if not final:
        return Found(torch.zeros(0, 4), torch.zeros(0, 36), torch.zeros(0, features.shape[1]))
    return Found(*(torch.stack(column) for column in zip(*final, strict=True)))


def expected_proposals(
    anchors: Tensor, scores: Tensor, deltas: Tensor, frame: tuple[int, int], before: int, count: int
) -> Tensor:
    """The proposals of one frame, (count or fewer, 4): the best anchors, moved, clipped and suppressed."""
    order = scores.argsort(descending=True)[:before]
    moved = _clip(_move(anchors[order], deltas[order]), frame)
    return moved[_suppress(moved, scores[order], 0.7)[:count]]


def _suppress(boxes: Tensor, scores: Tensor, iou: float) -> list[int]:
    """Suppression of boxes whose last pixels count to their sides."""
    if not len(boxes):
        return []
    kept: list[int] = nms(boxes + torch.tensor((0.0, 0.0, 1.0, 1.0)), scores, iou).tolist()
    return kept


def _move(boxes: Tensor, deltas: Tensor) -> Tensor:
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    x = boxes[:, 0] + 0.5 * width + deltas[:, 0] * width
    y = boxes[:, 1] + 0.5 * height + deltas[:, 1] * height
    width, height = deltas[:, 2].exp() * width, deltas[:, 3].exp() * height
    return torch.stack((x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height), 1)


def _clip(boxes: Tensor, frame: tuple[int, int]) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), torch.tensor((frame[1] - 1, frame[0] - 1) * 2, dtype=torch.float32))


def expected_labels(probabilities: Tensor) -> tuple[int, Tensor, list[int]]:
    """STTran's labels of the boxes (N, 36) of a frame for SGCls: the person, the probabilities, the labels from 0."""
    probabilities = probabilities.clone()
    person = int(probabilities[:, 0].argmax())
    labels = [int(row[1:].argmax()) + 1 for row in probabilities]
    labels[person] = 0
    common = max(sorted(set(labels)), key=labels.count)
    alike = [number for number, label in enumerate(labels) if label == common]
    surest = max(alike, key=lambda number: float(probabilities[number, common]))
    for number in alike:
        if number != surest:
            probabilities[number, common] = 0
            labels[number] = int(probabilities[number].argmax())
    return person, probabilities, labels
