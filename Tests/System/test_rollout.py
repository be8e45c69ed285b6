"""Nodes are restarted one by one onto the program that was installed: nobody notices, and what goes wrong goes no
further."""

import contextlib
import json
import os
import shutil
import signal
import time
import types

import pytest

import booted
from harness import binary
from process import wait_for
from service import Service
from test_cluster import assert_whole, owned, owners, sessions
from test_systemd import Pair
from traffic import Traffic, executed
from watch import Watch

CONTROLLERS = 300
NAMES = ["node-1", "node-2", "node-3"]


class Cluster:
    """Three nodes, each a unit with a program of its own, and controllers that come in by all of them."""

    def __init__(self, lab, stack):
        self.lab = lab
        self.redis, self.vendor = lab.redis(), lab.vendor()
        self.nodes = [Service(lab, name, self.redis, self.vendor, options=["--t2", "20ms"]) for name in NAMES]
        for node in self.nodes:
            stack.callback(node.close)
        self.log = lab.folder / "commands.jsonl"
        ports = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.fleet = lab.fleet(
            ports, CONTROLLERS, 2, "600s", vendor=self.vendor,
            options=["--commands-log", self.log, "--backoff-min", "100ms", "--backoff-max", "1s", "--drain", "30s"])
        self.fleet.wait_connected(CONTROLLERS, 30)
        self.serials = range(1000, 1000 + CONTROLLERS)
        self.watch = Watch(self.redis, self.nodes, NAMES, (self.serials[0], self.serials[-1]))
        wait_for(self._is_settled, 60, "every node has ranges, all are served, and nothing is left to move", every=0.2)
        for node in self.nodes:
            node.wait_parked(node.metrics()["cluster_driver_connections"])
        self.watch.look()

    def _is_settled(self):
        if not all(owned(node) > 0 for node in self.nodes):
            return False
        if sum(sessions(node) for node in self.nodes) != CONTROLLERS:
            return False
        status = self.ctl("rebalance", "status")[0]
        return status["under_way"] == 0 and status["left"] == 0

    def ctl(self, *arguments):
        code, out, error = self.lab.run("clusterctl", *arguments, "--admin", self.nodes[0].admin, "-f", "json")
        assert code == 0, error
        said = json.loads(out)
        return said if isinstance(said, list) else [said]

    def stop_balancing(self):
        """What changes hands from now on does so because an owner was away for too long."""
        self.ctl("rebalance", "stop")
        wait_for(lambda: self.ctl("rebalance", "status")[0]["under_way"] == 0, 20, "nothing moves")
        self.watch.look()

    def install(self, program=None):
        for node in self.nodes:
            node.install(program or binary("cluster-driver"))

    def rollout(self, *options, asked=0):
        """Runs it to its end, and looks all the while at who owns what. Returns its exit code, what it said line by
        line, and what changed hands meanwhile."""
        path = self.lab.folder / f"rollout-{time.monotonic_ns()}.jsonl"
        moved = {}
        with open(path, "wb") as output:
            process = self.lab.start(
                "rollout", [binary("clusterctl"), "rollout", "--admin", self.nodes[asked].admin, "-f", "json", *options],
                stdout=output)
            end = time.monotonic() + 120
            while process.is_running and time.monotonic() < end:
                moved.update(self.watch.look())
                time.sleep(0.05)
        code = process.wait(1)
        return code, [json.loads(line) for line in path.read_text().splitlines()], moved

    def lives(self):
        return [len(node.lives) for node in self.nodes]

    def report(self):
        self.fleet.process.popen.send_signal(signal.SIGINT)
        return self.fleet.report(90)

    def leader(self):
        self.watch.look()
        return self.watch.leader


@pytest.fixture
def cluster(lab):
    with contextlib.ExitStack() as stack:
        yield Cluster(lab, stack)


def order(lines):
    return [line["node"] for line in lines if line["what"] == "restarting"]


def broken(lab):
    """A program that does not start."""
    path = lab.folder / "broken"
    path.write_text("#!/bin/sh\necho 'this program does not start' >&2\nexit 1\n")
    os.chmod(path, 0o755)
    return path


