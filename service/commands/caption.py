"""`vsg caption`."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from models.graph.bundle import sha256_of
from models.graph.scene_graph import SceneGraph
from service.commands.common import (
    FILE_OR_STANDARD_INPUT,
    STANDARD_INPUT,
    frames_bar,
    option_flags,
    read_graph,
    read_options,
    read_settings,
    settings_flags,
    video_argument,
    video_file,
)
from service.errors import InvalidOption, SettingsError
from service.loading import bundle_folders
from service.options import VideoOptions
from service.prompt import MIN_TOKENS, Appearances, Message, build_messages, build_prompt, key_moments
from service.prompt.captioner import CaptionEndpoint, Captioner, endpoint_of
from service.prompt.key_frames import read_key_frames
from service.settings import ENV_PREFIX, Settings, decode_limits
from vsg import open_model


@click.command()
@video_argument
@settings_flags("caption_base_url", "caption_model", "caption_seconds")
@click.option("--stream/--no-stream", "streamed", default=True, help="Print words as they come, or all at the end.")
@click.option("--key-frames", type=click.IntRange(0, 32), default=4, show_default=True, help="Most images to send.")
@click.option(
    "--max-tokens", type=click.IntRange(min=MIN_TOKENS), default=400, show_default=True, help="Of the prompt's text."
)
@click.option("--dry-run", is_flag=True, help="Print the request, and send nothing.")
@click.option("--graph", "graph_file", type=FILE_OR_STANDARD_INPUT, help="Graph of the video.")
@settings_flags("engine", "bundles")
@option_flags("fps", "start", "end")
def caption(
    video: Path,
    caption_base_url: str | None,
    caption_model: str | None,
    caption_seconds: str | None,
    streamed: bool,
    key_frames: int,
    max_tokens: int,
    dry_run: bool,
    graph_file: Path | None,
    engine: str | None,
    bundles: tuple[str, ...] | None,
    **texts: str | None,
) -> None:
    """Have a language model caption a video from its scene graph.

    VIDEO or the graph may be -, which reads standard input.
    """
    if STANDARD_INPUT == video == graph_file:
        raise click.UsageError("VIDEO and --graph are both -, but standard input holds only one of them")
    settings = read_settings(
        {
            "caption_base_url": caption_base_url,
            "caption_model": caption_model,
            "caption_seconds": caption_seconds,
            "engine": engine,
            "bundles": bundles,
        }
    )
    endpoint = endpoint_of(settings)
    if endpoint is None:
        raise SettingsError(
            f"no endpoint to ask: name one with --base-url or {ENV_PREFIX}CAPTION_BASE_URL, and its model with --model"
        )
    captioner = None if dry_run else Captioner(endpoint)  # what is missing is told before the work begins
    options = read_options(texts)
    with video_file(video) as path:
        graph = make_graph(path, options, settings) if graph_file is None else graph_of(graph_file, path, named=video)
        prompt = build_prompt(
            Appearances.of(graph.frames),
            graph.relations,
            graph.vocabulary,
            duration=graph.video.duration,
            max_tokens=max_tokens,
        )
        images = read_key_frames(path, graph.video, key_moments(graph, key_frames), decode_limits(settings))
    messages = build_messages(prompt, graph.vocabulary, images)
    if captioner is None:
        click.echo(shown_request(endpoint, messages, streamed=streamed))
    else:
        asyncio.run(print_caption(captioner, messages, streamed=streamed))


def make_graph(video: Path, options: VideoOptions, settings: Settings) -> SceneGraph:
    """The graph of a video, by the first bundle, under a progress bar."""
    chosen = options.model_dump(exclude={"model"}, exclude_unset=True)
    with open_model(bundle_folders(settings)[0], settings.engine) as model, frames_bar() as show:
        return model(video, progress=show, **chosen)


def graph_of(path: Path, video: Path, *, named: Path) -> SceneGraph:
    """A graph that was made before. Raises InvalidOption when it is none, or one of another video."""
    graph = read_graph(path)
    if graph.video.sha256 != sha256_of(video):
        raise InvalidOption("graph", f"{path} is the graph of another video than {named}")
    return graph


def shown_request(endpoint: CaptionEndpoint, messages: list[Message], *, streamed: bool) -> str:
    """The request as it would be sent, with images shortened and without the key."""
    head = f"POST {endpoint.url}\n"
    if endpoint.key is not None:
        head += "Authorization: Bearer …\n"
    body = endpoint.request(messages, streamed=streamed)
    return f"{head}\n{json.dumps(_shortened(body), indent=2, ensure_ascii=False)}"


def _shortened(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _shortened(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_shortened(value) for value in part]
    if isinstance(part, str) and part.startswith("data:"):
        return f"{part.partition(',')[0]},… ({len(part)} characters)"
    return part


async def print_caption(captioner: Captioner, messages: list[Message], *, streamed: bool) -> None:
    """Writes the caption to standard output as it comes."""
    begun = False
    async with captioner, aclosing(captioner.caption(messages, streamed=streamed)) as pieces:
        try:
            async for piece in pieces:
                begun = True
                click.echo(piece, nl=False)
        finally:
            if begun:
                click.echo()
