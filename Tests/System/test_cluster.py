"""Several nodes of one cluster, with controllers: nothing lost, nothing twice, whoever ends."""

import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from harness import binary, command_json
from process import wait_for
from vendor_query import VendorQuery

QUICK = ["--backoff-min", "100ms", "--backoff-max", "1s"]


def owned(node):
    return node.metrics()["cluster_driver_ranges_owned"]


def sessions(node):
    return node.metrics()["cluster_driver_sessions"]


def owners(redis):
    """Who owns the ranges there are, by the word of Redis."""
    return {value.split()[3] for value in redis.call("HVALS", "{cd:main}:ranges")}


def start(lab, n, *options):
    redis, vendor = lab.redis(), lab.vendor()
    nodes = [lab.node(redis, vendor, options=["--t2", "20ms", *options]) for _ in range(n)]
    return redis, vendor, nodes, ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def served(lab, n, controllers, rate, duration):
    """So many nodes, each of which owns something, and a fleet that is served by them."""
    redis, vendor, nodes, ports = start(lab, n)
    fleet = lab.fleet(ports, controllers, rate, duration, vendor=vendor, options=[*QUICK, "--drain", "30s"])
    fleet.wait_connected(controllers, 30)
    wait_for(lambda: all(owned(node) > 0 for node in nodes), 30, "every node has ranges")
    wait_for(lambda: sum(sessions(node) for node in nodes) == controllers, 20, "all are served")
    return redis, vendor, nodes, fleet


def assert_whole(report):
    assert report["exit"] == 0, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report
    assert report["commands"]["stale_epoch"] == 0 and report["commands"]["duplicate"] == 0, report


def test_a_node_that_is_killed_is_replaced_by_the_others(lab):
    _, _, nodes, fleet = served(lab, 3, 150, 2, "25s")
    nodes[1].kill()
    fleet.wait_connected(150, 30)
    wait_for(lambda: sum(sessions(n) for n in (nodes[0], nodes[2])) == 150, 30,
             "the others serve its controllers")
    assert_whole(fleet.report())


def test_a_node_that_stops_gives_its_ranges_back_at_once(lab):
    redis, _, nodes, fleet = served(lab, 2, 40, 2, "15s")
    assert nodes[0].stop() == 0
    # Far less than the 1.5 s after which a node that is silent counts as dead.
    wait_for(lambda: len(owners(redis)) == 1, 1, "the other has all of them")
    assert_whole(fleet.report())


def test_commands_reach_a_controller_whoever_owns_it(lab):
    redis, _, nodes, fleet = served(lab, 3, 60, 1, "20s")
    # One that has just moved may be heard by two.
    heard = sum(redis.publish(1000 + i, command_json(seconds=5)) for i in range(60))
    assert heard >= 55, f"{heard} of 60 commands were heard"
    report = fleet.report()
    assert_whole(report)
    assert report["commands"]["executed"] >= 55, report


def test_a_command_given_at_any_node_is_carried_out_by_the_owner(lab):
    _, vendor, nodes, fleet = served(lab, 3, 60, 1, "40s")
    serials = range(1000, 1060, 10)
    for node in nodes:
        for serial in serials:
            code, output, errors = lab.run(
                "clusterctl", "send", serial, "unlock", "--admin", node.admin, "--door", 1, "--within", "10s",
                "-f", "json", seconds=30)
            assert code == 0, output + errors
    passed = sum(node.metrics()['cluster_driver_commands_passed_total{answer="taken"}'] for node in nodes)
    # Two of three nodes were asked for nothing of their own each time.
    assert passed >= len(serials) * 2, passed
    with VendorQuery(vendor) as query:
        wait_for(lambda: query.stats().results_stored >= len(serials) * 3, 10, "results stored")
        assert query.stats().results_conflicting == 0
    fleet.process.popen.send_signal(signal.SIGINT)
    report = fleet.report()
    assert_whole(report)
    assert report["commands"]["executed"] == len(serials) * 3, report


def test_results_outlive_a_node_that_ends_while_the_vendor_app_stalls(lab):
    redis, vendor, nodes, fleet = served(lab, 2, 40, 1, "60s")
    vendor.pause()
    heard = sum(redis.publish(1000 + i, command_json(seconds=5)) > 0 for i in range(40))
    assert heard >= 35, f"{heard} of 40 commands were heard"
    wait_for(lambda: fleet.progress["commands"]["executed"] == heard, 10, "all are carried out")
    assert nodes[0].stop() == 0
    assert "kept_by_peers" in nodes[0].process.log_path.read_text()
    vendor.resume()
    with VendorQuery(vendor) as query:
        wait_for(lambda: query.stats().results_stored >= heard, 20, "every result is stored")
        assert query.stats().results_conflicting == 0
    fleet.process.popen.send_signal(signal.SIGINT)
    assert_whole(fleet.report())


def test_two_processes_under_one_name_are_told_apart(lab):
    redis, vendor = lab.redis(), lab.vendor()
    first = lab.node(redis, vendor, options=["--node-id", "gate"])
    wait_for(lambda: owned(first) > 0, 10, "the first owns what there is")
    second = lab.node(redis, vendor, options=["--node-id", "gate"])
    assert first.process.wait(10) == 0
    assert "under this node's name" in first.process.log_path.read_text()
    wait_for(lambda: owned(second) > 0, 10, "the second owns it now")


