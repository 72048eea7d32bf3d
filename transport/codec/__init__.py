"""Conversion between protobuf messages and the engine's types: pure functions, writer and reader side by side."""
