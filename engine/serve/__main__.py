"""Entry point of `python -m engine.serve`."""

from __future__ import annotations

from headrace_startup import start

if __name__ == "__main__":
    start("engine.serve.command", "python -m engine.serve")
