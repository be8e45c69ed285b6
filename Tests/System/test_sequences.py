"""Command sequences: lists and configurations, in order, once, to their end, whoever owns the controllers."""

import collections
import hashlib
import json
import os
import signal
import sqlite3
import struct
import time

import redis as redis_py

from process import wait_for
from test_cluster import QUICK, owned, sessions, start
from test_mailbox import client
from vendor_query import VendorQuery, model

SERIAL = 1000
DONE, REFUSED, EXPIRED = 1, 2, 3
CHUNK = 3980


def configuration(serial, content):
    return model.Command(id=os.urandom(16), serial=serial, configuration=model.Configuration(content=content))


def a_list(serial, n):
    commands = [model.Command(query_status=model.QueryStatus()) for _ in range(n)]
    return model.Command(id=os.urandom(16), serial=serial, list=model.CommandList(commands=commands))


def unlock(serial):
    return model.Command(id=os.urandom(16), serial=serial, lane=model.LANE_URGENT,
                         not_after_ms=int((time.time() + 10) * 1000), unlock=model.Unlock(door=1, duration_ms=100))


def steps(sequence_id, n):
    """The ids of a list's commands, as Docs/VENDOR.md has them."""
    return [hashlib.sha256(sequence_id + struct.pack(">II", 0, i)).digest()[:16].hex() for i in range(n)]


