"""`edge-gateway schema`: prints the config's JSON Schema, for editors."""

import json

import click

from gateway.config.document import json_schema


@click.command(epilog="Example: edge-gateway schema > gateway.schema.json")
def schema() -> None:
    """Print the JSON Schema of a config, which lets an editor complete and check it."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
