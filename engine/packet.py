"""Deprecated import path of `engine.messages`; it will be removed in the next version."""

from __future__ import annotations

import warnings

from engine.messages import *  # noqa: F403 - all names that this module used to have
from engine.messages import __all__ as __all__

warnings.warn("engine.packet is now engine.messages; import from headrace", DeprecationWarning, stacklevel=2)
