"""A cluster on hosts of its own, broken on purpose, keeps its promises; and the checker notices one that does not.
`make chaos` does it for as long as you like.

Needs root, iproute2 and nftables; skipped, with the reason, where they are missing.
"""

import os
import socket
import sqlite3

import pytest

import faults
from chaos import Chaos
from hosts import Cluster
from process import wait_for

SEED = int(os.environ.get("CHAOS_SEED", "1"))
SECONDS = 45
CONTROLLERS = 300


def cluster_with_controllers(hosted, controllers, seed=SEED, **options):
    cluster = Cluster(hosted, **options)
    cluster.connect(controllers, 2, seed)
    return cluster


@pytest.mark.parametrize(("seed", "options"), [
    (1, {}), (2, {}), (7, {"clocks": True}), (3, {"sentinels": True}), (4, {"tolerance": 1}),
])
def test_a_cluster_keeps_its_promises_whatever_breaks(hosted, seed, options):
    chaos = Chaos(cluster_with_controllers(hosted, CONTROLLERS, seed, **options), seed)
    chaos.run(SECONDS, faults.kinds(options.get("sentinels", False), options.get("clocks", False)))
    verdict = chaos.verdict()
    print(f"seed {seed}\n{chaos.table()}\n{verdict}")
    assert not verdict.broken, f"seed {seed}:\n{verdict}\n{hosted.logs()}"


def test_a_vendor_app_that_forgets_what_it_acknowledged_is_caught(hosted):
    cluster = cluster_with_controllers(hosted, 50)
    chaos = Chaos(cluster, SEED)
    wait_for(lambda: cluster.fleet.progress.get("acked", 0) > 300, 20, "events are acknowledged")
    cluster.vendor.kill()
    for suffix in ("", "-wal", "-shm"):
        (hosted.folder / f"vendor.db{suffix}").unlink(missing_ok=True)
    cluster.vendor.start()
    wait_for(lambda: rows(chaos.database) > 100, 30, "the vendor app stores what is new")
    verdict = chaos.verdict()
    assert any(sentence.startswith("logs of which acknowledged events are not stored: 50")
               for sentence in verdict.broken), verdict
    assert any(sentence.startswith("by the controllers, lost") for sentence in verdict.broken), verdict


def test_one_row_that_is_gone_one_result_that_is_another_and_one_accusation_are_caught(hosted):
    cluster = cluster_with_controllers(hosted, 20)
    chaos = Chaos(cluster, SEED)
    wait_for(lambda: cluster.fleet.progress.get("acked", 0) > 200, 20, "events are acknowledged")
    wait_for(lambda: results(chaos.database) > 5, 30, "commands have results")
    with sqlite3.connect(chaos.database, timeout=10) as db:
        db.execute("DELETE FROM events WHERE seq = 3 AND serial = 1007")
        db.execute("UPDATE events SET owner_epoch = owner_epoch + 1000 WHERE seq = 3 AND serial = 1008")
        db.execute("UPDATE results SET status = 3 WHERE id = (SELECT id FROM results WHERE status = 1 LIMIT 1)")
        db.execute("DELETE FROM results WHERE id = (SELECT id FROM results WHERE status = 1 LIMIT 1)")
    node = cluster.nodes[0]
    with node.on_host(), socket.create_connection((node.address, node.port), 5) as faulty:
        faulty.sendall(b"no controller says this to a node")
        assert faulty.recv(1000) is not None
    verdict = chaos.verdict()
    for sentence in ("logs of which acknowledged events are not stored: 1", "commands without a result: 1",
                     "rows under a lower owner epoch than a row before: 1", "controllers that a node took for faulty: 1",
                     "commands carried out whose result says they were not: 1"):
        assert any(broken.startswith(sentence) for broken in verdict.broken), verdict


def count(database, table):
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        try:
            return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # It is just being made.


def rows(database):
    return count(database, "events")


def results(database):
    return count(database, "results")
