"""Further ways in which a process of a node ends, under a real systemd. Controllers notice nothing of any."""

import contextlib
import os
import pathlib
import random
import signal
import time

import pytest

import booted
from installed import Installed
from kills import Kills
from process import wait_for

pytestmark = pytest.mark.skipif(booted.why_not() is not None, reason=str(booted.why_not()))

MEMORY = pathlib.Path("/sys/fs/cgroup/memory")


@contextlib.contextmanager
def served(lab, controllers, redis=None, rate=5):
    """A node with controllers that are all parked. At the end nothing was lost, and nobody was disconnected."""
    vendor = lab.vendor(db="memory:")
    with Installed(lab, redis.url if redis else "memory:", vendor) as node:
        fleet = lab.fleet(node, controllers, rate, "20m", vendor=vendor, options=["--drain", "30s"])
        fleet.wait_connected(controllers)
        wait_for(lambda: node.has(controllers), 20, "all are parked")
        yield node
        report = fleet.end(90)
        assert report["exit"] == 0 and report["reconnects"] == 0, (report, node.log())
        assert report["lost"] == 0 and report["duplicated"] == 0, report


def test_the_service_manager_replaces_itself_and_keeps_the_connections(lab):
    with served(lab, 200) as node:
        main, kept = node.show("MainPID"), node.show("NFileDescriptorStore")
        assert int(kept) > 2
        assert node.system.run("systemctl", "daemon-reexec") == ""
        wait_for(lambda: node.show("ActiveState") == "active", 20, "it answers again")
        assert node.show("MainPID") == main and node.show("NFileDescriptorStore") == kept
        # What it has kept serves the next process; and the next end is told apart as before.
        for how in (["kill", "-s", "KILL"], ["restart"]):
            main = node.show("MainPID")
            node.ctl(*how)
            node.wait_replaced(main, 200, how)
        assert node.log().count("going on with 200 connections") == 2, node.log()


def test_the_kernel_kills_a_node_for_its_memory_and_nobody_notices(lab):
    if not (MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("NOT TESTED: no memory control group of version 1 here")
    group = MEMORY / f"cluster-driver-lab-{os.getpid()}"
    with served(lab, 200, rate=20) as node:
        main, pid = node.show("MainPID"), node.system.main_pid(node.unit)
        group.mkdir()
        try:
            # What the process asks for from now on is the group's, and there is nothing to be had.
            (group / "memory.limit_in_bytes").write_text("65536")
            (group / "cgroup.procs").write_text(str(pid))
            wait_for(lambda: "\noom_kill 1" in (group / "memory.oom_control").read_text(), 20, "the kernel kills it")
            node.wait_replaced(main, 200, "the kernel")
        finally:
            wait_for(lambda: not (group / "cgroup.procs").read_text(), 20, "the group is empty")
            group.rmdir()


def test_a_node_that_is_killed_while_it_recovers_loses_nothing(lab):
    chance = random.Random(7)
    with served(lab, 500, lab.redis()) as node:
        main = node.show("MainPID")
        pids = set(node.pids())
        os.kill(*pids, signal.SIGKILL)
        for _ in range(12):
            node.forgive()
            pid = node.wait_process(other_than=pids)
            time.sleep(chance.random() * 0.05)
            os.kill(pid, signal.SIGKILL)
            pids.add(pid)
        node.forgive()
        node.wait_replaced(main, 500, "being killed while it recovered")
        assert int(node.show("NRestarts")) == 13


def test_ends_by_chance_lose_nothing(lab, capsys):
    """The short form of `make systemd-test`."""
    with served(lab, 500, lab.redis()) as node:
        kills = Kills(node, 500, seed=1)
        kills.run(12)
        with capsys.disabled():
            print(f"\n{kills.table()}")
