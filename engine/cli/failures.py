"""How a command ends badly: what is raised, what is said, and the exit code."""

from __future__ import annotations

import click
import soundfile
import trio

from engine.errors import Category, EngineError, ManifestInvalid
from transport.client import RemoteError, RpcError

__all__ = ["FAILED", "USAGE", "BadInput", "explain", "nobody_reads"]

FAILED = 1
USAGE = 2


class BadInput(click.ClickException):
    """What the user gave cannot be used: a file, a manifest, an address."""

    exit_code = USAGE


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
