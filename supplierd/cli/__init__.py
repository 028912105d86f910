"""The `supplierd` command: parse, call, exit.

main   the commands
table  a snapshot as a table for people
"""

from supplierd.cli.main import main

__all__ = ["main"]
