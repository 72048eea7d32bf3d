"""Nodes: each takes and yields audio or data, and knows nothing of sequence numbers, trio or the wire."""
