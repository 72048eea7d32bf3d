"""gRPC over HTTP/2 for trio: bounded, cancellable, and the only package that knows the wire format."""

from __future__ import annotations

import logging

logging.getLogger("hpack").setLevel(logging.INFO)  # at DEBUG it logs every header, bearer tokens among them
