"""The wire: package remotemedia.v1 and the code generated from it (`python protos/generate.py`).

Only `transport` imports this package.
"""
