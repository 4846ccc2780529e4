"""Binds the verb families, reads the global flags, and turns every error into a sentence and an exit code.

Verb modules import nothing heavy at their top: `reconciler --help` and `validate` must start fast.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from reconciler import __version__
from reconciler.cli import exits, output, pipes
from reconciler.cli.context import GLOBALS
from reconciler.cli.words import ordered
from reconciler.model.errors import ReconcilerError

# Terraform's single-dash spellings: muscle memory is free.
_TERRAFORM = {
    "-out": "--out",
    "-target": "--target",
    "-exclude": "--exclude",
    "-destroy": "--destroy",
    "-detailed-exitcode": "--detailed-exitcode",
    "-auto-approve": "--yes",
    "--auto-approve": "--yes",
    "-json": "--output=json",
    "-refresh-only": "--refresh-only",
    "-parallelism": "--parallelism",
    "-no-color": "--no-color",
}

# Global flags that are followed by a value.
_VALUED = ("-C", "--chdir", "-e", "--env", "--config", "--state", "--log-format", "--request-timeout")
# In the order of `--help`.
_FAMILIES = (
    "author", "validate", "converge", "inspect", "lifecycle", "state", "daemon", "gateway", "keys", "devnet", "proof", "fetch",
    "payments", "consumer", "export",
)  # fmt: skip  # fmt: skip
# Of these the other families need not even be imported.
_ALONE = {
    "validate": "validate", "plan": "converge", "verify": "proof", "proof": "proof", "devnet": "devnet", "wallet": "keys",
    "identity": "keys", "fetch": "fetch", "gateway": "gateway", "consumer": "consumer", "export": "export",
    "payments": "payments", "consumers": "payments",
}  # fmt: skip
# Parent of every fault of a command line; typer, which may bring its own click, names it nowhere that all its versions share.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def _version(wanted: bool) -> None:
    if wanted:
        output.data(f"reconciler {__version__}")
        raise typer.Exit


def flags(
    directory: Annotated[Path, typer.Option("-C", "--chdir", help="Work in this directory.", show_default=False)] = Path(),
    environment: Annotated[str | None, typer.Option("-e", "--env", help="Apply overlays/ENV.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file instead of reconciler.yaml.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="State directory or database URL.")] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Never colour (NO_COLOR does the same).")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only data and errors.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", "--debug", help="Say more; secrets stay hidden.")] = False,
    log_format: Annotated[str, typer.Option("--log-format", help="text or json.")] = "text",
    request_timeout: Annotated[
        str | None,
        typer.Option(
            "--request-timeout", metavar="DURATION", help="Longest that a host may take over a request without content."
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Flags of every verb, before it or after it."""
    GLOBALS.directory, GLOBALS.environment, GLOBALS.config, GLOBALS.state = directory, environment, config, state
    GLOBALS.colour, GLOBALS.quiet, GLOBALS.verbose, GLOBALS.log_format = not no_color, quiet, verbose, log_format
    GLOBALS.request_timeout = None if request_timeout is None else _duration(request_timeout)
    if no_color:
        os.environ["NO_COLOR"] = "1"


def _duration(text: str) -> float:
    """Seconds, more than none."""
    from reconciler.manifest import units

    try:
        if (said := units.duration(text)) > 0:
            return said / 1000
    except units.UnitError as error:
        raise typer.BadParameter(f"--request-timeout: {error}") from error
    raise typer.BadParameter("--request-timeout: no host answers in no time")


def bind(words: Sequence[str] = ()) -> typer.Typer:
    """The program with every verb in place; or, for a command line that names one of them, with that verb only.

    To read the signatures of all verbs takes a fifth of a second, more than most verbs need for their work.
    """
    program = typer.Typer(
        name="reconciler",
        help="Declare what you publish on the BSV overlay network; this makes the network agree, and keeps it so.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    program.callback()(flags)
    verb = "" if "_RECONCILER_COMPLETE" in os.environ else _verb(words)
    for name in [_ALONE[verb]] if verb in _ALONE else _FAMILIES:
        importlib.import_module(f"reconciler.cli.{name}").bind(program)
    commands = [one for one in program.registered_commands if verb in (one.name, _spelled(one.callback))]
    groups = [one for one in program.registered_groups if one.name == verb]
    if commands or groups:
        program.registered_commands, program.registered_groups = commands, groups
    return program


def _verb(words: Sequence[str]) -> str:
    """The first word that is neither a flag nor its value; what the real parser makes of the rest is its affair."""
    before = ""
    for word in words:
        if not word.startswith("-") and before not in _VALUED:
            return word
        before = word
    return ""


def _spelled(verb: Callable[..., object] | None) -> str:
    """The name by which a function is called as a verb, unless it was given another."""
    return typer.main.get_command_name(verb.__name__) if verb is not None else ""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    words = [_TERRAFORM.get(word, word) for word in arguments]
    pipes.mind()
    try:
        program = typer.main.get_command(bind(words))
        result = program(ordered(words, program), standalone_mode=False, prog_name="reconciler")
        return result if isinstance(result, int) else exits.OK
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        output.say("aborted; nothing was done")
        return exits.INTERRUPTED
    except _CommandLineError as error:
        return _usage(error)
    except KeyboardInterrupt:
        output.say("interrupted; the journal is consistent, run the same command to continue")
        return exits.INTERRUPTED
    except ReconcilerError as error:
        output.fail(error.message, error.hint)
        return exits.code_of(error)
    except Exception as error:
        return _unplanned(error)


def _usage(error: Exception) -> int:
    """A command line that could not be read: what is wrong with it, and how that command is used."""
    context = getattr(error, "ctx", None)
    if context is not None:
        output.say(context.get_usage())
    text = str(getattr(error, "format_message", error.__str__)())
    output.fail(text[:1].lower() + text[1:], f"see: {context.command_path if context is not None else 'reconciler'} --help")
    return exits.USAGE


def _unplanned(error: Exception) -> int:
    from reconciler.settings import SettingsError

    if isinstance(error, SettingsError):
        from reconciler.cli.checking import show

        show(error.diagnostics, {error.diagnostics[0].at.file: error.text})
        return exits.ERROR
    if GLOBALS.verbose:
        raise error
    output.fail(f"cannot go on: {type(error).__name__}: {error}", "this is a fault of the program; -v shows where it happened")
    return exits.ERROR
