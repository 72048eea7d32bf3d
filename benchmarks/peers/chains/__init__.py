"""In-process peers, each a program that runs in its own interpreter."""
