from __future__ import annotations

import pytest

from tests.interop.tools import not_tested


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the skipped implementations at the end of the run, even with -q."""
    if not_tested:
        terminalreporter.section("NOT TESTED AGAINST FOREIGN IMPLEMENTATIONS", red=True, bold=True)
        for what in not_tested:
            terminalreporter.line(what, red=True)
