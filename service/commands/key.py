"""`vsg key`."""

from __future__ import annotations

from typing import TextIO

import click

from service.access import key_line, new_key


@click.command()
@click.argument("name")
@click.option("--keys", type=click.File("a"), help="Key file that gets the line, instead of it being printed.")
def key(name: str, keys: TextIO | None) -> None:
    """Make a key that lets its bearer use the service.

    Prints the key, which is kept nowhere, and then the line for the key file of `vsg serve`, which has only its hash.
    Several keys may have one NAME: they see the same videos, so a key can be replaced without losing any.
    """
    made = new_key()
    line = key_line(name, made)
    click.echo(made)
    click.echo(line, file=keys)