def test_redis_that_restarts_empty_disconnects_nobody(lab):
    redis, _, nodes, fleet = served(lab, 2, 40, 5, "20s")
    before = fleet.progress.get("reconnects", 0)
    redis.kill()
    # Longer than a lease.
    time.sleep(3)
    assert sum(sessions(node) for node in nodes) == 40
    assert all(node.metrics()["cluster_driver_acting_by_promises"] == 1 for node in nodes)
    redis.start()
    wait_for(lambda: all(node.metrics()["cluster_driver_acting_by_promises"] == 0 for node in nodes), 10,
             "they act by their leases again")
    wait_for(lambda: sum(sessions(node) for node in nodes) == 40, 5, "all are served")
    assert fleet.progress.get("reconnects", 0) == before, json.dumps(fleet.progress)
    assert_whole(fleet.report())


def test_a_drained_node_owns_nothing_and_its_controllers_notice_nothing(lab):
    _, _, nodes, fleet = served(lab, 3, 90, 5, "25s")
    before = fleet.progress.get("reconnects", 0)
    code, output, errors = lab.run("clusterctl", "drain", "--admin", nodes[1].admin, seconds=40)
    assert code == 0 and "owns nothing: it may be stopped" in output, output + errors
    assert owned(nodes[1]) == 0
    wait_for(lambda: sessions(nodes[0]) + sessions(nodes[2]) == 90, 5, "the others serve them all")
    code, output, errors = lab.run("clusterctl", "topology", "--admin", nodes[0].admin, "-f", "json")
    assert code == 0, errors
    states = sorted(member["state"] for member in json.loads(output))
    assert states == ["alive", "alive", "draining"], output
    code, output, errors = lab.run("clusterctl", "ranges", "--admin", nodes[2].admin, "-f", "json")
    assert code == 0, errors
    ranges = json.loads(output)
    assert ranges[0]["first"] == 1 and ranges[-1]["last"] == 2**64 - 2
    assert all(a["last"] + 1 == b["first"] for a, b in zip(ranges, ranges[1:])), output
    assert len({r["owner"] for r in ranges}) == 2, output
    assert fleet.progress.get("reconnects", 0) == before
    assert lab.run("clusterctl", "undrain", "--admin", nodes[1].admin)[0] == 0
    wait_for(lambda: owned(nodes[1]) > 0, 20, "it owns ranges again")
    assert_whole(fleet.report())


def test_a_node_on_its_own_has_no_cluster_to_show(lab):
    node = lab.node("memory:", lab.vendor())
    code, _, errors = lab.run("clusterctl", "topology", "--admin", node.admin)
    assert code == 5 and "on its own" in errors, errors


def test_an_operator_stops_balancing_forgets_a_node_and_reads_what_happened(lab):
    redis, _, nodes, _ = served(lab, 2, 20, 1, "120s")

    def ctl(*arguments, node=0):
        code, output, errors = lab.run("clusterctl", *arguments, "--admin", nodes[node].admin, seconds=40)
        assert code == 0, output + errors
        return output

    assert "BALANCING IS STOPPED" in ctl("rebalance", "stop")
    wait_for(lambda: json.loads(ctl("rebalance", "status", "-f", "json", node=1))["balancing"] == "stopped", 3,
             "the other node knows")
    assert "BALANCING IS STOPPED" in ctl("topology", node=1)
    ctl("rebalance", "start")
    assert json.loads(ctl("rebalance", "status", "-f", "json"))["balancing"] == "on"
    assert json.loads(ctl("plan", "-f", "json")) == []

    listed = json.loads(ctl("list", "-f", "json")) + json.loads(ctl("list", "-f", "json", node=1))
    assert sorted(node["role"] for node in listed) == ["leader", "member"], listed
    assert all(node["ranges"] > 0 for node in listed), listed
    gone = listed[1]["node"]

    argv = [binary("clusterctl"), "watch", "--admin", nodes[0].admin, "-f", "json"]
    watch = lab.start("watch", argv, stdout=subprocess.PIPE)
    lines = iter(watch.popen.stdout)
    # It shows what changes after it has begun: the first that it shows says that it has.
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, lines)
        while not first.done():
            ctl("rebalance", "stop")
            ctl("rebalance", "start")
    nodes[1].kill()
    changes = []
    while not changes or changes[-1]["what"] != "claimed":
        changes.append(json.loads(next(lines)))
    told = [change for change in changes if change["what"] in ("dead", "claimed")]
    assert [change["what"] for change in told] == ["dead", "claimed"], changes
    assert told[0]["node"] == gone and told[1]["from"] == gone, told
    history = json.loads(ctl("history", "-f", "json"))
    assert {change["number"] for change in changes} <= {change["number"] for change in history}
    assert [change["number"] for change in history] == list(range(1, len(history) + 1))

    wait_for(lambda: f"taken off: {gone}" in ctl("topology"), 30, "it is taken off the list")
    assert "taken off" not in ctl("forget", gone)
    code, _, errors = lab.run("clusterctl", "forget", gone, "--admin", nodes[0].admin, seconds=10)
    assert code != 0 and "not among the members that were taken off" in errors, errors
    assert owners(redis) == {listed[0]["node"].encode()}
