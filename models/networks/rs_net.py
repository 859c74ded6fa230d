"""RS-Net (Jo and Cho, 2026): scores how much each pair of a video matters, beside any network that represents pairs.

The paper names its modules, but gives no formula, width or depth; its figures show more. This code makes two choices
of its own:

- The host's representation is normalised and projected first, because hosts differ in width and scale. The detector's
  confidences in both boxes are added to it: hosts represent what a pair looks like, but hardly whether it is there.
- Attention over the video is sparse, as in Longformer (Beltagy et al., 2020): learned video tokens see all frames, and
  a frame sees the video tokens, itself and its two neighbours. Full attention between frames was rejected: its memory
  grows with the square of the frames, and an hour at two frames a second would need gigabytes for each layer.

The authors' figures show one video token, full attention, positions on queries and keys only, and a decoder that reads
pair and video token. `video_tokens: 1`, `attention: full`, `frame_token: false` and `reads_confidence: false` make that
network. They also fuse the video token into the host's predicate classifier: `context_fusion`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.networks.boxes import to_centres
from models.networks.layers import EncoderLayer, FeedForward, sine_code, split_heads
from models.networks.ranges import Dropout
from models.networks.relations.geometry import GEOMETRY, pair_geometry
from models.networks.relations.temporal import SpatialEncoder
from models.networks.stages import PAIR_MASK, RELATION_SCORES, REPRESENTATION, NetworkStage


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RsNetConfig:
    """Shape of a relation scorer. Raises ConfigurationError where `width` is odd or not a multiple of `heads`.

    input_width: D, width of the host's representation.
    width: W, width inside the scorer. STTran's 1936 would do as well, but 256 keeps an hour of video in memory.
    video_tokens: number of learned tokens that sum up the video. The decoder reads the first.
    attention: `sparse` as above, or `full` between all tokens, with positions on queries and keys only.
    frame_token: lets the decoder read the pair's frame beside the video.
    reads_confidence: adds the detector's confidences in both boxes to the representation.
    reads_boxes: adds the geometry of both boxes, and where they are in the picture, to the representation. Hosts that
        see pixels hardly represent where a pair is, and without it nothing tells a thing from an equal one elsewhere.
    context: `frame` takes every frame for a video of its own, to see what the rest of the video is worth.
    context_fusion: fuses the video token into the host's predicate classifier, which is then trained together with it.
    """

    input_width: PositiveInt
    width: PositiveInt = 256
    heads: PositiveInt = 8
    feed_forward: PositiveInt = 1024
    dropout: Dropout = 0.1
    spatial_layers: PositiveInt = 1
    temporal_layers: PositiveInt = 3
    video_tokens: PositiveInt = 8
    attention: Literal["sparse", "full"] = "sparse"
    frame_token: bool = True
    reads_confidence: bool = True
    reads_boxes: bool = False
    context: Literal["video", "frame"] = "video"
    context_fusion: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ConfigurationError(f"width is {self.width}: give an even multiple of heads ({self.heads})")


class RelationScorer(nn.Module):
    """Scores the pairs of a whole video: logits of not related and related."""

    certainly_not: Tensor

    def __init__(self, config: RsNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.input_norm = nn.LayerNorm(config.input_width)
        self.input_projection = nn.Linear(config.input_width, width)
        self.confidence_projection = nn.Linear(2, width, bias=False) if config.reads_confidence else None
        self.box_projection = nn.Linear(GEOMETRY + 2 * 4, width, bias=False) if config.reads_boxes else None
        self.spatial_token = nn.Parameter(torch.randn(width) * 0.02)
        self.spatial_encoder = SpatialEncoder(
            width, config.heads, config.feed_forward, config.dropout, config.spatial_layers
        )
        self.video_tokens = nn.Parameter(torch.randn(config.video_tokens, width) * 0.02)
        layer = _FullLayer if config.attention == "full" else _TemporalLayer
        self.temporal_encoder = nn.ModuleList(layer(config) for _ in range(config.temporal_layers))
        # Three parts of one linear layer on [pair ; frame ; video], so that the three are not copied side by side.
        self.pair_projection = nn.Linear(width, width)
        self.frame_projection = nn.Linear(width, width, bias=False) if config.frame_token else None
        self.video_projection = nn.Linear(width, width, bias=False)
        self.decoder_dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(width, 2)
        self.register_buffer("certainly_not", torch.tensor([0.0, -1e4]), persistent=False)

    def forward(self, representation: Tensor, confidence: Tensor, mask: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Computes the logits of a video's pairs, for any T from 1. Time and memory grow linearly with T.

        Returns (B, T, P, 2) float32: not related, related; (0, -1e4) where `mask` is false.

        representation: (B, T, P, D) float32, the host's. Values in slots without a pair change nothing.
        confidence: (B, T, P, 2) float32, probabilities that the subject and the object are there.
        mask: (B, T, P) bool, true where a slot holds a pair.
        boxes: (B, T, P, 2, 4) float32, corner boxes of subject and object as fractions of the frame, where the scorer
            reads them.
        """
        return self.decode(*self.encode_frames(representation, confidence, mask, boxes), mask)[0]

    def decode(self, pairs: Tensor, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the temporal context encoder and the decoder.

        Returns logits (B, T, P, 2), and the video's token as each frame knows it (B, T, W).

        pairs: (B, T, P, W) float32.
        frames: (B, T, W) float32.
        mask: (B, T, P) bool, true where a slot holds a pair.
        """
        video, frames = self._encode_video(frames, mask.any(-1))  # (B, T, W) each
        hidden = self.pair_projection(pairs) + self.video_projection(video)[:, :, None]
        if self.frame_projection is not None:
            hidden = hidden + self.frame_projection(frames)[:, :, None]
        logits: Tensor = self.classifier(self.decoder_dropout(hidden.relu()))
        return torch.where(mask[..., None], logits, self.certainly_not), video

    def scores(self, logits: Tensor) -> Tensor:
        """Returns P(related) of each pair from its logits: (B, T, P) in [0, 1], 0 where there is no pair."""
        return logits.softmax(-1)[..., 1]

    def encode_frames(
        self, representation: Tensor, confidence: Tensor, mask: Tensor, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs the spatial context encoder: each pair sees the others of its frame.

        Returns the pairs (B, T, P, W) and a token for each frame (B, T, W). The parameters are those of `forward`.
        """
        pairs = self.input_projection(self.input_norm(representation))
        if self.confidence_projection is not None:
            pairs = pairs + self.confidence_projection(scaled_logit(confidence))
        if self.box_projection is not None:
            assert boxes is not None
            # Slots without a pair have boxes without an area, which nothing can be divided by.
            known = torch.where(mask[..., None, None], boxes, boxes.new_tensor((0.0, 0.0, 1.0, 1.0)))
            geometry = pair_geometry(known[..., 0, :], known[..., 1, :])
            placed = to_centres(known).flatten(-2)  # (B, T, P, 8)
            pairs = pairs + self.box_projection(torch.cat((geometry, placed), -1))
        pairs = pairs.masked_fill(~mask[..., None], 0.0)
        first = self.spatial_token.expand(*mask.shape[:2], 1, -1)
        tokens = torch.cat((first, pairs), 2)  # (B, T, 1 + P, W)
        real = torch.cat((torch.ones_like(mask[..., :1]), mask), 2)
        tokens = self.spatial_encoder(tokens, real)
        return tokens[:, :, 1:], tokens[:, :, 0]

    def _encode_video(self, frames: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the temporal context encoder. Returns the video's token and the frames in context, (B, T, W) each.

        frames: (B, T, W).
        real: (B, T) bool, true where a frame has a pair.
        """
        if self.config.context == "frame":
            batch = frames.shape[0]
            tokens = self._encode(frames.flatten(0, 1)[:, None], real.flatten()[:, None])
            video, frames = tokens[:, :1], tokens[:, self.config.video_tokens :]
            return video.unflatten(0, (batch, -1))[:, :, 0], frames.unflatten(0, (batch, -1))[:, :, 0]
        tokens = self._encode(frames, real)
        return tokens[:, :1].expand_as(frames), tokens[:, self.config.video_tokens :]

    def _encode(self, frames: Tensor, real: Tensor) -> Tensor:
        """Returns [video tokens ; frames] in context, (B, V + T, W)."""
        index = torch.arange(frames.shape[1], dtype=torch.float32, device=frames.device)
        position = sine_code(index / (2 * math.pi), self.config.width)
        video = self.video_tokens.expand(frames.shape[0], -1, -1)
        if self.config.attention == "full":
            tokens = torch.cat((video, frames), 1)
            placed = F.pad(position, (0, 0, self.config.video_tokens, 0))
            seen = torch.cat((torch.ones_like(real[:, :1]).expand(-1, self.config.video_tokens), real), 1)
            for layer in self.temporal_encoder:
                tokens = layer(tokens, placed, seen)
            return tokens
        tokens = torch.cat((video, frames + position), 1)  # (B, V + T, W)
        for layer in self.temporal_encoder:
            tokens = layer(tokens, real)
        return tokens


class _TemporalLayer(nn.Module):
    """A post-norm transformer encoder layer around the sparse attention."""

    def __init__(self, config: RsNetConfig) -> None:
        super().__init__()
        self.self_attn = _VideoAttention(config.width, config.heads, config.video_tokens, config.dropout)
        self.feed_forward = FeedForward(config.width, config.feed_forward, config.dropout)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Maps tokens (B, V + T, W) to the same shape; `real` (B, T) bool is true where a frame has a pair."""
        tokens = self.norm1(tokens + self.dropout(self.self_attn(tokens, real)))
        changed: Tensor = self.norm2(tokens + self.dropout(self.feed_forward(tokens)))
        return changed


class _FullLayer(EncoderLayer):
    """A post-norm transformer encoder layer in which every token sees all that are real."""

    def __init__(self, config: RsNetConfig) -> None:
        super().__init__(config.width, config.heads, config.feed_forward, config.dropout)


class _VideoAttention(nn.Module):
    """Sparse self-attention over [V video tokens ; T frame tokens].

    A video token sees the video tokens and all real frames. A frame sees the video tokens and, where they are real, the
    frame before it, itself and the frame after it. A frame is real when it has a pair.
    """

    def __init__(self, width: int, heads: int, video_tokens: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.video_tokens = video_tokens
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Maps tokens (B, V + T, W) to the same shape; `real` (B, T) bool is true where a frame has a pair."""
        count = self.video_tokens
        query, key, value = (split_heads(part, self.heads) for part in self.in_proj(tokens).chunk(3, -1))
        query = query / math.sqrt(query.shape[-1])  # (B, h, V + T, d)
        of_video, of_frames = query[:, :, :count], query[:, :, count:]
        video_key, video_value = key[:, :, :count], value[:, :, :count]
        near_key, near_value = _neighbours(key[:, :, count:]), _neighbours(value[:, :, count:])  # (B, h, T, 3, d)

        seen = torch.cat((torch.ones_like(real[:, :1]).expand(-1, count), real), 1)
        logits = of_video @ key.transpose(-1, -2)  # (B, h, V, V + T)
        weights = self.dropout(logits.masked_fill(~seen[:, None, None], -1e4).softmax(-1))
        video = weights @ value  # (B, h, V, d)

        near = _neighbours(real[:, None, :, None].to(query.dtype)).squeeze(-1) > 0  # (B, 1, T, 3)
        near_logits = (of_frames[..., None, :] * near_key).sum(-1).masked_fill(~near, -1e4)  # (B, h, T, 3)
        logits = torch.cat((of_frames @ video_key.transpose(-1, -2), near_logits), -1)  # (B, h, T, V + 3)
        weights = self.dropout(logits.softmax(-1))
        frames = weights[..., :count] @ video_value + (weights[..., count:, None] * near_value).sum(-2)

        mixed: Tensor = self.out_proj(torch.cat((video, frames), 2).transpose(1, 2).flatten(2))
        return mixed


def _neighbours(values: Tensor) -> Tensor:
    """Puts the values of the frames before and after beside each frame's own, zeros beyond the ends.

    Maps (B, h, T, d) to (B, h, T, 3, d): before, itself, after.
    """
    padded = F.pad(values, (0, 0, 1, 1))
    return torch.stack((padded[:, :, :-2], values, padded[:, :, 2:]), 3)


def scaled_logit(probabilities: Tensor) -> Tensor:
    """Returns a third of the logits of probabilities, which are clamped first: (...,) in [-2.3, 2.3].

    The third keeps them in the range of the normalised representation that they are added to.
    """
    kept = probabilities.clamp(1e-3, 1 - 1e-3)
    return torch.log(kept / (1 - kept)) / 3


class ContextFusion(nn.Module):
    """Fuses the video's token into what the host's predicate classifiers read.

    A perceptron reads both and adds to the host's; it starts from zero, so that a trained host is not disturbed.
    """

    def __init__(self, decoded_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(decoded_width)
        self.of_pair = nn.Linear(decoded_width, width)
        self.of_video = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, decoded_width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, decoded: Tensor, video: Tensor) -> Tensor:
        """Maps decoded pairs (B, T, P, E) to the same shape; `video` (B, T, W) is the video's token."""
        hidden = self.of_pair(self.norm(decoded)) + self.of_video(video)[:, :, None]
        fused: Tensor = decoded + self.output(hidden.relu())
        return fused


CONTEXT_INPUTS = ("pair_context", "frame_context", PAIR_MASK)
"""The tensors that a scorer's stage of whole videos reads."""


def context_stage(scorer: RelationScorer) -> NetworkStage:
    """Returns the scorer's stage for the frames of a clip.

    The host's stages must make `representation` (B, T, P, D) beside the tensors of `PairPredictions`.
    """
    seen: tuple[str, ...] = (REPRESENTATION, "subject_scores", "object_scores", PAIR_MASK)
    if scorer.config.reads_boxes:
        seen += ("subject_boxes", "object_boxes")
    return NetworkStage("spatial_context", _FrameContext(scorer), seen, CONTEXT_INPUTS[:2])


def scoring_stage(scorer: RelationScorer) -> NetworkStage:
    """Returns the scorer's stage for the whole video."""
    return NetworkStage("relation_scores", _Scores(scorer), CONTEXT_INPUTS, (RELATION_SCORES,), "video")


def scoring_stages(scorer: RelationScorer) -> list[NetworkStage]:
    """Returns the scorer as the last stages of its host: one for the frames of a clip, one for the whole video."""
    return [context_stage(scorer), scoring_stage(scorer)]


class _FrameContext(nn.Module):
    def __init__(self, scorer: RelationScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(
        self, representation: Tensor, subject_scores: Tensor, object_scores: Tensor, mask: Tensor, *boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        confidence = torch.stack((subject_scores, object_scores.amax(-1)), -1)
        return self.scorer.encode_frames(representation, confidence, mask, torch.stack(boxes, -2) if boxes else None)


class _Scores(nn.Module):
    def __init__(self, scorer: RelationScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, pairs: Tensor, frames: Tensor, mask: Tensor) -> tuple[Tensor]:
        return (self.scorer.scores(self.scorer.decode(pairs, frames, mask)[0]),)
