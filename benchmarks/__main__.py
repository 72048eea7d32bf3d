"""`python -m benchmarks`: the list of what can be measured."""

from __future__ import annotations

import click

from benchmarks.latency import latency
from benchmarks.soak import soak

__all__ = ["main"]


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure Headrace on this machine."""


main.add_command(latency)
main.add_command(soak)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
