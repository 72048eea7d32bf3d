"""The soak test: a server among well-behaved and hostile clients, watched for leaks."""
