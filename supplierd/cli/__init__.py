"""The `supplierd` command: parse, call, exit."""

from supplierd.cli.main import main

__all__ = ["main"]