def test_nobody_notices_a_rollout_and_a_second_one_has_nothing_to_do(lab, cluster, capsys):
    code, lines, _ = cluster.rollout()
    assert (code, lines[-1]["what"], lines[-1]["current"]) == (0, "nothing to do", NAMES), lines
    cluster.install()
    traffic = Traffic(
        types.SimpleNamespace(lab=lab, nodes=cluster.nodes, redis=cluster.redis, serials=cluster.serials), seed=1,
        published=10, posted=10, sent=1)
    leader = cluster.leader()
    cluster.stop_balancing()
    began = time.monotonic()
    code, lines, moved = cluster.rollout()
    took = time.monotonic() - began
    assert code == 0 and lines[-1]["what"] == "finished", lines
    # The leader last, and what it had is its own still.
    assert order(lines) == [name for name in NAMES if name != leader] + [leader], (leader, lines)
    assert not moved, moved
    assert cluster.lives() == [2, 2, 2]
    again, more, _ = cluster.rollout()
    assert (again, more[-1]["what"]) == (0, "nothing to do"), more
    assert cluster.lives() == [2, 2, 2]
    traffic.end()
    report = cluster.report()
    with capsys.disabled():
        print(f"\n  rollout of 3 nodes, {CONTROLLERS} controllers: {took:.1f} s, {report['reconnects']} reconnects, "
              f"{report['lost']} lost, {report['duplicated']} duplicated, gap {report['gap_ms']}, "
              f"{len(traffic.given)} commands")
    assert_whole(report)
    assert report["reconnects"] == 0 and report["connects"] == CONTROLLERS, report
    done = executed(cluster.log)
    posted = [given for given in traffic.given if given.door == "mailbox" and given.heard]
    assert posted and all(given.id in done for given in posted), [g for g in posted if g.id not in done]
    told = [given for given in traffic.given if given.door == "clusterctl" and given.status == 1]
    assert told and all(given.id in done for given in told), told


def test_a_node_whose_program_does_not_start_ends_the_rollout_and_a_good_one_has_it_go_on(lab, cluster):
    leader = cluster.leader()
    first, second = [name for name in NAMES if name != leader]
    asked = NAMES.index(leader)
    cluster.install()
    cluster.nodes[NAMES.index(second)].install(broken(lab))
    code, lines, _ = cluster.rollout("--within", "5s", asked=asked)
    last = lines[-1]
    assert (code, last["what"], last["node"]) == (1, "stopped", second), lines
    assert (last["restarted"], last["under_way"], last["untouched"]) == ([first], [second], [leader]), last
    assert len(cluster.nodes[asked].lives) == 1
    # As long as it does not live nobody else is restarted, and that is what is said.
    code, out, error = lab.run("clusterctl", "rollout", "--admin", cluster.nodes[asked].admin, seconds=30)
    assert code == 1 and "nothing was restarted" in error and second in error, (out, error)
    assert len(cluster.nodes[asked].lives) == 1
    cluster.nodes[NAMES.index(second)].install(binary("cluster-driver"))
    wait_for(lambda: cluster.watch.total("sessions") == CONTROLLERS, 60, "all are served", every=0.2)
    code, lines, _ = cluster.rollout(asked=asked)
    assert (code, lines[-1]["what"]) == (0, "finished"), lines
    assert leader in order(lines) and first not in order(lines), lines
    report = cluster.report()
    assert report["lost"] == 0 and report["duplicated"] == 0, report


def test_a_rollout_that_is_interrupted_says_where_it_is_and_is_run_again(lab, cluster):
    cluster.install()
    path = lab.folder / "interrupted.jsonl"
    with open(path, "wb") as output:
        process = lab.start(
            "interrupted", [binary("clusterctl"), "rollout", "--admin", cluster.nodes[0].admin, "-f", "json"],
            stdout=output)
        wait_for(lambda: '"done"' in path.read_text(), 30, "one node is done")
        process.popen.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    last = json.loads(path.read_text().splitlines()[-1])
    assert last["what"] == "interrupted" and last["restarted"] and last["untouched"], last
    code, lines, _ = cluster.rollout()
    assert (code, lines[-1]["what"]) == (0, "finished"), lines
    assert not set(order(lines)) & set(last["restarted"]), (last, lines)
    assert cluster.lives() == [2, 2, 2]
    report = cluster.report()
    assert_whole(report)
    assert report["reconnects"] == 0, report


