"""The nodes: each takes audio or data, gives audio or data, and knows nothing of sequence, trio or wire."""
