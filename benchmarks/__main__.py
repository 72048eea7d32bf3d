"""`python -m benchmarks`: the list of what can be measured."""

from __future__ import annotations

import click

from benchmarks.latency import latency

__all__ = ["main"]


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure Headrace on this machine."""


main.add_command(latency)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
