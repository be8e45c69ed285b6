"""The shipped unit under a real systemd: what ends a node, its controllers do not notice; what stops it for good hands
over what it has."""

import os
import pathlib
import time

import pytest

import booted
import threads
from installed import Installed
from process import free_port, wait_for

pytestmark = pytest.mark.skipif(booted.why_not() is not None, reason=str(booted.why_not()))

CONTROLLERS = 1000


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
                         f"{node.system.cpu_ms() - cpu:.1f} ms of PID 1")
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


def owners(redis):
    """Who owns ranges, by the word of Redis."""
    return {value.split()[3].decode() for value in redis.call("HVALS", "{cd:main}:ranges")}


class Pair:
    """A node that is a unit and one that is not, members of one cluster, and a fleet that knows both."""

    def __init__(self, lab, controllers, duration, more=""):
        self.redis, self.vendor = lab.redis(), lab.vendor(db="memory:")
        self.other = lab.node(self.redis, self.vendor, name="other", options=["--node-id", "other"])
        self.node = Installed(lab, self.redis.url, self.vendor, more)
        self.controllers = controllers
        ports = f"127.0.0.1:{self.node.port},127.0.0.1:{self.other.port}"
        self.fleet = lab.fleet(ports, controllers, 5, duration, vendor=self.vendor, options=[
            "--drain", "30s", "--backoff-min", "100ms", "--backoff-max", "1s"])

    def __enter__(self):
        try:
            self.fleet.wait_connected(self.controllers, 30)
            wait_for(lambda: owners(self.redis) == {"other", "unit"} and self.came > 0, 30, "both have ranges")
            wait_for(lambda: self.served() == self.controllers, 20, "all are served")
        except BaseException:
            self.node.system.close()
            raise
        return self

    def __exit__(self, *_):
        self.node.system.close()

    def served(self):
        return sum((node.metrics() or {}).get("cluster_driver_sessions", 0) for node in (self.node, self.other))

    @property
    def came(self):
        """Controllers that are connected to the unit's node, whoever owns them."""
        here, there = self.node.metrics() or {}, self.other.metrics()
        return (here.get("cluster_driver_sessions", 0) + here.get("cluster_driver_relays", 0)
                - there["cluster_driver_relays"])

    def wait_other_alone(self, seconds):
        """Until the other has all ranges. Returns how long that took, in s."""
        began = time.monotonic()
        wait_for(lambda: owners(self.redis) == {"other"}, seconds, "the other has all ranges", every=0.01)
        return time.monotonic() - began

    def whole(self):
        report = self.fleet.report(90)
        assert report["exit"] == 0, (report, self.node.log())
        assert report["lost"] == 0 and report["duplicated"] == 0, report
        assert report["commands"]["stale_epoch"] == 0 and report["commands"]["duplicate"] == 0, report
        return report


def test_a_restart_changes_no_owner_and_disconnects_nobody(lab):
    with Pair(lab, 100, "16s") as pair:
        for verb in (["restart"], ["try-restart"]):
            main = pair.node.show("MainPID")
            pair.node.ctl(*verb)
            wait_for(lambda: pair.node.show("MainPID") not in ("0", main) and pair.served() == 100, 20, verb)
        # The target's is passed on to its units.
        assert pair.node.system.run("systemctl", "enable", "--now", pair.node.unit, "cluster-driver.target") is not None
        main = pair.node.show("MainPID")
        pair.node.system.run("systemctl", "restart", "cluster-driver.target")
        wait_for(lambda: pair.node.show("MainPID") not in ("0", main) and pair.served() == 100, 20, "the target's")
        report = pair.whole()
        assert report["reconnects"] == 0 and report["goaways"] == 0, report
        assert owners(pair.redis) == {"other", "unit"}
        assert "stopping" not in pair.node.log() and pair.node.log().count("the connections are the next") == 3


def test_a_stop_hands_over_what_there_is_and_lets_the_controllers_go(lab, capsys):
    with Pair(lab, 100, "16s") as pair:
        came = pair.came
        began = time.monotonic()
        pair.node.ctl("stop", "--no-block")
        took = pair.wait_other_alone(10)
        # By the run-out of a session it would be 1.5 s and more.
        assert took < 1.5, pair.node.log()
        wait_for(lambda: pair.node.show("ActiveState") == "inactive", 15, "it has stopped")
        stopped = time.monotonic() - began
        assert pair.node.show("Result") == "success" and pair.node.show("NFileDescriptorStore") == "0"
        assert pair.node.metrics() is None
        wait_for(lambda: pair.other.metrics()["cluster_driver_sessions"] == 100, 15, "the other serves all")
        report = pair.whole()
        with capsys.disabled():
            print(f"\n  stop with {came:.0f} controllers: handed over in {took * 1000:.0f} ms, stopped after "
                  f"{stopped * 1000:.0f} ms; {report['goaways']} told to go, {report['reconnects']} reconnects, "
                  f"gap {report['gap_ms']}")
        assert report["goaways"] == came and report["reconnects"] == came, report
        log = pair.node.log()
        assert "what this node had is the others'" in log and "stopped" in log, log


