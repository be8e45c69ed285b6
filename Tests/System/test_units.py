"""The units that are shipped: systemd takes every line of them, and they keep what the design relies on."""

import re
import shutil
import subprocess

import pytest

from harness import ROOT

UNITS = ROOT / "systemd"


def settings(name):
    """Key to its last value."""
    lines = (UNITS / name).read_text().replace("\\\n", " ").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_systemd_has_nothing_to_say_about_the_units(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze on PATH")
    service = (UNITS / "cluster-driver@.service").read_text()
    # The program is not installed where the tests run.
    service, n = re.subn(r"(?m)^ExecStart=/usr/bin/cluster-driver", "ExecStart=/bin/true", service)
    assert n == 1
    (tmp_path / "cluster-driver@.service").write_text(service)
    shutil.copy(UNITS / "cluster-driver.target", tmp_path)
    done = subprocess.run(
        [program, "verify", tmp_path / "cluster-driver@5001.service", tmp_path / "cluster-driver.target"],
        capture_output=True, text=True, timeout=60)
    # It also looks at units of the machine that ours refer to; only ours are judged.
    ours = [line for line in done.stderr.splitlines() if "cluster-driver" in line]
    assert not ours, done.stderr


def test_a_unit_never_gives_up_and_keeps_its_connections():
    unit = settings("cluster-driver@.service")
    # Giving up would drop what is kept.
    assert unit["StartLimitIntervalSec"] == "0" and unit["Restart"] == "always"
    assert unit["Type"] == "notify" and "--parking" in unit["ExecStart"].split()
    # Names of descriptors go into one string of the environment, which may have 128 KiB.
    entries = int(unit["FileDescriptorStoreMax"])
    assert entries * len("cscp.lot.4294967295.4294967295:") < 128 * 1024
    # In the worst case a row has 250 sockets, and a third more are in rows than are in use.
    assert entries * 250 * 3 // 4 > int(unit["LimitNOFILE"]) // 2
    # A core of a large process would make the outage longer.
    assert unit["LimitCORE"] == "0" and unit["TimeoutAbortSec"] == "2s"
