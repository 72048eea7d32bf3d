"""`python -m engine.serve`."""

from engine.serve import main

main(prog_name="python -m engine.serve")
