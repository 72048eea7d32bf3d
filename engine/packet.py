"""Deprecated import path of `engine.messages`; it goes in the next version."""

from __future__ import annotations

import warnings

from engine.messages import *  # noqa: F403 - the names that stood here
from engine.messages import __all__ as __all__

warnings.warn("engine.packet has become engine.messages; import from headrace", DeprecationWarning, stacklevel=2)
