"""Promise 1: no event is lost, none is stored twice. The fleet compares what it sent with what is
stored, record by record, after every disturbance."""

import pytest

from process import wait_for
from vendor_query import VendorQuery


def assert_whole(report):
    """Everything generated is stored once, and the controllers know it."""
    assert report["lost"] == 0
    assert report["duplicated"] == 0
    assert report["verify"] == {**report["verify"], "lost": 0, "duplicated": 0, "corrupt": 0}
    assert report["acked"] == report["generated"] > 0
    assert report["exit"] == 0


@pytest.fixture
def system(lab):
    """Vendor app on SQLite, Redis and a node."""
    vendor = lab.vendor()
    redis = lab.redis()
    return vendor, redis, lab.node(redis, vendor)


def test_what_controllers_send_is_stored_once_and_acknowledged(lab, system):
    vendor, _, node = system
    report = lab.fleet(node, 100, 20, "3s", vendor=vendor).report()
    assert_whole(report)
    assert report["connected"] == 100
    assert report["reconnects"] == 0
    with VendorQuery(vendor) as query:
        audit = query.audit()
        stats = query.stats()
    assert len(audit) == 100
    assert sum(log.events for log in audit.values()) == stats.events_stored == report["acked"]
    assert all(log.holes == 0 and log.duplicates == 0 for log in audit.values())


def test_a_vendor_app_that_is_killed_and_started_again_misses_nothing(lab, system):
    vendor, _, node = system
    fleet = lab.fleet(node, 50, 20, "6s", vendor=vendor)
    fleet.wait_connected(50)
    wait_for(lambda: fleet.progress.get("acked", 0) > 500, 10, "500 events acknowledged")
    vendor.kill()
    acked = fleet.progress["acked"]
    vendor.start()
    wait_for(lambda: fleet.progress.get("acked", 0) > acked + 500, 20, "events acknowledged again")
    assert_whole(fleet.report())


def test_while_the_vendor_app_hangs_nothing_is_acknowledged_and_nothing_is_lost(lab, system):
    vendor, _, node = system
    fleet = lab.fleet(node, 100, 50, "6s", vendor=vendor)
    wait_for(lambda: fleet.progress.get("acked", 0) > 1000, 15, "1,000 events acknowledged")
    vendor.pause()
    paused = fleet.progress_lines
    # What was acknowledged before it hung is in the first report after it.
    wait_for(lambda: fleet.progress_lines >= paused + 2, 10, "the fleet's reports")
    acked = fleet.progress["acked"]
    wait_for(lambda: fleet.progress_lines >= paused + 4, 10, "the fleet's reports")
    assert fleet.progress["acked"] == acked
    vendor.resume()
    assert_whole(fleet.report())


def test_a_node_that_is_killed_and_started_again_loses_nothing(lab, system):
    vendor, _, node = system
    fleet = lab.fleet(node, 50, 20, "8s", vendor=vendor, options=["--backoff-min", "200ms"])
    wait_for(lambda: fleet.progress.get("acked", 0) > 500, 15, "500 events acknowledged")
    node.kill()
    node.start()
    report = fleet.report()
    assert_whole(report)
    assert report["reconnects"] >= 50


def test_redis_may_come_and_go_without_a_disconnect(lab, system):
    vendor, redis, node = system
    fleet = lab.fleet(node, 50, 20, "5s", vendor=vendor)
    wait_for(lambda: fleet.progress.get("acked", 0) > 500, 15, "500 events acknowledged")
    redis.kill()
    acked = fleet.progress["acked"]
    wait_for(lambda: fleet.progress.get("acked", 0) > acked + 500, 10, "events without Redis")
    redis.start()
    report = fleet.report()
    assert_whole(report)
    assert report["reconnects"] == 0


def test_faulty_connections_and_restarted_controllers_lose_nothing(lab, system):
    vendor, _, node = system
    report = lab.fleet(
        node, 100, 20, "6s", vendor=vendor,
        options=["--faults", "disconnect:0.2,reboot:0.1", "--backoff-min", "100ms"],
    ).report()
    assert_whole(report)
    assert report["faults"]["disconnect"] > 0
    assert report["faults"]["reboot"] > 0


def test_who_sends_nonsense_is_disconnected_and_harms_nobody_else(lab, system):
    vendor, _, node = system
    good = lab.fleet(node, 50, 20, "5s", first_serial=1, vendor=vendor, name="good")
    bad = lab.fleet(
        node, 20, 20, "4s", first_serial=100_000, name="bad",
        options=["--faults", "malformed:1", "--backoff-min", "100ms"],
    )
    assert bad.report()["faults"]["malformed"] > 0
    report = good.report()
    assert_whole(report)
    assert report["reconnects"] == 0


def test_stopping_a_node_in_order_ends_it_quickly_and_loses_nothing(lab, system):
    vendor, _, node = system
    fleet = lab.fleet(node, 50, 20, "6s", vendor=vendor, options=["--backoff-min", "200ms"])
    wait_for(lambda: fleet.progress.get("acked", 0) > 500, 15, "500 events acknowledged")
    assert node.stop(seconds=10) == 0
    node.start()
    assert_whole(fleet.report())
