"""gRPC over HTTP/2 for trio: bounded, cancellable, and the only package that knows the wire."""

import logging

logging.getLogger("hpack").setLevel(logging.INFO)  # at DEBUG it tells every header, bearer tokens among them
