"""Message and exit code of each error that can end a command.

Separate from `failures`, because this module imports the libraries whose errors it explains, and `--help` must not.
"""

from __future__ import annotations

import soundfile
import trio

from engine.cli.common.failures import FAILED, USAGE, BadInput
from engine.errors import Category, EngineError, ManifestInvalid
from transport.client import RemoteError, RpcError

__all__ = ["explain", "nobody_reads"]


def nobody_reads(error: BaseException | None) -> bool:
    """Return True if the reader of standard output went away: BrokenPipeError from print, SystemExit from rich."""
    return isinstance(error, (BrokenPipeError, SystemExit))


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the message and exit code for an error that ended a command, or None if the error is a bug."""
    match error:
        case BadInput():
            return error.message, USAGE
        case ManifestInvalid():
            return error.message, USAGE
        case RemoteError(category=Category.VALIDATION):
            return f"the server refused the session: {error.message}", USAGE
        case RpcError():
            return f"{error.message} ({error.code.name})" if error.message else error.code.name, FAILED
        case EngineError():
            return error.message, FAILED
        case trio.BrokenResourceError():
            return f"the connection is broken: {error}", FAILED
        case soundfile.SoundFileError():
            return f"the audio cannot be read or written: {error}", FAILED
        case OSError() if not isinstance(error, BrokenPipeError):
            return f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED
    return None
