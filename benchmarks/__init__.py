"""Measurements of Headrace that anyone can repeat: `python -m benchmarks --help`."""
