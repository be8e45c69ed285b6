"""A loop of the node that hangs costs it the watchdog, whichever it is; and nothing else does."""

import signal
import time

import pytest

import threads
from process import wait_for
from service import Unit

WATCHDOG = 2.0
# Name of the thread behind a loop, and what the node calls it.
LOOPS = {
    "io": ("cscp-0", "a controllers' thread"),
    "events": ("events", "the event thread"),
    "ownership": ("ownership", "the ownership thread"),
    "lease": ("lease", "the lease's Redis thread"),
    "redis": ("redis-sub", "the Redis thread"),
    "mailbox": ("mailbox", "the mailbox thread"),
    "mail": ("mail", "the mailbox's Redis thread"),
    "vendor": ("vendor", "the vendor app's thread"),
    "served-peers": ("peer-server", "the thread that serves peers"),
    "peers": ("peer-link", "the thread of the connection to"),
    "admin": ("admin", "the admin service's thread"),
    "chores": ("chores", "the chores thread"),
    "pool": ("*qos*", "the tasks' pool"),
}


def test_whichever_loop_hangs_the_watchdog_acts(lab):
    redis, vendor = lab.redis(), lab.vendor(db="memory:")
    units = {loop: Unit(lab, loop, redis, vendor, watchdog=WATCHDOG) for loop in LOOPS}
    well = Unit(lab, "well", redis, vendor, watchdog=WATCHDOG)
    everybody = [*units.values(), well]
    wait_for(lambda: all(unit.http("/readyz")[0] == 200 and unit.store.pinged_at for unit in everybody), 30,
             "all nodes are there")
    wait_for(lambda: all("peer-link" in threads.named(unit.pid) for unit in everybody), 10, "all know their peers")
    for loop, (name, _) in LOOPS.items():
        threads.hang(units[loop].pid, name)
    hung = time.monotonic()
    for loop, (_, what) in LOOPS.items():
        unit = units[loop]
        wait_for(lambda: unit.is_overdue, 40, f"no pings while {what} hangs")
        # A lapse of the tests' own machine is not this long.
        assert unit.store.pinged_at < hung + 15, (loop, unit.store.pinged_at - hung)
        status, text = unit.http("/healthz")
        assert (status, what in text) == (503, True), (loop, status, text)
        if loop != "chores":
            assert f"stuck: {what}" in unit.process.log_path.read_text()
    assert not well.is_overdue and well.http("/healthz")[0] == 200
    assert "stuck" not in well.process.log_path.read_text()
    # The service manager's part: the next process of the unit is well.
    for loop in ("events", "io"):
        units[loop].restart(signal.SIGABRT)
        wait_for(lambda: units[loop].store.pinged_at is not None, 10, "it pings again")


@pytest.mark.parametrize("hiccup", ["cscp-0", "events"])
def test_a_controllers_port_that_is_slow_for_a_moment_is_no_hang(lab, hiccup):
    node = lab.node("memory:", lab.vendor(db="memory:"))
    assert node.http("/healthz")[0] == 200
    threads.hang(node.pid, hiccup)
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        assert node.http("/healthz")[0] == 200
        time.sleep(0.1)
