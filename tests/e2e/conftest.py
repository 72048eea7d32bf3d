"""Shared fixtures: one server and one foreign client, each in its own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.clients import Foreign
from tests.e2e.servers import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def foreign(server: ServerProcess) -> Iterator[Foreign]:
    with Foreign(server.address) as client:
        yield client
