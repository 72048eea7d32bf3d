"""Load on a server: scripts of chunks, client processes that send them, and what came back."""
