"""`vsg caption`."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import click

from models.engines import ENGINES
from models.graph.bundle import sha256_of
from models.graph.scene_graph import SceneGraph
from service.commands.common import check_video, frames_bar, options_of, read_graph, video_argument
from service.errors import InvalidOption, SettingsError
from service.options import VideoOptions
from service.pipeline import Pipeline
from service.prompt import MIN_TOKENS, Appearances, Message, build_messages, build_prompt, key_moments
from service.prompt.captioner import CaptionEndpoint, Captioner, endpoint_of
from service.prompt.key_frames import read_key_frames
from service.scheduling import load_engines
from service.settings import ENV_PREFIX, Settings, bundle_folders, decode_limits, load_settings


@click.command()
@video_argument
@click.option("--base-url", help="Chat API that speaks OpenAI's protocol, up to /v1.")
@click.option("--model", help="Model of that API.")
@click.option("--timeout", type=float, help="Most seconds that the caption takes (120).")
@click.option("--stream/--no-stream", "streamed", default=True, help="Print words as they come, or all at the end.")
@click.option("--key-frames", type=click.IntRange(0, 32), default=4, show_default=True, help="Most images to send.")
@click.option(
    "--max-tokens", type=click.IntRange(min=MIN_TOKENS), default=400, show_default=True, help="Of the prompt's text."
)
@click.option("--dry-run", is_flag=True, help="Print the request, and send nothing.")
@click.option(
    "--graph", "graph_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Graph of the video."
)
@click.option("--engine", help=f"What runs the model of the graph: {', '.join(ENGINES)}.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Its bundle; default: the first.")
@click.option("--fps", help="Frames sampled per second (2).")
@click.option("--start", help="Seconds from the beginning where sampling starts (0).")
@click.option("--end", help="Seconds from the beginning where it ends.")
def caption(
    video: Path,
    base_url: str | None,
    model: str | None,
    timeout: float | None,
    streamed: bool,
    key_frames: int,
    max_tokens: int,
    dry_run: bool,
    graph_file: Path | None,
    engine: str | None,
    bundle: Path | None,
    **texts: str | None,
) -> None:
    """Have a language model caption a video from its scene graph."""
    settings = load_settings(
        {
            "caption_base_url": base_url,
            "caption_model": model,
            "caption_seconds": timeout,
            "engine": engine,
            "bundles": (bundle,) if bundle else None,
        }
    )
    endpoint = endpoint_of(settings)
    if endpoint is None:
        raise SettingsError(
            f"no endpoint to ask: name one with --base-url or {ENV_PREFIX}CAPTION_BASE_URL, and its model with --model"
        )
    captioner = None if dry_run else Captioner(endpoint)  # what is missing is told before the work begins
    options = options_of(**texts)
    check_video(video)
    graph = make_graph(video, options, settings) if graph_file is None else graph_of(graph_file, video)
    prompt = build_prompt(
        Appearances.of(graph.frames),
        graph.relations,
        graph.vocabulary,
        duration=graph.video.duration,
        max_tokens=max_tokens,
    )
    images = read_key_frames(video, graph.video, key_moments(graph, key_frames), decode_limits(settings))
    messages = build_messages(prompt, graph.vocabulary, images)
    if captioner is None:
        click.echo(shown_request(endpoint, messages, streamed=streamed))
    else:
        asyncio.run(print_caption(captioner, messages, streamed=streamed))


def make_graph(video: Path, options: VideoOptions, settings: Settings) -> SceneGraph:
    """The graph of a video, with a progress bar."""
    with (
        closing(Pipeline(load_engines(bundle_folders(settings)[:1], settings), settings)) as pipeline,
        frames_bar() as show,
    ):
        return pipeline.run(video, options, progress=show)


def graph_of(path: Path, video: Path) -> SceneGraph:
    """A graph that was made before. Raises InvalidOption when it is none, or one of another video."""
    graph = read_graph(path)
    if graph.video.sha256 != sha256_of(video):
        raise InvalidOption("graph", f"{path} is the graph of another video than {video}")
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
