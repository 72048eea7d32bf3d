"""Wire schema: package remotemedia.v1 and the code generated from it by `python protos/generate.py`.

Only `transport` imports this package.
"""
