"""Reconnecting clients: the public import path of `transport.client.reconnect`."""

from __future__ import annotations

from transport.client.reconnect import Backoff, Reconnecting, reconnecting, retry_after_s

__all__ = ["Backoff", "Reconnecting", "reconnecting", "retry_after_s"]
