"""Comparison of Headrace with its peers: programs that do the same work, and the budgets that Headrace must meet."""
