"""Base class of nodes that use files, by plain names and only in a directory that the operator has named.

A manifest comes from a client, so it must not choose paths on the server's disk. The directory is a setting of the
class: the program that sets up the service puts `Recorder.in_directory(path)` into the registry. Without a directory
the node can be described and built, but no pipeline can be made with it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from nodes.contract import Node

__all__ = ["DirectoryNode", "open_file", "require_plain_name"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")


class DirectoryNode(Node):
    """A node that may use files in one directory, and cannot run without one.

    Attributes:
      directory: The allowed directory; None if there is none.
      option: Command-line option with which the operator allows one.
    """

    __slots__ = ()

    placement = "thread"
    directory: ClassVar[Path | None] = None
    option: ClassVar[str]

    @classmethod
    def in_directory(cls, directory: Path, **settings: Any) -> type[Self]:
        """Return this node class with an allowed directory; `settings` replace further class attributes."""
        return type(cls.__name__, (cls,), {"__module__": cls.__module__, "directory": directory, **settings})

    def connect(self, upstreams: Sequence[str]) -> None:
        """Refuse to be part of a pipeline if no directory is allowed.

        Raises:
          ValueError: no directory is allowed.
        """
        if self.directory is None:
            raise ValueError(f"{type(self).__name__} is not allowed any directory here: see the option {self.option}")


def require_plain_name(name: str) -> None:
    """Refuse a name that could lead out of a directory, or that would be awkward in one.

    Raises:
      ValueError: the name is not a plain file name.
    """
    if not _PLAIN.fullmatch(name):
        raise ValueError(
            "must be a plain file name of 1 to 100 ASCII letters, digits, spaces, dots, underscores and hyphens,"
            f" beginning with a letter or digit; got {name!r:.80}"
        )


def open_file(path: Path, flags: int) -> int:
    """Open a regular file without following a symbolic link; the caller must close the returned file descriptor.

    Raises:
      OSError: the file cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name!r} is not a regular file")
    return descriptor
