"""What an archive tells of one video."""

from __future__ import annotations

from pathlib import Path

from service.agents.views import ArchiveViews
from service.archive.folder import ArchiveFolder
from service.archive.tables import graph_rows
from service.archive.writing import append
from tests.support.archives import PERSON, source, stored
from tests.support.graphs import frame, scene_graph


def test_the_description_of_a_person_alone_says_when_they_are_there(tmp_path: Path) -> None:
    frames = [frame(index, index / 2, [PERSON] if 6 <= index < 10 else []) for index in range(20)]
    folder = ArchiveFolder(tmp_path / "archive")
    folder.make()
    append(folder, graph_rows(stored(scene_graph(frames, size=(160, 128), duration=10.0, fps=2.0)), source("street")))
    described = ArchiveViews(folder).describe("/videos/street.mp4", 400)
    assert described.summary.endswith("There are: a person (3 to 5 s).")