def test_what_is_unwell_keeps_a_rollout_from_beginning_and_is_named(lab, cluster):
    def refused(*options):
        code, out, error = lab.run("clusterctl", "rollout", "--admin", cluster.nodes[0].admin, *options, seconds=30)
        assert code == 1 and "nothing was restarted" in error, (out, error)
        return error

    cluster.install()
    assert "node-9 is no member" in refused("--node", "node-9")
    os.unlink(cluster.nodes[2].program)
    assert "node-3 cannot be restarted: there is no program at" in refused()
    cluster.nodes[2].install(binary("cluster-driver"))
    code, out, error = lab.run("clusterctl", "drain", "--admin", cluster.nodes[1].admin, seconds=70)
    assert code == 0, error
    # The node that is asked hears of it by the next heartbeat.
    wait_for(lambda: "draining" in [member["state"] for member in cluster.ctl("topology")], 10, "it is known to drain")
    assert "node-2 is draining" in refused()
    lab.run("clusterctl", "undrain", "--admin", cluster.nodes[1].admin)
    cluster.vendor.kill()
    wait_for(lambda: cluster.ctl("list")[0]["vendor"] != "up", 10, "the node has no vendor app")
    assert "node-1 has no vendor app (down since" in refused()
    assert cluster.lives() == [1, 1, 1]


def test_two_at_a_time_are_noticed_by_nobody_either(lab, cluster):
    cluster.install()
    leader = cluster.leader()
    cluster.stop_balancing()
    code, lines, moved = cluster.rollout("--max-unavailable", "2")
    assert code == 0 and lines[-1]["what"] == "finished", lines
    told = [line["elapsed_ms"] for line in lines if line["what"] == "restarting"]
    assert order(lines)[2] == leader and told[1] - told[0] < 1000 and told[2] - told[1] > 3000, lines
    assert not moved, moved
    report = cluster.report()
    assert_whole(report)
    assert report["reconnects"] == 0, report


def test_the_one_unwell_node_is_restarted_alone_onto_the_program_that_cures_it(lab):
    redis, vendor, own = lab.redis(), lab.vendor(), lab.vendor()
    with contextlib.ExitStack() as stack:
        nodes = [Service(lab, name, redis, own if name == "node-2" else vendor) for name in NAMES]
        for node in nodes:
            stack.callback(node.close)

        def rollout(*options):
            return lab.run("clusterctl", "rollout", "--admin", nodes[0].admin, *options, seconds=60)

        wait_for(lambda: rollout()[0] == 0, 30, "all are well")
        own.kill()
        wait_for(lambda: nodes[1].metrics()['cluster_driver_link_up{link="vendor"}'] == 0, 10, "it has no vendor app")
        for node in nodes:
            node.install(binary("cluster-driver"))
        code, out, error = rollout()
        assert code == 1 and "clusterctl rollout --node node-2" in error, (out, error)
        # What is installed is to be what it needed: its vendor app is there for the next process.
        process = lab.start("cure", [binary("clusterctl"), "rollout", "--admin", nodes[0].admin, "--node", "node-2"])
        wait_for(lambda: len(nodes[1].lives) == 2, 30, "it has restarted")
        own.start()
        assert process.wait(60) == 0, process.log_tail()
        assert "finished: 1 restarted (node-2)" in process.log_path.read_text()
        code, out, error = rollout()
        assert code == 0 and [len(node.lives) for node in nodes] == [2, 2, 2], (out, error)


@pytest.mark.skipif(booted.why_not() is not None, reason=str(booted.why_not()))
def test_under_systemd_a_unit_goes_on_with_the_program_that_was_installed(lab):
    with Pair(lab, 100, "25s") as pair:
        # The file that a link in /usr/bin leads to.
        installed = pair.node.system.lab_folder / "bin/cluster-driver"
        shutil.copy(binary("cluster-driver"), installed.with_name("new"))
        os.rename(installed.with_name("new"), installed)
        main = pair.node.show("MainPID")
        code, out, error = lab.run("clusterctl", "rollout", "--admin", pair.other.admin, seconds=80)
        assert code == 0 and "finished: 1 restarted (unit)" in out, (out, error, pair.node.log())
        assert pair.node.show("MainPID") not in ("0", main) and pair.node.show("NRestarts") == "1"
        report = pair.whole()
        assert report["reconnects"] == 0 and report["goaways"] == 0, report
        assert owners(pair.redis) == {b"other", b"unit"}
        assert "stopping" not in pair.node.log(), pair.node.log()
