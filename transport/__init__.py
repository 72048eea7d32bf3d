"""gRPC over HTTP/2 for trio: bounded, cancellable, and the only package that knows the wire."""
