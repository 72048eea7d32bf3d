"""`python -m engine`: the command line."""

from __future__ import annotations

from headrace_startup import start

if __name__ == "__main__":
    start("engine.cli", "headrace")
