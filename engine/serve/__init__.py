"""The server program, `python -m engine.serve`: flags, settings, signals and the heap.

A composition root: it wires nodes, engine and transport together.
"""
