"""COCO DETR weights into ARN, from a file with the key names and shapes that facebookresearch/detr publishes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d

from models.errors import WeightsError
from models.networks.arn import Arn, arn_r50
from models.networks.arn.weights import WeightsReport, load_detr_weights
from tests.support.networks import tiny

WIDTH, HIDDEN = 256, 2048


def detr_shapes() -> dict[str, tuple[int, ...]]:
    """Every key of detr-r50-e632da11.pth with its shape."""
    with torch.device("meta"):
        body = resnet50(norm_layer=FrozenBatchNorm2d)
    shapes = {
        f"backbone.0.body.{name}": tuple(value.shape)
        for name, value in body.state_dict().items()
        if not name.startswith("fc.")
    }
    shapes |= {"input_proj.weight": (WIDTH, 2048, 1, 1), "input_proj.bias": (WIDTH,)}
    shapes |= {"query_embed.weight": (100, WIDTH)}
    shapes |= {"class_embed.weight": (92, WIDTH), "class_embed.bias": (92,)}
    for layer, (out, into) in enumerate(((WIDTH, WIDTH), (WIDTH, WIDTH), (4, WIDTH))):
        shapes |= {f"bbox_embed.layers.{layer}.weight": (out, into), f"bbox_embed.layers.{layer}.bias": (out,)}
    for part, attentions, norms in (("encoder", ["self_attn"], 2), ("decoder", ["self_attn", "multihead_attn"], 3)):
        for layer in range(6):
            prefix = f"transformer.{part}.layers.{layer}"
            for attention in attentions:
                shapes |= {
                    f"{prefix}.{attention}.in_proj_weight": (3 * WIDTH, WIDTH),
                    f"{prefix}.{attention}.in_proj_bias": (3 * WIDTH,),
                    f"{prefix}.{attention}.out_proj.weight": (WIDTH, WIDTH),
                    f"{prefix}.{attention}.out_proj.bias": (WIDTH,),
                }
            shapes |= {f"{prefix}.linear1.weight": (HIDDEN, WIDTH), f"{prefix}.linear1.bias": (HIDDEN,)}
            shapes |= {f"{prefix}.linear2.weight": (WIDTH, HIDDEN), f"{prefix}.linear2.bias": (WIDTH,)}
            for norm in range(1, norms + 1):
                shapes |= {f"{prefix}.norm{norm}.{name}": (WIDTH,) for name in ("weight", "bias")}
    shapes |= {f"transformer.decoder.norm.{name}": (WIDTH,) for name in ("weight", "bias")}
    return shapes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Every weight another constant, so that it shows where each arrives; broadcast, so that none takes memory."""
    shapes = detr_shapes()
    return {name: torch.tensor(1e-3 * number).expand(shapes[name]) for number, name in enumerate(shapes)}


def save(path: Path, state: dict[str, Tensor]) -> str:
    torch.save({"model": state}, path)
    return str(path)


@pytest.fixture(scope="module")
def source(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("detr") / "detr-r50.pth", state)


@pytest.fixture(scope="module")
def loaded(source: str) -> tuple[Arn, WeightsReport]:
    network = Arn(arn_r50())
    return network, load_detr_weights(network, source)


def test_every_key_of_file_and_network_is_reported_once(
    loaded: tuple[Arn, WeightsReport], state: dict[str, Tensor]
) -> None:
    network, report = loaded
    assert sorted([*report.loaded, *report.fresh]) == sorted(network.state_dict())
    assert sorted({*report.loaded.values()} | {*report.unused}) == sorted(state)
    assert not {*report.loaded.values()} & {*report.unused}
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.loaded) + len(report.unused) + len(report.fresh)
    assert lines[0].startswith(f"{len(report.loaded)} weights loaded, {len(report.unused)} of DETR's unused")
    assert "  loaded  input_projection.weight <- input_proj.weight" in lines


def test_loaded_weights_equal_the_file(loaded: tuple[Arn, WeightsReport], state: dict[str, Tensor]) -> None:
    network, report = loaded
    own = network.state_dict()
    for name, theirs in report.loaded.items():
        assert torch.equal(own[name], state[theirs]), name


