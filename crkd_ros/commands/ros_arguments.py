"""Nodes as commands: their arguments are ROS 2's, and only --help is ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand


class _Verbatim(TyperCommand):
    """Leaves all words to ROS, in their order; click would take options and ``--`` out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["--help"]:
            return super().parse_args(ctx, args)
        ctx.args = list(args)
        return ctx.args


def node_command(main: Callable[[list[str]], int], help_: str) -> typer.Typer:
    """A node as a command.

    Args:
        main: takes the ROS arguments, answers the exit status.
        help_: what the node is and which parameters it needs.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(cls=_Verbatim, help=help_, options_metavar="[--ros-args -p NAME:=VALUE ...]")
    def start(ctx: typer.Context) -> None:
        from rclpy.utilities import remove_ros_args

        # rclpy would pass over them, and a mistyped option would have no effect.
        if others := remove_ros_args(["the node", *ctx.args])[1:]:
            ctx.fail(f"expected ROS arguments (--ros-args ...), got {' '.join(others)}")
        raise typer.Exit(main(ctx.args))

    return app
