"""Reports of a stream: for people at a terminal, for programs as JSON lines, and as files."""
