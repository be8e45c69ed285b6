"""The whole path with things breaking in it: nothing lost, nothing twice, in the database itself."""

import os
import random
import sqlite3
import time

import pytest

from process import wait_for

CONTROLLERS = int(os.environ.get("FAULT_CONTROLLERS", "2000"))
SECONDS = int(os.environ.get("FAULT_SECONDS", "60"))
FAULTS = ",".join([
    "disconnect:0.01", "half-open:0.002", "reboot:0.003", "reboot-lost:0.001", "slow-reader:0.002",
    "malformed:0.002", "clock-skew",
])
QUICK = ["--backoff-min", "100ms", "--backoff-max", "2s"]


def stored(vendor):
    """(rows, distinct identities, holes) of the events table, by SQL and nothing of ours."""
    with sqlite3.connect(f"file:{vendor.db.removeprefix('sqlite:')}?mode=ro", uri=True) as db:
        rows, distinct = db.execute(
            "SELECT count(*), count(DISTINCT serial || '/' || log_epoch || '/' || seq) FROM events"
        ).fetchone()
    return rows, distinct


def test_killing_the_vendor_app_thrice_and_the_node_twice_under_faults_loses_nothing(lab):
    redis = lab.redis()
    vendor = lab.vendor()
    node = lab.node(redis, vendor)
    fleet = lab.fleet(node, CONTROLLERS, 1, f"{SECONDS}s", vendor=vendor, seed=7,
                      options=["--faults", FAULTS, "--drain", "60s", *QUICK])
    fleet.wait_connected(CONTROLLERS * 9 // 10, 30)
    victims = [vendor, node, vendor, node, vendor]
    began = time.monotonic()
    chance = random.Random(11)
    for i, victim in enumerate(victims):
        at = began + SECONDS * (i + 1) / (len(victims) + 1)
        while time.monotonic() < at:
            redis.publish(1000 + chance.randrange(CONTROLLERS), command())
            time.sleep(0.01)
        victim.kill()
        victim.start()
    report = fleet.report(SECONDS + 120)
    assert report["exit"] == 0, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report
    assert report["commands"]["late"] == 0 and report["commands"]["duplicate"] == 0, report
    assert report["commands"]["stale_epoch"] == 0, report
    rows, distinct = stored(vendor)
    assert rows == distinct
    assert rows > CONTROLLERS * SECONDS * 0.5, f"only {rows} rows: the test tested little"


def command():
    from harness import command_json
    return command_json(seconds=3)


@pytest.mark.parametrize("seconds", [int(os.environ.get("STALL_SECONDS", "20"))])
def test_a_vendor_app_that_stalls_holds_the_controllers_back_and_the_nodes_memory(lab, seconds):
    vendor = lab.vendor(db="memory:")
    node = lab.node("memory:", vendor)
    fleet = lab.fleet(node, 500, 20, f"{seconds + 10}s", vendor=vendor, options=["--drain", "60s"])
    fleet.wait_connected(500)
    wait_for(lambda: node.metrics()["cluster_driver_events_received_total"] > 5_000, 20,
             what="events flow before the stall")
    vendor.pause()
    time.sleep(seconds / 2)
    half = resident(node.pid)
    time.sleep(seconds / 2)
    grown = resident(node.pid) - half
    vendor.resume()
    report = fleet.report(seconds + 120)
    assert report["exit"] == 0, report
    assert grown < 4 << 20, f"the node grew by {grown} bytes in the second half of the stall"


def resident(pid):
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"process {pid} has ended")
