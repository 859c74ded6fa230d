"""`vsg key`."""

from __future__ import annotations

from typing import TextIO

import click

from service.keys import key_line, new_key


@click.command()
@click.argument("name")
@click.option("--keys", type=click.File("a"), help="Key file to add the line to, instead of printing it.")
def key(name: str, keys: TextIO | None) -> None:
    """Make a key that lets its bearer use the service.

    Prints the key, which is stored nowhere, and then the line for the key file of `vsg serve`, which holds its hash.
    Several keys may have one NAME. They see the same videos, so that a key can be replaced.
    """
    made = new_key()
    line = key_line(name, made)
    click.echo(made)
    click.echo(line, file=keys)