def test_each_part_starts_from_its_counterpart(loaded: tuple[Arn, WeightsReport]) -> None:
    _, report = loaded
    wanted = {
        "backbone.body.layer4.2.bn3.running_var": "backbone.0.body.layer4.2.bn3.running_var",
        "encoder.5.feed_forward.linear1.bias": "transformer.encoder.layers.5.linear1.bias",
        "entity_decoder.layers.2.multihead_attn.out_proj.bias": (
            "transformer.decoder.layers.2.multihead_attn.out_proj.bias"
        ),
        "predicate_decoder.branches.spatial.layers.1.norm3.bias": "transformer.decoder.layers.1.norm3.bias",
        "entity_decoder.norm.weight": "transformer.decoder.norm.weight",
        "entity_decoder.subject_position": "query_embed.weight",
        "entity_decoder.object_position": "query_embed.weight",
        "entity_decoder.subject_box.layers.2.weight": "bbox_embed.layers.2.weight",
        "entity_decoder.object_box.layers.0.bias": "bbox_embed.layers.0.bias",
    }
    assert {name: report.loaded[name] for name in wanted} == wanted
    unused = {name for name in report.unused if not name.startswith("transformer.decoder.layers.")}
    assert unused == {"class_embed.weight", "class_embed.bias"}
    assert {int(name.split(".")[3]) for name in report.unused if ".layers." in name} == {3, 4, 5}
    # All that ARN adds, and nothing else, keeps its own start.
    assert {name.split(".")[0] for name in report.fresh} == {
        "entity_decoder", "object_classifier", "predicate_decoder", "predicate_classifiers",
    }  # fmt: skip
    assert {name for name in report.fresh if name.startswith("entity_decoder")} == {
        "entity_decoder.subject_query", "entity_decoder.object_query",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["input_proj.bias", "transformer.encoder.layers.5.norm2.weight"])
def test_a_missing_key_is_named(state: dict[str, Tensor], tmp_path: Path, key: str) -> None:
    path = save(tmp_path / "short.pth", {name: value for name, value in state.items() if name != key})
    with torch.device("meta"):
        network = Arn(arn_r50())
    with pytest.raises(WeightsError, match=rf"short\.pth: the key '{key}', which '.+' needs, is missing"):
        load_detr_weights(network, path)


def test_another_shape_is_named_and_nothing_is_loaded(source: str) -> None:
    network = Arn(tiny(backbone="resnet50"))
    before = network.state_dict()["backbone.body.conv1.weight"].clone()
    with pytest.raises(WeightsError, match=r"has shape .* needs .*; DETR weights fit the preset arn-r50"):
        load_detr_weights(network, source)
    assert torch.equal(network.state_dict()["backbone.body.conv1.weight"], before)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", {"model": [1, 2]}, {"model": {"epoch": 3}}, torch.zeros(3)],
    ids=["empty", "text", "list", "no tensors", "tensor"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "odd.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with torch.device("meta"):
        network = Arn(tiny())
    with pytest.raises(WeightsError, match=r"odd\.pth (is not a file of|does not hold) DETR weights"):
        load_detr_weights(network, str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth cannot be read: No such file"):
        load_detr_weights(Arn(tiny()), str(tmp_path / "nowhere.pth"))


class _Quiet(SimpleHTTPRequestHandler):
    requests: list[str] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        self.requests.append(self.path)


@pytest.fixture
def server(source: str) -> Iterator[str]:
    """Serves the folder of the file on loopback."""
    _Quiet.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=Path(source).parent)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_download_is_kept(
    server: str, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for _ in range(2):
        network = Arn(arn_r50())
        load_detr_weights(network, f"{server}/detr-r50.pth")
        assert torch.equal(network.input_projection.bias, state["input_proj.bias"])
    assert _Quiet.requests == ["/detr-r50.pth"], "the second time it comes from torch's cache"
    assert list(tmp_path.rglob("detr-r50.pth"))


def test_a_download_that_fails_is_named(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(WeightsError, match=r"nothing\.pth cannot be downloaded \(HTTP Error 404"):
        load_detr_weights(Arn(tiny()), f"{server}/nothing.pth")