def test_a_shutdown_is_a_stop(lab):
    with Pair(lab, 20, "12s") as pair:
        pair.node.system.run("systemctl", "--no-block", "poweroff")
        assert pair.wait_other_alone(10) < 1.5, pair.node.log()
        pair.whole()
        assert "what this node had is the others'" in pair.node.log()


def test_a_node_that_keeps_dying_leaves_its_ranges_to_its_peers(lab):
    with Pair(lab, 100, "30s") as pair:
        for _ in range(5):
            wait_for(lambda: pair.node.show("ActiveState") == "active", 10, "it serves")
            # By itself it would have its ranges back.
            assert "stays out of its cluster" not in pair.node.log(), pair.node.log()
            pair.node.ctl("kill", "-s", "KILL")
            wait_for(lambda: pair.node.show("ActiveState") != "active", 10, "it is dead")
        wait_for(lambda: "stays out of its cluster" in pair.node.log(), 10, "it pauses")
        assert pair.wait_other_alone(10) < 4
        wait_for(lambda: pair.served() == 100, 20, "all are served")
        wait_for(lambda: owners(pair.redis) == {"other", "unit"}, 30, "it takes part again")
        report = pair.whole()
        assert report["reconnects"] == 0, report


def session(pair):
    """Of the unit's node in Redis: released or not."""
    return pair.redis.call("HGET", "{cd:main}:state", "s:unit").decode().split()[2] == "1"


def test_what_a_node_that_hangs_cannot_give_back_at_a_stop_is_given_back_for_it(lab):
    with Pair(lab, 20, "16s", more="TimeoutStopSec=2s") as pair:
        main = pair.node.system.main_pid(pair.node.unit)
        threads.hang(main, "cluster-driver")
        lock = pathlib.Path(f"/proc/{pair.node.system.init}/root/var/lib/cluster-driver/{pair.node.port}.state.lock")
        lock.unlink()
        pair.node.ctl("stop", "--no-block")
        wait_for(lambda: not os.path.exists(f"/proc/{main}"), 20, "it is killed", every=0.005)
        # Its session would run out 1.5 s later.
        assert pair.wait_other_alone(5) < 1.2
        assert session(pair)
        wait_for(lambda: pair.node.show("ActiveState") == "failed", 10, "it is stopped")
        # Whoever released it has made its lock anew, and was not root.
        assert str(lock.stat().st_uid) == pair.node.system.run("id", "-u", "cluster-driver") != "0"
        pair.whole()


def test_of_a_node_that_comes_back_nothing_is_given_back(lab):
    with Pair(lab, 20, "14s") as pair:
        for how in (["kill", "-s", "KILL"], ["restart"], ["kill", "-s", "ABRT"]):
            main = pair.node.show("MainPID")
            pair.node.ctl(*how)

            def is_replaced():
                assert not session(pair)
                return pair.node.show("MainPID") not in ("0", main) and pair.served() == 20

            wait_for(is_replaced, 20, "all are served again")
        assert pair.whole()["reconnects"] == 0


def test_the_vendor_app_keeps_its_events_over_a_restart_of_its_unit(lab):
    system = booted.Systemd(lab, "", programs=["vendor-app"])
    try:
        port = free_port()
        system.write("/etc/systemd/system/vendor-app.service.d/lab.conf", "[Service]\nExecStart=\nExecStart="
                     f"/usr/bin/vendor-app --listen 127.0.0.1:{port} --db sqlite:%S/vendor-app/events.db\n")
        system.run("systemctl", "daemon-reload")
        assert system.run("systemctl", "start", "vendor-app") == ""
        node = lab.node("memory:", f"grpc://127.0.0.1:{port}")
        fleet = lab.fleet(node, 20, 10, "8s", options=["--drain", "30s", "--verify", f"grpc://127.0.0.1:{port}"])
        fleet.wait_connected(20)
        wait_for(lambda: fleet.progress.get("acked", 0) > 200, 20, "events are stored")
        system.run("systemctl", "restart", "vendor-app")
        report = fleet.report()
        assert report["exit"] == 0 and report["lost"] == 0, report
        assert report["sent"] > 500 and report["reconnects"] == 0, report
    finally:
        system.close()
