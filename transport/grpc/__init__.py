"""gRPC over HTTP/2 for trio, without the services: a library of its own that knows neither engine nor messages.

From the bottom up: status, metadata, headers, framing and events (data and pure functions); limits, rate limits, frame
buffer and flow control (what a peer may cost); http2, receiving and connection (sans-io); keepalive, stream and driver
(trio); addresses and tls.
"""
