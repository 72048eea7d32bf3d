"""The compatibility matrix, and the syntax of versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import VersionNotSupported
from transport.service.versions import COMPATIBLE, PROTOCOL, check_client, is_compatible, runtime_version


def test_the_matrix() -> None:
    assert PROTOCOL == "v1"
    assert COMPATIBLE == {"v1": ("v1",)}


@pytest.mark.parametrize("version", ["", "v1", "1", "v1.0", "v1.0.0", "1.2.3", "v1.2.3-rc.1", "v1.0.0+build.7", "v001"])
def test_served(version: str) -> None:
    assert is_compatible(version)
    check_client(version)


@pytest.mark.parametrize(
    "version",
    [
        "v2",
        "v0",
        "v2.0.0",
        "v11",
        "-1",
        "v",
        "v1.",
        "v.1",
        "V1",
        "v1.0.0.0",
        "v1 ",
        " v1",
        "v1\n",
        "one",
        "v\uff11",
        "\0",
    ],
)
def test_not_served(version: str) -> None:
    assert not is_compatible(version)
    with pytest.raises(VersionNotSupported) as refused:
        check_client(version)
    assert repr(version) in refused.value.message
    assert "v1" in refused.value.message
    assert refused.value.context == {"client_version": version, "supported": ["v1"]}


@given(st.text(max_size=300))
def test_any_text_is_judged_and_told_briefly(version: str) -> None:
    if not is_compatible(version):
        with pytest.raises(VersionNotSupported) as refused:
            check_client(version)
        assert len(refused.value.message) < 300


@given(st.integers(0, 10**12), st.integers(0, 99), st.integers(0, 99))
def test_the_major_version_decides(major: int, minor: int, patch: int) -> None:
    assert is_compatible(f"v{major}.{minor}.{patch}") is (major == 1)


def test_there_is_a_runtime_version() -> None:
    assert runtime_version()
