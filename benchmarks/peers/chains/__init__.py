"""In-process peers, each a program for the interpreter of its peer."""
