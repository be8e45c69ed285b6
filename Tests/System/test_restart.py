"""A node is restarted, crashes and is killed: its controllers do not notice."""

import signal

import pytest

from process import wait_for
from service import Unit

CONTROLLERS = 1000
RESTARTS = 4


def is_pending(pid, number):
    """Was the signal sent to the process, and not taken yet?"""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        pending = next(line for line in status if line.startswith("ShdPnd:"))
    return int(pending.split()[1], 16) >> number - 1 & 1


def restarted(lab, unit, vendor, how, capsys, controllers=CONTROLLERS):
    """Restarts the unit again and again under a fleet; returns the fleet's report."""
    fleet = lab.fleet(unit, controllers, 5, "14s", vendor=vendor, options=["--drain", "30s"])
    fleet.wait_connected(controllers)
    unit.wait_parked(controllers)
    took = []
    for _ in range(RESTARTS):
        took.append(unit.restart(how))
        unit.wait_served(controllers)
        # As long as events flow the next one comes in the middle of them.
        at = unit.metrics()["cluster_driver_events_received_total"]
        wait_for(lambda: unit.metrics()["cluster_driver_events_received_total"] > at + controllers, 20,
                 "events flow again")
    report = fleet.report(90)
    with capsys.disabled():
        print(f"\n  {signal.Signals(how).name}, {controllers} controllers, {RESTARTS} times: "
              f"{report['reconnects']} reconnects, {report['lost']} lost, {report['duplicated']} duplicated; "
              f"serving again after {', '.join(f'{s * 1000:.0f}' for s in took)} ms; "
              f"gap {report['gap_ms']}; {len(unit.store.names())} entries kept")
    return report


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_no_controller_notices_that_its_node_was_restarted(lab, how, capsys):
    vendor = lab.vendor(db="memory:")
    unit = Unit(lab, "unit", "memory:", vendor)
    report = restarted(lab, unit, vendor, how, capsys)
    assert report["exit"] == 0, report
    assert report["reconnects"] == 0 and report["connects"] == CONTROLLERS, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report
    assert report["handovers"] >= RESTARTS * CONTROLLERS, report
    assert len(unit.store.names()) < 20
    text = unit.process.log_path.read_text()
    assert text.count(f"going on with {CONTROLLERS} connections of the former process") == RESTARTS, text


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_in_a_cluster_a_node_goes_on_with_its_controllers(lab, how, capsys):
    redis, vendor = lab.redis(), lab.vendor(db="memory:")
    unit = Unit(lab, "unit", redis, vendor)
    report = restarted(lab, unit, vendor, how, capsys, controllers=500)
    assert report["exit"] == 0 and report["reconnects"] == 0, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report


def test_without_a_service_manager_parking_is_refused_with_what_to_do(lab):
    code, _, errors = lab.run(
        "cluster-driver", "--port", 0, "--redis", "memory:", "--vendor", "grpc://127.0.0.1:1",
        "--admin", f"unix:{lab.folder / 'a.sock'}", "--metrics", "off", "--log", "stderr", "--parking")
    assert code == 1
    assert "FileDescriptorStoreMax=" in errors and "NOTIFY_SOCKET" in errors, errors


def test_a_node_that_is_told_that_there_is_no_next_process_leaves_in_order(lab):
    redis, vendor = lab.redis(), lab.vendor(db="memory:")
    unit = Unit(lab, "unit", redis, vendor, options=["--node-id", "unit"])
    other = lab.node(redis, vendor, name="other")
    fleet = lab.fleet(f"127.0.0.1:{unit.port},127.0.0.1:{other.port}", 40, 5, "14s", vendor=vendor,
                      options=["--drain", "30s", "--backoff-min", "100ms", "--backoff-max", "1s"])
    fleet.wait_connected(40, 30)
    wait_for(lambda: unit.metrics()["cluster_driver_ranges_owned"] > 0, 20, "it has ranges")
    # As a service manager that stops it says it: one after the other.
    unit.process.popen.send_signal(signal.SIGUSR1)
    assert unit.end(signal.SIGTERM), unit.process.log_tail()
    assert any("EXTEND_TIMEOUT_USEC=" in said for said in unit.store.said), unit.store.said
    text = unit.process.log_path.read_text()
    assert "what this node had is the others'" in text and "stopped" in text, text
    unit.store.close()
    wait_for(lambda: other.metrics()["cluster_driver_sessions"] == 40, 10, "the other serves all")
    report = fleet.report()
    assert report["exit"] == 0 and report["lost"] == 0 and report["duplicated"] == 0, report
    assert 0 < report["goaways"] == report["reconnects"], report


def test_a_node_that_leaves_is_ended_at_once_by_a_second_order(lab):
    vendor = lab.vendor(db="memory:")
    unit = Unit(lab, "unit", "memory:", vendor)
    fleet = lab.fleet(unit, 20, 5, "30s")
    fleet.wait_connected(20)
    vendor.pause()
    wait_for(lambda: unit.metrics()["cluster_driver_events_unacknowledged"] > 0, 10, "something is under way")
    unit.process.popen.send_signal(signal.SIGUSR1)
    wait_for(lambda: "stopping" in unit.process.log_path.read_text(), 5, "it leaves")
    unit.process.popen.send_signal(signal.SIGTERM)
    # The first is the service manager's own. Two that are pending at a time would be one.
    wait_for(lambda: not is_pending(unit.pid, signal.SIGTERM), 5, "the first was taken")
    assert unit.process.is_running
    unit.process.popen.send_signal(signal.SIGTERM)
    assert unit.process.wait(3) == 1
