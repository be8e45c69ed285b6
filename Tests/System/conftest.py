"""Fixtures: a lab for each test, whose logs are shown when the test fails."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness import Lab  # noqa: E402  (the path has to be there first)

_outcomes = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash.setdefault(_outcomes, {})[report.when] = report
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab is not None:
        report.sections.append((f"logs (kept in {lab.folder})", lab.logs()))
    return report


@pytest.fixture
def lab(request):
    """Starts redis-server, vendor-app, cluster-driver and scp-fleet; ends them with the test."""
    started = Lab()
    yield started
    outcomes = request.node.stash.get(_outcomes, {})
    started.close(keep=any(report.failed for report in outcomes.values()))
