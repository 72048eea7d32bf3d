"""Errors that end a command: what to say of each, and its exit code.

Apart from `failures`, because it imports the libraries whose errors it explains, and `--help` must not.
"""

from __future__ import annotations

import soundfile
import trio

from engine.cli.common.failures import FAILED, USAGE, BadInput
from engine.errors import Category, EngineError, ManifestInvalid
from transport.client import RemoteError, RpcError

__all__ = ["explain", "nobody_reads"]


def nobody_reads(error: BaseException | None) -> bool:
    """Whether standard output has been closed on us: what print raises of that, or rich."""
    return isinstance(error, (BrokenPipeError, SystemExit))


def explain(error: BaseException) -> tuple[str, int] | None:
    """What to say of an error that ended a command, and its exit code; None if it is a bug of ours."""
    match error:
        case BadInput():
            return error.message, USAGE
        case ManifestInvalid():
            return error.message, USAGE
        case RemoteError(category=Category.VALIDATION):
            return f"the server refuses the session: {error.message}", USAGE
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
