"""Controllers behind the balancer that is shipped as an example: one address, whichever nodes are there."""

import json
import os
import shutil
import subprocess

from harness import Balancer
from process import wait_for
from test_cluster import assert_whole, owned, sessions, start

QUICK = ["--backoff-min", "100ms", "--backoff-max", "1s", "--drain", "30s"]


def balanced(lab, n, *options):
    redis, vendor, nodes, _ = start(lab, n, *options)
    # The balancer takes all for up until it has asked: what it says then would be no word of theirs.
    wait_for(lambda: all(node.http("/readyz")[0] == 200 for node in nodes), 20, "all are ready")
    balancer = lab.balancer(nodes)
    balancer.wait_for_states(*["UP"] * n)
    return redis, vendor, nodes, balancer


def served(nodes, controllers):
    return sum(sessions(node) for node in nodes) == controllers


def sockets_towards(port):
    """Addresses from which connections of this machine lead to `port` of it, as the kernel has them."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return {f"127.0.0.1:{int(row[1].split(':')[1], 16)}" for row in rows
            if row[3] == "01" and int(row[2].split(":")[1], 16) == port}


def test_the_example_is_valid_as_it_is():
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    done = subprocess.run([program, "-c", "-f", Balancer.EXAMPLE], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr


def test_nodes_show_the_controllers_own_addresses_however_they_came(lab):
    _, vendor, nodes, balancer = balanced(lab, 3)
    fleet = lab.fleet(balancer, 60, 1, "15s", vendor=vendor, options=QUICK)
    fleet.wait_connected(60)
    wait_for(lambda: served(nodes, 60), 20, "all are served")
    entered = balancer.connections()
    assert sum(entered) == 60 and min(entered) > 0, entered
    # Some came in at one node and are served by another: both ways are among them.
    assert entered != [sessions(node) for node in nodes]

    def shown():
        peers = []
        for node in nodes:
            code, out, error = lab.run("clusterctl", "--admin", node.admin, "controllers", "-f", "json")
            assert code == 0, error
            peers += [controller["peer"] for controller in json.loads(out)]
        return sorted(peers)

    wait_for(lambda: shown() == sorted(sockets_towards(balancer.port)), 10,
             "the addresses that nodes show are those the controllers have")
    assert_whole(fleet.report())


def test_controllers_of_a_killed_node_come_back_through_the_others(lab):
    _, vendor, nodes, balancer = balanced(lab, 3)
    fleet = lab.fleet(balancer, 150, 2, "30s", vendor=vendor, options=QUICK)
    fleet.wait_connected(150)
    wait_for(lambda: all(owned(node) > 0 for node in nodes), 30, "every node has ranges")
    entered = balancer.connections()
    nodes[1].kill()
    wait_for(lambda: balancer.states() == ["UP", "DOWN", "UP"], 5, "the balancer knows")
    wait_for(lambda: served((nodes[0], nodes[2]), 150), 20, "the others serve all")
    assert balancer.connections()[1] == 0 and sum(balancer.connections()) == 150
    # What the dead node refused went to another one, and was not tried there again.
    assert balancer.shown("wretr") == ["0"] * 3 and sum(map(int, balancer.shown("wredis"))) > 0
    nodes[1].start()
    balancer.wait_for_states("UP", "UP", "UP")
    wait_for(lambda: owned(nodes[1]) > 0 and served(nodes, 150), 30, "it has ranges again")
    report = fleet.report()
    assert_whole(report)
    # Whose entry node died had to connect anew, once, and nobody else.
    assert report["reconnects"] == entered[1], (report, entered)
    assert report["connect_failures"] == 0, report


def test_controllers_of_a_node_that_hangs_are_sent_to_the_others(lab):
    _, vendor, nodes, balancer = balanced(lab, 3)
    fleet = lab.fleet(balancer, 60, 2, "20s", vendor=vendor, options=QUICK)
    fleet.wait_connected(60)
    entered = balancer.connections()
    nodes[2].pause()
    # Its connections are open and silent: by their own PINGs controllers would notice after 35 s.
    wait_for(lambda: balancer.states() == ["UP", "UP", "DOWN"], 10, "the balancer knows")
    wait_for(lambda: sum(balancer.connections()[:2]) == 60 and served(nodes[:2], 60), 10, "the others have all")
    nodes[2].resume()
    balancer.wait_for_states("UP", "UP", "UP")
    report = fleet.report()
    assert_whole(report)
    assert report["reconnects"] == entered[2], (report, entered)


def test_a_node_without_a_lease_gets_no_new_connections_and_keeps_those_it_has(lab):
    redis, vendor, nodes, balancer = balanced(lab, 2)
    fleet = lab.fleet(balancer, 60, 2, "20s", vendor=vendor, options=QUICK)
    fleet.wait_connected(60)
    wait_for(lambda: served(nodes, 60), 20, "all are served")
    entered = balancer.connections()
    # With --tolerance 0 neither Redis' word nor that of one node alone is enough.
    redis.pause()
    nodes[1].pause()
    wait_for(lambda: balancer.states() == ["NOLB", "DOWN"], 10, "one has no lease, the other is silent")
    status, text = nodes[0].http("/readyz")
    assert status == 503 and "the lease has run out" in text
    # Those of the other may have come before it was known; whoever comes now tries again and again, and is not given to
    # the one that could not serve him.
    came = balancer.connections()[0]
    assert came >= entered[0]
    newer = lab.fleet(balancer, 20, 2, "10s", vendor=vendor, first_serial=5000, options=QUICK)
    wait_for(lambda: newer.progress_lines >= 3, 10, "they have tried for a while")
    assert newer.progress["connected"] == 0 and balancer.connections() == [came, 0]
    redis.resume()
    nodes[1].resume()
    balancer.wait_for_states("UP", "UP")
    wait_for(lambda: served(nodes, 80), 20, "all are served again")
    for report in (newer.report(), fleet.report()):
        assert_whole(report)
    assert report["reconnects"] == entered[1], (report, entered)


def test_a_balancer_that_restarts_under_load_costs_connections_and_no_event(lab):
    _, vendor, nodes, balancer = balanced(lab, 3)
    fleet = lab.fleet(balancer, 150, 10, "15s", vendor=vendor, options=QUICK)
    fleet.wait_connected(150)
    wait_for(lambda: fleet.progress["acked"] > 3000, 20, "events flow")
    balancer.kill()
    balancer.start()
    wait_for(lambda: sum(balancer.connections()) == 150 and served(nodes, 150), 20, "all are served again")
    report = fleet.report()
    assert_whole(report)
    assert report["reconnects"] == 150, report


def test_a_reload_under_load_disconnects_nobody(lab):
    _, vendor, nodes, balancer = balanced(lab, 3)
    fleet = lab.fleet(balancer, 60, 10, "12s", vendor=vendor, options=QUICK)
    fleet.wait_connected(60)
    balancer.reload()
    # The new worker takes those that come; the former one keeps what it has.
    newer = lab.fleet(balancer, 40, 10, "5s", vendor=vendor, first_serial=5000, options=QUICK)
    newer.wait_connected(40)
    wait_for(lambda: served(nodes, 100), 10, "both kinds are served")
    assert sum(balancer.connections()) == 40
    for report in (newer.report(), fleet.report()):
        assert_whole(report)
        assert report["reconnects"] == 0 and report["connect_failures"] == 0, report