def chunks(n_bytes):
    return -(-n_bytes // CHUNK)


def end(fleet):
    fleet.process.popen.send_signal(signal.SIGINT)
    return fleet.report(30)


def carried_out(log, code=6):
    """Ids of the commands of that code that each controller carried out, in their order."""
    done = collections.defaultdict(list)
    for line in map(json.loads, log.read_text().splitlines()):
        if line["code"] == code:
            done[line["serial"]].append(line["id"])
    return done


def results(vendor):
    with sqlite3.connect(f"file:{vendor.db.removeprefix('sqlite:')}?mode=ro", uri=True) as db:
        return dict(db.execute("SELECT id, status FROM results"))


def system(lab, controllers, options=(), duration="120s"):
    vendor, redis = lab.vendor(), lab.redis()
    node = lab.node(redis, vendor, options=["--t2", "20ms"])
    log = lab.folder / "commands.jsonl"
    fleet = lab.fleet(node, controllers, 0, duration, options=["--commands-log", log, *options])
    fleet.wait_connected(controllers)
    return vendor, node, fleet, log


def quantiles(values):
    values = sorted(values)
    return values[len(values) // 2], values[int(len(values) * 0.99)]


def unlocks(query, until):
    """Opens doors, one after the other, until that is true; ms by the giver's clock, and by the node's alone."""
    whole, at_node = [], []
    while not until(len(whole)):
        begun = time.monotonic()
        result = query.send(unlock(SERIAL + len(whole) * 7 % 200))
        whole.append((time.monotonic() - begun) * 1000)
        at_node.append(result.elapsed_us / 1000)
        assert result.status == DONE, result
    return whole, at_node


def test_unlocks_keep_their_latency_while_200_controllers_take_2000_cards_each(lab):
    vendor, node, fleet, _ = system(lab, 200)
    # 2,000 cards of 32 bytes, another table for each.
    tables = [os.urandom(32 * 2000) for _ in range(200)]
    with VendorQuery(vendor) as query, VendorQuery(vendor) as loader:
        unlocks(query, lambda n: n == 50)
        before, before_at_node = unlocks(query, lambda n: n == 500)
        begun = time.monotonic()
        loads = [loader.send_later(configuration(SERIAL + i, table)) for i, table in enumerate(tables)]
        during, during_at_node = unlocks(query, lambda n: all(load.done() for load in loads))
        seconds = time.monotonic() - begun
        assert [load.result().status for load in loads] == [DONE] * 200
        assert len(query.sequences()) == 200
        assert query.stats().results_conflicting == 0
    p50, p99 = quantiles(before)
    p50_during, p99_during = quantiles(during)
    node_p50, node_p99 = quantiles(before_at_node)
    node_p50_during, node_p99_during = quantiles(during_at_node)
    print(f"\nunlocks: {len(before)} before p50 {p50:.2f} p99 {p99:.2f} ms (in the node {node_p50:.2f}, {node_p99:.2f}), "
          f"{len(during)} during {seconds:.1f} s of download p50 {p50_during:.2f} p99 {p99_during:.2f} ms "
          f"(in the node {node_p50_during:.2f}, {node_p99_during:.2f})")
    # Without the pace that a node keeps, 10 times as long.
    assert len(during) > 100
    assert p50_during < 2 * p50 + 2 and p99_during < 3 * p99 + 20
    report = end(fleet)
    assert report["exit"] == 0, report
    assert report["configurations"] == {
        "begun": 200, "resumed": 0, "applied": 200, "bad": 0, "chunks": 200 * chunks(64_000), "bytes": 200 * 64_000}


def cluster(lab, controllers, options=()):
    """Three nodes, each of which serves some of the controllers."""
    redis, vendor, nodes, ports = start(lab, 3)
    log = lab.folder / "commands.jsonl"
    fleet = lab.fleet(ports, controllers, 0, "180s", options=[*QUICK, "--commands-log", log, *options])
    fleet.wait_connected(controllers, 30)
    wait_for(lambda: all(owned(node) > 0 for node in nodes), 30, "every node has ranges")
    wait_for(lambda: sum(sessions(node) for node in nodes) == controllers, 20, "all are served")
    return redis, vendor, nodes, fleet, log


def steps_done(node):
    return node.metrics()['cluster_driver_commands_ended_total{door="sequence",result="done"}']


def test_sequences_go_on_with_the_next_owner_when_theirs_is_killed(lab):
    n = 30
    redis, vendor, nodes, fleet, log = cluster(lab, 3 * n)
    content = [os.urandom(1 << 20) for _ in range(n)]
    box = client.Mailbox(redis_py.Redis(host=redis.address, port=redis.port))
    # Mixed, so that every node has some of each.
    posted = {SERIAL + 3 * i + 2: os.urandom(16) for i in range(n)}
    text = {"list": {"commands": [{"queryStatus": {}}] * 200}}
    victim = max(nodes, key=sessions)
    with VendorQuery(vendor) as query:
        given = [configuration(SERIAL + 3 * i, content[i]) for i in range(n)]
        given += [a_list(SERIAL + 3 * i + 1, 250) for i in range(n)]
        for serial, id in posted.items():
            assert box.post(serial, text, id.hex()) == "posted"
        calls = [query.send_later(command, 120) for command in given]
        # Of ten transfers of a megabyte each.
        wait_for(lambda: victim.metrics()["cluster_driver_sent_bytes_total"] > 2_500_000, 30, "it is in their midst")
        victim.kill()
        n_left = sum(not call.done() for call in calls)
        assert [call.result().status for call in calls] == [DONE] * 2 * n
        wait_for(lambda: all(results(vendor).get(id) == DONE for id in posted.values()), 60, "the letters end")
        told = query.sequences()
        assert query.stats().results_conflicting == 0
    stored = results(vendor)
    assert len(stored) == 3 * n and set(stored.values()) == {DONE}, collections.Counter(stored.values())
    assert all(told[command.id].result.status == DONE for command in given)
    report = end(fleet)
    assert report["commands"]["duplicate"] == 0 and report["commands"]["stale_epoch"] == 0, report
    # Not a chunk was sent to be taken twice: none began anew.
    transfers = report["configurations"]
    assert transfers["applied"] == n and transfers["begun"] == n and transfers["bad"] == 0, transfers
    assert transfers["chunks"] == n * chunks(1 << 20) and transfers["bytes"] == n << 20, transfers
    assert transfers["resumed"] > 0, transfers
    done = carried_out(log)
    for command in given[n:]:
        assert done[command.serial] == steps(command.id, 250)
    for serial, id in posted.items():
        assert done[serial] == steps(id, 200)
    print(f"\n{n_left} of {2 * n} sequences were under way, {transfers['resumed']} transfers went on where they were")


def test_a_drained_node_gives_its_sequences_away(lab):
    n = 30
    _, vendor, nodes, fleet, log = cluster(lab, 2 * n)
    victim = max(nodes, key=sessions)
    before = fleet.progress.get("reconnects", 0)
    with VendorQuery(vendor) as query:
        given = [configuration(SERIAL + 2 * i, os.urandom(1 << 20)) for i in range(n)]
        given += [a_list(SERIAL + 2 * i + 1, 250) for i in range(n)]
        calls = [query.send_later(command, 120) for command in given]
        wait_for(lambda: steps_done(victim) > 100, 30, "it has begun with them")
        code, output, errors = lab.run("clusterctl", "drain", "--admin", victim.admin, seconds=60)
        assert code == 0, output + errors
        assert [call.result().status for call in calls] == [DONE] * 2 * n
        assert query.stats().results_conflicting == 0
    report = end(fleet)
    assert report["configurations"]["applied"] == n, report["configurations"]
    assert report["configurations"]["chunks"] == n * chunks(1 << 20), report["configurations"]
    assert report["reconnects"] == before and report["commands"]["duplicate"] == 0, report
    done = carried_out(log)
    assert all(done[command.serial] == steps(command.id, 250) for command in given[n:])


def test_controllers_that_go_and_restart_have_their_configuration_in_the_end(lab):
    vendor, node, fleet, _ = system(lab, 20, ["--faults", "disconnect:0.3,reboot:0.1", *QUICK])
    with VendorQuery(vendor) as query:
        for _ in range(3):
            calls = [query.send_later(configuration(SERIAL + i, os.urandom(1 << 20)), 100) for i in range(20)]
            assert [call.result().status for call in calls] == [DONE] * 20
        assert query.stats().results_conflicting == 0
    report = end(fleet)
    assert report["configurations"]["applied"] == 60, report["configurations"]
    assert report["configurations"]["bad"] == 0, report["configurations"]
    assert report["commands"]["duplicate"] == 0, report


def test_the_first_command_that_is_not_done_ends_the_list(lab):
    vendor, _, fleet, log = system(lab, 1)
    command = a_list(SERIAL, 3)
    # It has four doors.
    command.list.commands[1].set_door_mode.CopyFrom(model.SetDoorMode(door=5, mode=model.DOOR_MODE_CARD))
    with VendorQuery(vendor) as query:
        result = query.send(command)
        assert (result.status, result.reason, result.index) == (REFUSED, 3, 1), result
        assert "command 1 of 3" in result.detail, result.detail
        late = a_list(SERIAL, 3)
        late.not_after_ms = 1000
        assert query.send(late).status == EXPIRED
    report = end(fleet)
    assert report["commands"]["executed"] == 1 and report["commands"]["late"] == 0, report
    assert carried_out(log)[SERIAL] == steps(command.id, 1)
