"""A model of this process: the only module of `vsg` that knows the service's pipeline."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Literal, Self, Unpack

from models.engines import EngineName
from models.errors import ModelError
from models.graph.bundle import Manifest
from models.graph.scene_graph import SceneGraph
from models.graph.vocabulary import Vocabulary
from service.errors import InvalidOption, ServiceError
from service.loading import bundle_folders, find_bundles, open_pipeline
from service.options import VideoOptions
from service.pipeline import Pipeline
from service.pipeline import Progress as PipelineProgress
from service.settings import load_settings
from vsg.errors import OpenModelError, problem_error
from vsg.values import GraphOptions, Progress, VideoFile, option_texts


def open_model(
    bundle: str | os.PathLike[str],
    engine: EngineName | Literal["stub"] | None = None,
    *,
    threads: int | None = None,
    device: int | None = None,
) -> Model:
    """Opens a bundle, to make graphs in this process. Needs the extra `cpu` or `gpu`; no torch, no service.

    bundle: path of a bundle, or the name of an installed one, such as `arn-compact`.
    engine: what runs it, such as `onnxruntime-cpu` (the default), `onnxruntime-cuda` or `openvino`.
    threads: of one stream of a CPU engine; 0 shares the cores out.
    device: number of the GPU.

    What is not given here comes from the `VSG_*` variables, as for `vsg graph`; so do the limits of decoding. Installed
    are the bundles of `VSG_BUNDLES`, of `./bundles` and of `bundles/` beside the packages.

    Raises OpenModelError where there is no such bundle, it is damaged, or it cannot run here.
    """
    try:
        settings = load_settings({"engine": engine, "threads": threads, "device": device})
        known = bundle_folders(settings) if settings.bundles else []
        folders = find_bundles(Path(bundle), known)
        if len(folders) > 1:
            names = ", ".join(folder.name for folder in folders)
            raise OpenModelError(f"{bundle} holds several bundles: give the path of one of {names}")
        return Model(open_pipeline(settings, bundles=folders))
    except (ModelError, ServiceError) as error:
        raise OpenModelError(str(error)) from error


class Model:
    """A model that is ready to make graphs; `open_model` makes one.

        with open_model("arn-compact") as model:
            graph = model("clip.mp4", fps=4)

    Several threads may call it at once, and then share its batches. Leaving the context, or `close`, ends its threads;
    a model that is thrown away ends them too.

    name: of the model.
    manifest: what the bundle says of itself.
    vocabulary: the objects and predicates it knows.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Takes a pipeline of one model, and closes it in the end."""
        self._pipeline = pipeline
        self._close = weakref.finalize(self, pipeline.close)
        self.manifest: Manifest = pipeline.model(None).manifest
        self.name: str = self.manifest.name
        self.vocabulary: Vocabulary = self.manifest.vocabulary

    def __call__(
        self,
        video: VideoFile,
        *,
        progress: Callable[[Progress], None] | None = None,
        **options: Unpack[GraphOptions],
    ) -> SceneGraph:
        """Makes the scene graph of a video.

        video: a path, the bytes of a video file, or a binary file. Bytes and files go through a temporary file.
        progress: called after every clip; what it raises ends the work.
        options: those of the HTTP API.

        Raises OptionError, UnusableVideoError or another ProblemError, and OSError where there is no such file.
        """
        if not self._close.alive:
            raise ValueError(f"the model {self.name!r} is closed: open it again with open_model")

        def told(done: PipelineProgress) -> None:
            if progress is not None:
                progress(Progress(frames=done.frames, expected=done.expected))

        try:
            wanted = VideoOptions.from_texts(_checked(option_texts(options)))
            with _on_disk(video) as path:
                return self._pipeline.run(path, wanted, progress=told)
        except ServiceError as error:
            raise problem_error(error.problem()) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def close(self) -> None:
        """Ends its threads, and frees what the engine holds; a second call does nothing."""
        self._close()


def _checked(texts: dict[str, str]) -> dict[str, str]:
    """The same texts. Raises InvalidOption for an option of requests only, such as `webhook`, or of nobody."""
    names = GraphOptions.__annotations__
    for name in texts:
        if name not in names:
            raise InvalidOption(name, f"{name!r} is not an option of a model: use {', '.join(names)}")
    return texts


@contextmanager
def _on_disk(video: VideoFile) -> Iterator[Path]:
    """The path of a video; decoders need a file, since MP4 is not read from front to back."""
    if isinstance(video, str | os.PathLike):
        yield Path(video)
        return
    with NamedTemporaryFile(prefix="vsg-") as file:
        shutil.copyfileobj(BytesIO(video) if isinstance(video, bytes) else video, file)
        file.flush()
        yield Path(file.name)
