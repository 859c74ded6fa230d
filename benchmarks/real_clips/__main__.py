"""Makes the graphs of real clips and counts how many of their statements are true.

    .venv/bin/python -m benchmarks.real_clips CLIPS [--truths kept] [--bundle everyday]

CLIPS is a folder with the clips under the names of the truths; those that are not there are left out. Look at a clip,
and write its truths, before you run a model on it. Choose settings on `tuned` and `generated`, never on `kept`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.errors import BenchError
from benchmarks.real_clips.judging import Truths, Verdict, judge
from vsg import open_model

FOLDER = Path(__file__).parent


@click.command()
@click.argument("clips", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--truths", default="kept", help="kept, tuned, generated, or a file; default: kept.")
@click.option("--bundle", default="everyday", help="Name or folder of a bundle; default: everyday.")
def main(clips: Path, truths: str, bundle: str) -> None:
    """Prints a line for each clip, then the figures of all as JSON."""
    file = FOLDER / f"{truths}.json"
    asked = Truths.model_validate_json((file if file.exists() else Path(truths)).read_text(encoding="utf-8"))
    present = {name: clip for name, clip in asked.clips.items() if (clips / name).exists()}
    if not present:
        name = next(iter(asked.clips))
        raise BenchError(f"{clips} has none of the clips: save them under the names of the truths, as {name}")
    verdicts = []
    with open_model(bundle) as model:
        for name, clip in present.items():
            verdicts.append(judge(model(clips / name), clip, asked.always_possible))
            print(_line(name, verdicts[-1]), flush=True)
    print(json.dumps(figures(verdicts)))


def figures(verdicts: list[Verdict]) -> dict[str, int]:
    """Returns the sums over all clips."""
    return {
        "clips": len(verdicts),
        "true": sum(verdict.right for verdict in verdicts),
        "foremost": sum(len(verdict.foremost) for verdict in verdicts),
        "found": sum(verdict.found for verdict in verdicts),
        "truths": sum(verdict.known for verdict in verdicts),
    }


def _line(name: str, verdict: Verdict) -> str:
    said = ", ".join(f"{'' if is_true else 'NOT '}{' '.join(statement)}" for statement, is_true in verdict.foremost)
    return f"{name}: {verdict.right} of {len(verdict.foremost)} true, {verdict.found} of {verdict.known} found: {said}"


if __name__ == "__main__":
    main()
