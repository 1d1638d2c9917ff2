"""The command line: one module per command, flags from dataclasses, nothing heavy imported before a command runs."""

from .app import main

__all__ = ["main"]
