"""The shipped unit under a real systemd: what ends a node, its controllers do not notice; what stops it, they do."""

import time
import urllib.request

import pytest

import booted
from process import free_port, wait_for

CONTROLLERS = 1000

DROP_IN = """
[Unit]
Wants=
After=
[Service]
ExecStart=
ExecStart=/lab/cluster-driver --port %i --parking --redis memory: --vendor {vendor} --metrics 127.0.0.1:{metrics} --log stderr
User=root
Group=root
StandardError=append:/lab/node.log
LimitNOFILE=20000
"""


def sessions(port):
    """How many controllers are served; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as reply:
            text = reply.read().decode()
    except OSError:
        return None
    said = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    return int(float(said["cluster_driver_sessions"])), int(float(said["cluster_driver_connections_parked"]))


@pytest.mark.skipif(booted.why_not() is not None, reason=str(booted.why_not()))
def test_what_ends_a_node_its_controllers_do_not_notice(lab, capsys):
    vendor = lab.vendor(db="memory:")
    port, metrics = free_port(), free_port()
    system = booted.Systemd(lab, DROP_IN.format(vendor=vendor.url, metrics=metrics))
    try:
        unit = f"cluster-driver@{port}"
        assert system.run("systemctl", "start", unit) == "", system.run("systemctl", "status", unit)
        fleet = lab.fleet(f"127.0.0.1:{port}", CONTROLLERS, 2, "15s", vendor=vendor, options=["--drain", "30s"])
        fleet.wait_connected(CONTROLLERS)
        wait_for(lambda: sessions(metrics) == (CONTROLLERS, CONTROLLERS), 20, "all are parked")
        lines = []
        for how in ("kill -s KILL", "restart", "kill -s ABRT", "restart"):
            main, began, cpu = system.show(unit, "MainPID"), time.monotonic(), system.cpu_ms()
            system.run("systemctl", *how.split(), unit)
            wait_for(lambda: system.show(unit, "MainPID") not in ("0", main)
                     and sessions(metrics) == (CONTROLLERS, CONTROLLERS), 20, f"all are served again after {how}")
            lines.append(f"{how}: {(time.monotonic() - began) * 1000:.0f} ms, {system.cpu_ms() - cpu} ms of PID 1")
        assert int(system.show(unit, "NFileDescriptorStore")) < 20
        assert "serving" in system.show(unit, "StatusText")
        report = fleet.report(90)
        with capsys.disabled():
            print(f"\n  {CONTROLLERS} controllers under systemd: {'; '.join(lines)}; gap {report['gap_ms']}")
        assert report["exit"] == 0 and report["reconnects"] == 0, (report, system.log())
        assert report["lost"] == 0 and report["duplicated"] == 0, report
        assert system.log().count(f"going on with {CONTROLLERS} connections") == 4, system.log()
        # A stop is one: nothing is kept, and nobody listens.
        system.run("systemctl", "stop", unit)
        assert system.show(unit, "NFileDescriptorStore") == "0"
        assert sessions(metrics) is None
    finally:
        system.close()
