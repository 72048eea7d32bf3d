"""Protobuf to the engine's types and back: pure functions, each message written and read in one module."""
