"""Headrace beside others: who they are, how each does the same work, and what the comparison tells."""
