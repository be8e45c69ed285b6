"""The shipped unit under a real systemd: what ends a node, its controllers do not notice; what stops it for good hands
over what it has."""

import json
import re
import time
import urllib.request

import pytest

import booted
import threads
from process import free_port, wait_for

pytestmark = pytest.mark.skipif(booted.why_not() is not None, reason=str(booted.why_not()))

CONTROLLERS = 1000

# The machine's own network and limits, and a log that can be read from outside.
DROP_IN = """
[Unit]
Wants=
[Service]
StandardError=append:/lab/node.log
LimitNOFILE=20000
{more}
"""
SETTINGS = """
CLUSTER_DRIVER_REDIS={redis}
CLUSTER_DRIVER_VENDOR={vendor}
CLUSTER_DRIVER_METRICS=127.0.0.1:{metrics}
CLUSTER_DRIVER_PEERS=127.0.0.1:0
CLUSTER_DRIVER_ADVERTISE=127.0.0.1:0
CLUSTER_DRIVER_LOG=stderr
"""


class Installed:
    """A node that is a unit of a booted systemd."""

    def __init__(self, lab, redis, vendor, more=""):
        self.vendor = vendor
        self.port, metrics = free_port(), free_port()
        self.address, self.metrics_at = "127.0.0.1", f"127.0.0.1:{metrics}"
        self.unit = f"cluster-driver@{self.port}"
        self.system = booted.Systemd(lab, DROP_IN.format(more=more))
        try:
            self.system.write(f"/etc/cluster-driver/{self.port}.env",
                              SETTINGS.format(redis=redis, vendor=vendor.url, metrics=metrics))
            said = self.ctl("start")
            assert said == "", said + self.ctl("status") + self.log()
        except BaseException:
            self.system.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.system.close()

    def ctl(self, *verb):
        return self.system.run("systemctl", *verb, self.unit)

    def show(self, key):
        return self.system.show(self.unit, key)

    def log(self):
        return self.system.log()

    def metrics(self):
        """None while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics_at}/metrics", timeout=2) as reply:
                lines = reply.read().decode().splitlines()
        except OSError:
            return None
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def has(self, controllers):
        """So many are served, and would outlive the process."""
        said = self.metrics() or {}
        return (said.get("cluster_driver_sessions"), said.get("cluster_driver_connections_parked")) == (
            controllers, controllers)

    def wait_replaced(self, main, controllers, what):
        wait_for(lambda: self.show("MainPID") not in ("0", main) and self.has(controllers), 40,
                 f"all are served again after {what}")


def test_what_ends_a_node_its_controllers_do_not_notice(lab, capsys):
    vendor = lab.vendor(db="memory:")
    with Installed(lab, "memory:", vendor) as node:
        fleet = lab.fleet(node, CONTROLLERS, 2, "15s", vendor=vendor, options=["--drain", "30s"])
        fleet.wait_connected(CONTROLLERS)
        wait_for(lambda: node.has(CONTROLLERS), 20, "all are parked")
        lines = []
        for how in (["kill", "-s", "KILL"], ["restart"], ["kill", "-s", "ABRT"], ["restart"]):
            main, began, cpu = node.show("MainPID"), time.monotonic(), node.system.cpu_ms()
            node.ctl(*how)
            node.wait_replaced(main, CONTROLLERS, how)
            lines.append(f"{' '.join(how)}: {(time.monotonic() - began) * 1000:.0f} ms, "
                         f"{node.system.cpu_ms() - cpu} ms of PID 1")
        assert int(node.show("NFileDescriptorStore")) < 20
        assert "serving" in node.show("StatusText")
        report = fleet.report(90)
        with capsys.disabled():
            print(f"\n  {CONTROLLERS} controllers under systemd: {'; '.join(lines)}; gap {report['gap_ms']}")
        assert report["exit"] == 0 and report["reconnects"] == 0, (report, node.log())
        assert report["lost"] == 0 and report["duplicated"] == 0, report
        assert node.log().count(f"going on with {CONTROLLERS} connections") == 4, node.log()


def test_the_watchdog_replaces_a_node_that_hangs_and_nobody_notices(lab):
    vendor = lab.vendor(db="memory:")
    with Installed(lab, "memory:", vendor, more="WatchdogSec=2s") as node:
        fleet = lab.fleet(node, 100, 2, "25s", vendor=vendor, options=["--drain", "30s"])
        fleet.wait_connected(100)
        wait_for(lambda: node.has(100), 20, "all are parked")
        main = node.show("MainPID")
        threads.hang(node.system.main_pid(node.unit), "events")
        node.wait_replaced(main, 100, "the watchdog")
        report = fleet.report(90)
        assert report["exit"] == 0 and report["reconnects"] == 0, (report, node.log())
        assert report["lost"] == 0 and report["duplicated"] == 0, report
        assert "stuck: the event thread" in node.log()
        assert node.show("NRestarts") == "1"


def test_a_reload_takes_the_files_of_the_unit(lab):
    vendor = lab.vendor(db="memory:")
    with Installed(lab, "memory:", vendor) as node:
        main = node.show("MainPID")

        def reload(lines):
            node.system.write("/etc/cluster-driver/cluster-driver.env", lines)
            assert node.ctl("reload") == ""

        def limit():
            return node.metrics()["cluster_driver_event_in_flight_limit_bytes"]

        assert limit() == 8 << 20
        reload("CLUSTER_DRIVER_IN_FLIGHT_BYTES=2MiB\n")
        wait_for(lambda: limit() == 2 << 20, 10, "the limit is another one")
        reload("CLUSTER_DRIVER_IN_FLIGHT_BYTES=2\n")
        wait_for(lambda: "NOT RELOADED" in node.show("StatusText"), 10, "the refusal is shown")
        reload("CLUSTER_DRIVER_IN_FLIGHT_BYTES=3MiB\n")
        wait_for(lambda: limit() == 3 << 20, 10, "the limit is another one")
        assert "NOT RELOADED" not in node.show("StatusText")
        assert node.show("ActiveState") == "active" and node.show("MainPID") == main
