from __future__ import annotations

import pytest

from tests.interop.tools import not_tested


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skipping is loud: what could not be tested here is said at the end, whatever -q says."""
    if not_tested:
        terminalreporter.section("NOT TESTED AGAINST FOREIGN IMPLEMENTATIONS", red=True, bold=True)
        for what in not_tested:
            terminalreporter.line(what, red=True)
