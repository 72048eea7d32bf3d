"""Deprecated import path of `engine.manifest.Pipeline`; it will be removed in the next version."""

from __future__ import annotations

import warnings

from engine.manifest.builder import Pipeline

__all__ = ["Pipeline"]

warnings.warn(
    "engine.builder.Pipeline is now engine.manifest.Pipeline; import it from headrace",
    DeprecationWarning,
    stacklevel=2,
)
