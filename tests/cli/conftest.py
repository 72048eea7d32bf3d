from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.programs import stop_all


@pytest.fixture(autouse=True, scope="module")
def nothing_left_running() -> Iterator[None]:
    yield
    stop_all()
