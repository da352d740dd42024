"""The command line: `glm4v …`. What a command needs is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import sys

import typer

from worker import cli_jobs, cli_local, show_command, weights_command

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")

#: All that is installed without an extra, and what is ours.
_PACKAGES_OF_OURS = {"api", "glm4v_client", "glm4v_core", "migrations", "worker"}


@app.callback()
def glm4v() -> None:
    """GLM-V visual tokens of images and videos."""


# Commands that bring their signature along.
cli_local.app.add_typer(weights_command.app, name="weights", rich_help_panel=cli_local.PANEL)
cli_local.app.command("show", help=show_command.SHOW_HELP, rich_help_panel=cli_local.PANEL)(show_command.show)

# Without a name: their commands are commands of `glm4v` itself.
app.add_typer(cli_local.app)
app.add_typer(cli_jobs.app)


def main() -> None:
    """The entry point."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _PACKAGES_OF_OURS:
            raise
        sys.stderr.write(f"error: this command needs {package}: pip install 'glm4v-embed[worker]' brings it\n")
        sys.exit(2)
