"""Servers that do the measured work, each a program for the interpreter of its peer."""
