"""Entry point of the `specbeam` command.

Sub-commands are imported when they are used, so that `specbeam --help` stays quick and a client
install without torch can still run the commands that need none.
"""

import importlib
import logging
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import click

from specbeam.cli import exit_codes

# Command name -> (module:attribute, line shown by `specbeam --help`).
COMMANDS: dict[str, tuple[str, str]] = {
    "data": ("specbeam.cli.data:data", "Import or generate a dataset; make semantic IDs."),
    "train": ("specbeam.cli.train:train", "Train a target and a draft model; write a bundle."),
    "bundle": ("specbeam.cli.bundle:bundle", "Pack a checkpoint; show or verify a bundle."),
    "evaluate": ("specbeam.cli.evaluate:evaluate", "Recall and NDCG of a bundle on a test split."),
    "bench": ("specbeam.cli.bench:bench", "Measure searches and served requests."),
    "serve": ("specbeam.cli.serve:serve", "Serve a bundle on this machine."),
    "recommend": ("specbeam.cli.recommend:recommend", "Ask a running orchestrator."),
    "explain": ("specbeam.cli.explain:explain", "Draw how one answer came about."),
    "demo": ("specbeam.cli.demo:demo", "Train a small bundle, serve it and ask it."),
    "loadtest": ("specbeam.cli.loadtest:loadtest", "Load a running orchestrator."),
}
EXTRA_OF_MODULE = {
    "torch": "models",
    "transformers": "models",
    "safetensors": "models",
    "pyarrow": "data",
    "accelerate": "train",
    "matplotlib": "train",
    "scipy": "train",
    "sklearn": "train",
    "threadpoolctl": "train",
}
USER_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError)


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def __init__(self, *, lazy: Mapping[str, tuple[str, str]], help: str) -> None:
        """Keep the table of commands.

        Args:
            lazy: command name to (module:attribute, short help).
            help: text of `--help`.
        """
        super().__init__(name="specbeam", help=help)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in alphabetical order."""
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None if there is no such command."""
        if cmd_name not in self._lazy:
            return None
        module_name, _, attribute = self._lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lazy[name][1]) for name in self.list_commands(ctx)])


def make_cli() -> click.Group:
    """Return the command group."""
    cli = LazyGroup(
        lazy=COMMANDS,
        help="specbeam: exact top-K generative recommendation with speculative beam search.",
    )
    return click.version_option(_version(), prog_name="specbeam")(cli)


def main() -> None:
    """Run the command line and exit with one of the documented codes."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the program name.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        result = make_cli().main(args=arguments, prog_name="specbeam", standalone_mode=False)
    except click.exceptions.Abort:
        return _fail("interrupted", exit_codes.INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", exit_codes.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ModuleNotFoundError as error:
        return _missing_module(error)
    except USER_ERRORS as error:
        return _fail(str(error), exit_codes.BAD_INPUT)
    except ConnectionError as error:
        return _fail(str(error), exit_codes.UNAVAILABLE)
    except OSError as error:
        # No space left, a broken disk, too many open files.
        return _fail(str(error), exit_codes.FAILURE)
    return result if isinstance(result, int) else exit_codes.OK


def _missing_module(error: ModuleNotFoundError) -> int:
    extra = EXTRA_OF_MODULE.get((error.name or "").partition(".")[0])
    if extra is None:
        raise error
    return _fail(
        f"this command needs {error.name}: pip install 'specbeam[{extra}]'", exit_codes.FAILURE
    )


def _fail(message: str, code: int) -> int:
    click.echo(f"Error: {message}", err=True)
    return code


def _version() -> str:
    try:
        return version("specbeam")
    except PackageNotFoundError:
        return "unknown"
