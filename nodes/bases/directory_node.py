"""Nodes that use files: by plain names, in a directory that the operator has named, and nowhere else.

A manifest comes from a client, so it may not say where on the server's disk something is. The directory is a setting of
the class: whoever wires the service puts `Recorder.in_directory(path)` into the registry. Without it the node can be
described and built, but no pipeline can be made with it.
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
    """A node that is allowed one directory, and may run nowhere else.

    Attributes:
      directory: The one; None allows none.
      option: What the operator says to allow one.
    """

    __slots__ = ()

    placement = "thread"
    directory: ClassVar[Path | None] = None
    option: ClassVar[str]

    @classmethod
    def in_directory(cls, directory: Path, **settings: Any) -> type[Self]:
        """The same node class, allowed this directory; with other values for what else it lets the operator set."""
        return type(cls.__name__, (cls,), {"__module__": cls.__module__, "directory": directory, **settings})

    def connect(self, upstreams: Sequence[str]) -> None:
        """Refuse to be part of a pipeline where no directory is allowed.

        Raises:
          ValueError: none is.
        """
        if self.directory is None:
            raise ValueError(f"{type(self).__name__} is not allowed any directory here: see the option {self.option}")


def require_plain_name(name: str) -> None:
    """Refuse what could lead out of a directory, or be awkward in one.

    Raises:
      ValueError: it is no plain file name.
    """
    if not _PLAIN.fullmatch(name):
        raise ValueError(
            "must be a plain file name: 1 to 100 letters, digits, spaces and . _ - of ASCII, beginning with a letter or"
            f" digit; got {name!r:.80}"
        )


def open_file(path: Path, flags: int) -> int:
    """Open a regular file, and no link to one; the file descriptor is the caller's to close.

    Raises:
      OSError: it cannot be opened, or is something else.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name!r} is no regular file")
    return descriptor
