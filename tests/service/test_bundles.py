"""Which bundles are found, from which folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.graph.bundle import MANIFEST_FILE
from service import loading
from service.errors import NoModels
from service.loading import bundle_folders, find_bundles
from service.settings import load_settings
from tests.support.paths import ROOT


def make_bundles(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / MANIFEST_FILE).touch()
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, outside the checkout."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def names_of(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


def test_outside_the_checkout_its_bundles_are_served() -> None:
    default, *others = bundle_folders(load_settings())
    assert default == ROOT / "bundles" / "everyday"
    assert [default, *others] != sorted([default, *others])
    assert others == sorted(others)
    assert {default, *others} == set((ROOT / "bundles").iterdir())


def test_bundles_in_the_working_folder_come_instead_of_those_beside_the_packages(elsewhere: Path) -> None:
    make_bundles(elsewhere / "bundles", "b", "a")
    (elsewhere / "bundles" / "empty").mkdir()
    assert names_of(bundle_folders(load_settings())) == ["a", "b"]


def test_no_bundle_at_all_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    monkeypatch.setattr(loading, "PACKAGED_FOLDER", elsewhere / "packages" / "bundles")
    with pytest.raises(NoModels, match=r"elsewhere/bundles or .*packages/bundles; name one with --bundle"):
        bundle_folders(load_settings())


def test_the_setting_takes_paths_names_and_folders_of_bundles(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    make_bundles(elsewhere / "mine", "b", "a")
    one = make_bundles(elsewhere, "one") / "one"
    monkeypatch.setenv("VSG_BUNDLES", f"{one}:arn-compact:{elsewhere / 'mine'}")
    assert names_of(bundle_folders(load_settings())) == ["one", "arn-compact", "a", "b"]


def test_a_name_is_looked_up_among_the_known_bundles_first(elsewhere: Path) -> None:
    known = [make_bundles(elsewhere / "known", "arn-compact") / "arn-compact"]
    assert find_bundles(Path("arn-compact"), known) == known
    assert find_bundles(Path("arn-compact")) == [ROOT / "bundles" / "arn-compact"]


def test_a_folder_that_only_has_the_name_of_a_bundle_does_not_hide_it(elsewhere: Path) -> None:
    (elsewhere / "arn-compact").mkdir()
    assert find_bundles(Path("arn-compact")) == [ROOT / "bundles" / "arn-compact"]


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(NoModels, match=r"no bundle 'arn'.*arn-compact, arn-compact-int8"):
        find_bundles(Path("arn"))


def test_a_folder_without_a_bundle_is_left_to_loading(elsewhere: Path) -> None:
    assert find_bundles(elsewhere) == [elsewhere]
