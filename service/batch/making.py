"""One process of a batch: makes the graphs of videos with one model, and writes them to the archive."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from models.graph.bundle import MANIFEST_FILE, Bundle, sha256_of
from models.graph.scene_graph import Options
from service.archive.errors import ArchiveError
from service.archive.folder import ArchiveFolder
from service.archive.reading import read_file
from service.archive.tables import Rows, Source, graph_rows, options_json, problem_rows, video_key
from service.archive.writing import append
from service.batch.listing import ListedVideo, fetched
from service.errors import EngineDied, ServiceError
from service.graph import GraphReader
from service.loading import open_pipeline
from service.options import VideoOptions
from service.settings import Settings
from service.video import SNIFF_BYTES, sniff_container
from service.video.errors import DecoderUnavailable

MOST_ATTEMPTS = 10
"""Processes that may end while they work on a video, until it is given up. It may not have been the reason."""
_BLOCK = 1 << 18  # bytes


@dataclass(frozen=True)
class Setup:
    """A batch, as each of its processes needs it.

    archive: folder or URL.
    bundle: folder of the model.
    model: its name.
    model_sha256: of its manifest.
    with_frames: whether the archive keeps frames too.
    """

    settings: Settings
    archive: str
    bundle: Path
    model: str
    model_sha256: str
    options: VideoOptions
    with_frames: bool

    @classmethod
    def of(
        cls, settings: Settings, archive: str, bundle: Path, options: VideoOptions, *, with_frames: bool = False
    ) -> Setup:
        """A batch with the model of a bundle. Raises BundleError."""
        name = Bundle.load(bundle).manifest.name
        return cls(settings, archive, bundle, name, sha256_of(bundle / MANIFEST_FILE), options, with_frames)

    @property
    def applied(self) -> Options:
        """The options as every graph of the batch has them."""
        return self.options.applied(max_fps=self.settings.max_fps, max_frames=self.settings.max_frames)[0]

    def source_of(self, video: ListedVideo) -> Source:
        """Key, path and model of a video's rows."""
        key = video_key(video.path, video.etag, options_json(self.applied), self.model_sha256)
        return Source(key, path=video.path, etag=video.etag, model_sha256=self.model_sha256)

    def problem(self, video: ListedVideo, code: str, detail: str, sha256: str | None = None) -> Rows:
        """The row of a video without a graph."""
        return problem_rows(
            self.source_of(video),
            model=self.model,
            options=options_json(self.applied),
            problem=code,
            detail=detail,
            sha256=sha256,
        )


@dataclass(frozen=True)
class Outcome:
    """The end of the work on one video, whose row is in the archive, unless the batch has to stop.

    problem: code of the error where it has no graph; None where it has one.
    stops: why the batch cannot go on; None where it can.
    """

    path: str
    problem: str | None = None
    stops: str | None = None


class Maker:
    """Makes graphs with one model. It holds the model until it is closed."""

    def __init__(self, setup: Setup) -> None:
        """Raises what opening the model raises, and ArchiveError."""
        self._setup = setup
        self._archive = ArchiveFolder(setup.archive)
        self._pipeline = open_pipeline(setup.settings, bundles=[setup.bundle])

    def close(self) -> None:
        """Ends the threads of the model."""
        self._pipeline.close()

    def make(self, video: ListedVideo) -> Outcome:
        """Writes the graph of a video to the archive, or the problem that it has.

        Raises EngineDied: the process should end then, and another do the video.
        """
        try:
            rows = self._rows_of(video)
            append(self._archive, rows)
        except EngineDied:
            raise
        except (ArchiveError, DecoderUnavailable) as error:
            return Outcome(video.path, stops=str(error))
        except Exception as error:  # the store of the archive raises errors of its own library
            return Outcome(video.path, stops=f"{self._setup.archive} cannot be written ({error}): run it again later")
        return Outcome(video.path, rows["videos"]["problem"][0].as_py())

    def give_up(self, video: ListedVideo) -> Outcome:
        """Writes that a video ends every process that works on it."""
        return give_up(self._setup, self._archive, video)

    def found(self, video: ListedVideo) -> Outcome | None:
        """The outcome of a video whose row is there, in a file of its own; None where it is not."""
        name = self._setup.source_of(video).video
        try:
            rows = read_file(self._archive, "videos", name)
        except FileNotFoundError:
            return None
        return Outcome(video.path, rows["problem"][0].as_py())

    def _rows_of(self, video: ListedVideo) -> Rows:
        """The rows of a video, whatever is wrong with it. Raises EngineDied and DecoderUnavailable."""
        sha256 = None
        try:
            with TemporaryDirectory(prefix="vsg-batch-") as folder:
                path = Path(fetched(video.path, folder))
                with path.open("rb") as file:
                    sniff_container(file.read(SNIFF_BYTES))
                sha256 = sha256_of(path)
                return self._graph_of(path, sha256, self._setup.source_of(video))
        except (EngineDied, DecoderUnavailable):
            raise
        except ServiceError as error:
            return self._setup.problem(video, error.code, error.detail, sha256)
        except Exception as error:
            if sha256 is None:
                detail = f"the file cannot be read ({error}): correct its path or its rights"
                return self._setup.problem(video, "source_unreadable", detail)
            traceback.print_exc(file=sys.stderr)
            return self._setup.problem(video, "internal_error", f"the program failed ({error!r})", sha256)

    def _graph_of(self, path: Path, sha256: str, source: Source) -> Rows:
        with TemporaryFile() as stored:
            self._pipeline.write(path, self._setup.options, stored, sha256=sha256)
            stored.seek(0)
            graph = GraphReader(iter(partial(stored.read, _BLOCK), b""))
            return graph_rows(graph, source, with_frames=self._setup.with_frames)


def give_up(setup: Setup, archive: ArchiveFolder, video: ListedVideo) -> Outcome:
    """Writes that a video ends every process that works on it. Raises ArchiveFull and what the store raises."""
    detail = f"{MOST_ATTEMPTS} processes have ended while they worked on this video"
    append(archive, setup.problem(video, "worker_crashed", detail))
    return Outcome(video.path, "worker_crashed")
