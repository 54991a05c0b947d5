"""The command line: one file a command."""

import logging
import sys
from typing import Any

import click

from gateway.errors import ConfigError, GatewayError, told
from gateway.version import VERSION

_COMMANDS = {
    "run": "gateway.cli.run:run",
    "check": "gateway.cli.check:check",
    "schema": "gateway.cli.schema:schema",
    "status": "gateway.cli.status:status",
    "plan": "gateway.cli.plan:plan",
    "read": "gateway.cli.read:read",
    "scan": "gateway.cli.scan:scan",
    "browse": "gateway.cli.browse:browse",
    "decode": "gateway.cli.decode:decode",
    "import": "gateway.cli.import_:import_",
    "buffer": "gateway.cli.buffer:buffer",
    "certs": "gateway.cli.certs:certs",
    "demo": "gateway.cli.demo:demo",
    "version": "gateway.cli.version:version",
}

log = logging.getLogger(__name__)

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
"""What a shell gives for a command that Ctrl-C ended."""


class Commands(click.Group):
    """Imports a command when it is called: `check` needs no MQTT, `run` no demo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which one meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="edge-gateway")
def commands() -> None:
    """Read PLCs over Modbus and OPC UA, keep every reading on disk, forward it over TLS-secured MQTT.

    \b
    Example:
      edge-gateway check -c gateway.yaml
      edge-gateway run -c gateway.yaml
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; whatever goes wrong is a sentence on stderr and an exit code, never a traceback."""
    try:
        sys.exit(commands.main(arguments, standalone_mode=False) or 0)
    except click.UsageError as error:
        _tell_wrong_use(error)
        sys.exit(WRONG_USE)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("\nedge-gateway: stopped\n")
        sys.exit(INTERRUPTED)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(WRONG_USE)
    except GatewayError as error:
        sys.stderr.write(f"edge-gateway: {told(str(error), error.do)}\n")
        sys.exit(FAILED)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nobody is left to tell.
        sys.stderr.close()
        sys.exit(FAILED)
    except Exception as error:  # the last resort: a bug, or a full disk under stdout, is a sentence too
        if logging.getLogger().handlers:  # the daemon's log keeps the traceback
            log.exception("unexpected error, please report it")
        sys.stderr.write(f"edge-gateway: unexpected {type(error).__name__}: {error}. Please report it.\n")
        sys.exit(FAILED)


def _tell_wrong_use(error: click.UsageError) -> None:
    """Say in one sentence what is wrong with the arguments, and where the right ones are."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # no arguments at all: the help it is
        error.show()
        return
    names: list[str] = []
    context = error.ctx
    while context is not None and context.parent is not None:
        names.insert(0, context.command.name or "")
        context = context.parent
    command = " ".join(["edge-gateway", *names])
    text = error.format_message()
    sentence = text if text.endswith("?") else f"{text.rstrip('.')}."
    sys.stderr.write(f"{command}: {sentence} See {command} --help.\n")
