"""Load on a server: scripts of chunks, client processes that send them, and the outcome."""
