"""gRPC over HTTP/2 for trio, without the services: an independent library that knows neither engine nor messages.

From the bottom up: status, metadata, headers, framing and events (data and pure functions); limits, rate limits, frame
buffer and flow control (bounds on a peer's costs); http2, receiving and connection (sans-io); keepalive, stream and
driver (trio); addresses and tls.
"""
