"""Fixtures: a lab for each test, whose logs are shown when the test fails."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import namespaces  # noqa: E402  (the path has to be there first)
import packaged  # noqa: E402
from harness import Lab  # noqa: E402
from hosts import HostedLab  # noqa: E402

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


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """The Debian package, built once, from the programs that the other tests run."""
    if reason := packaged.why_not():
        pytest.skip(f"NOT TESTED: {reason}")
    return packaged.Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def hosted():
    """A lab whose parts run on hosts of their own."""
    reason = namespaces.why_not()
    if reason:
        print(f"NOT TESTED: what needs hosts of its own: {reason}", file=sys.__stderr__, flush=True)
        pytest.skip(f"NOT TESTED: {reason}")
    started = HostedLab()
    try:
        yield started
    finally:
        started.close()
