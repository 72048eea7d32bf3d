"""Servers that do the measured work, each a program that runs in its own interpreter."""
