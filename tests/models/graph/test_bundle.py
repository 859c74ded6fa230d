"""A bundle that was altered, cut short or written by somebody else is refused, and the message says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import BundleError
from models.graph.bundle import MANIFEST_FILE, Bundle, Manifest, sha256_of


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edits the manifest in place."""
    path = folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_whole_bundle_loads_and_knows_its_files(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert loaded.manifest.family == "one_stage"
    assert [loaded.path_of(stage) for stage in loaded.manifest.stages] == [
        bundle / "brightness.onnx",
        bundle / "pairs.onnx",
    ]
    assert loaded.manifest.stages[0].inputs[0].shape == ("batch", "time", 32, 32, 3)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest\.json; write one with `vsg export`"):
        Bundle.load(tmp_path)


def test_a_file_with_one_flipped_bit_is_refused(bundle: Path) -> None:
    content = bytearray((bundle / "pairs.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "pairs.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"pairs\.onnx has been altered"):
        Bundle.load(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "pairs.onnx").unlink()
    with pytest.raises(BundleError, match=r"'pairs\.onnx' is missing; copy the whole folder"):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(colour="red"), r"manifest\.json: colour is not a known name"),
        (lambda m: m.update(format=2), r"manifest\.json: format is 2: it must be 1"),
        (lambda m: m.pop("frame_size"), r"manifest\.json: frame_size is missing"),
        (
            lambda m: m["frame_size"].update(height=0),
            r"frame_size\.height is 0: it must be greater than 0",
        ),
        (
            lambda m: m["stages"][0]["inputs"][0].update(dtype="int4"),
            r"stages\.0\.inputs\.0\.dtype is 'int4': ",
        ),
        (lambda m: m.update(name="My Model"), r"manifest\.json: name is 'My Model': .*pattern"),
        (lambda m: m["thresholds"].update(object_score=2), r"thresholds\.object_score is 2: "),
        (lambda m: m["sha256"].pop("pairs.onnx"), r"sha256 has no entry for 'pairs\.onnx', the file of stage 'pairs'"),
        (lambda m: m["vocabulary"].update(subjects=["dog"]), r"vocabulary: .*subjects name 'dog', which is not one of"),
        (
            lambda m: m["vocabulary"].update(subjects=["person", "bag"]),
            "the vocabulary has 2 subjects, but no stage has an output 'subject_classes'",
        ),
        (
            lambda m: m["vocabulary"]["objects"].append("dog"),
            r"a stage makes object_scores of shape .*, but by the vocabulary its last axes .* are \[37\]",
        ),
        (
            lambda m: m["vocabulary"]["groups"][0].update(name="relation_scores"),
            "a group of predicates is named 'relation_scores', as another tensor is; give it another name",
        ),
    ],
)
def test_mistakes_in_the_manifest_are_named(bundle: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    change(bundle, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda m: m["stages"].append(m["stages"].pop(1)),
            "stage 'pairs' of span clip comes after 'relevance' of span ",
        ),
        (
            lambda m: m["stages"][0].update(span="video"),
            "stage 'pairs' of span clip comes after 'brightness' of span vi",
        ),
        (
            lambda m: m["stages"][3]["inputs"].append(m["stages"][0]["inputs"][0]),
            "stage 'relevance' of span video takes frames, which would hold a whole video in memory",
        ),
        (
            lambda m: (m["stages"][0].update(span="video"), m["stages"][1].update(span="frame")),
            "stage 'pairs' of span frame comes after 'brightness' of span vi",
        ),
        (lambda m: m["stages"][3].update(span="day"), r"stages\.3\.span is 'day': it must be"),
        (lambda m: m["stages"][0]["inputs"][0].update(dtype="float32"), "takes frames as float32; it is uint8"),
        (lambda m: m["stages"][3]["inputs"][0].update(dtype="int64"), "takes timestamps as int64; it is float32"),
        (lambda m: m.update(relation_scoring=False), "relation_scoring is false, but a stage has an output 'relation_"),
        (lambda m: m["stages"].pop(), "relation_scoring is true, but no stage has an output 'relation_scores'"),
    ],
)
def test_stages_that_cannot_run_one_after_the_other_are_named(
    video_bundle: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    bundle = Path(shutil.copytree(video_bundle, tmp_path / "bundle"))
    change(bundle, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle)


def test_a_stage_sees_a_clip_unless_it_says_video(tiny_bundle: Path, video_bundle: Path) -> None:
    content = json.loads((tiny_bundle / MANIFEST_FILE).read_text())
    for stage in content["stages"]:
        del stage["span"]  # as bundles were written before there was one
    assert [stage.span for stage in Manifest.model_validate(content).stages] == ["clip", "clip"]
    assert [stage.span for stage in Bundle.load(video_bundle).manifest.stages] == ["clip", "clip", "clip", "video"]


def test_a_manifest_that_is_not_json_is_refused(bundle: Path) -> None:
    (bundle / MANIFEST_FILE).write_bytes(b"\xff\xfe{")
    with pytest.raises(BundleError, match=r"manifest\.json: the manifest: Invalid JSON"):
        Bundle.load(bundle)


@pytest.mark.parametrize("place", ["../outside.onnx", "/etc/hostname"])
def test_a_file_outside_the_folder_is_refused_even_if_its_digest_fits(bundle: Path, place: str) -> None:
    (bundle.parent / "outside.onnx").write_bytes(b"x")
    target = bundle / place
    change(bundle, lambda m: m["sha256"].update({place: sha256_of(target)}))
    with pytest.raises(BundleError, match="lies outside the bundle"):
        Bundle.load(bundle)


def test_a_link_that_leads_out_of_the_folder_is_refused(bundle: Path) -> None:
    outside = bundle.parent / "pairs.onnx"
    (bundle / "pairs.onnx").rename(outside)
    (bundle / "pairs.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="lies outside the bundle"):
        Bundle.load(bundle)
