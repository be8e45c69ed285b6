"""A node that cannot serve though others can is relieved of its controllers.

Needs root, iproute2 and nftables; skipped, with the reason, where they are missing.
"""

import os
import sqlite3
import time

from arrivals import Arrivals
from harness import command_json
from hosts import Cluster
from process import wait_for


def served(hosted, seed):
    """A cluster with 90 controllers, and a watch over what is stored of them."""
    cluster = Cluster(hosted)
    cluster.connect(90, 2, seed=seed)
    arrivals = Arrivals(cluster.vendor.db.removeprefix("sqlite:"), cluster.serials)
    arrivals.start()
    return cluster, arrivals


def test_a_node_that_does_not_reach_the_vendor_app_gives_its_controllers_to_those_that_do(hosted):
    cluster, arrivals = served(hosted, 5)
    node, others = cluster.nodes[0], cluster.nodes[1:]
    hosts = hosted.hosts
    began = time.time()
    cut = hosted.network.cut(hosts[node.name], [hosts["vendor"]])
    wait_for(lambda: cluster.owned(node) == 0, 5, "the node that is cut off has nothing any more", every=0.05)
    moved = time.time()
    wait_for(lambda: arrivals.all_newer_than(moved), 10, "all are served")
    print(f"\n  moved away {moved - began:.1f} s after the cut, all served {time.time() - began:.1f} s after it")
    assert all(cluster.owned(other) > 0 for other in others)
    cut.heal()
    wait_for(lambda: cluster.owned(node) > 0, 30, "it has its share again")
    arrivals.end()


def test_a_node_that_is_killed_while_cut_off_from_the_vendor_app_takes_no_results_with_it(hosted):
    cluster = Cluster(hosted)
    cluster.connect(90, 2, seed=5)
    node, hosts = cluster.nodes[0], hosted.hosts
    database = cluster.vendor.db.removeprefix("sqlite:")
    hosted.network.cut(hosts[node.name], [hosts["vendor"]])
    given = {os.urandom(16): serial for serial in cluster.serials}
    for identity, serial in given.items():
        assert cluster.redis.publish(serial, command_json(identity=identity)) > 0

    def counts():
        seen = node.metrics()
        return (seen['cluster_driver_commands_ended_total{door="redis",result="done"}'],
                seen["cluster_driver_results_copied_total"])

    # What it has done it has done by now, or it is another's.
    wait_for(lambda: cluster.owned(node) == 0, 5, "the node that is cut off has nothing any more", every=0.05)
    wait_for(lambda: 0 < counts()[0] == counts()[1], 5, "another node has its results as well", every=0.05)
    node.kill()

    def missing():
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
            return given.keys() - {row[0] for row in db.execute("SELECT id FROM results")}
    wait_for(lambda: not missing(), 10, "every command has its result")


def test_controllers_whose_owner_their_entry_cannot_reach_come_in_by_another(hosted):
    cluster, arrivals = served(hosted, 6)
    hosts = hosted.hosts
    began = time.time()
    # Of one line: with the third node both are more than the one that they do not reach.
    cut = hosted.network.cut(hosts[cluster.nodes[0].name], hosts[cluster.nodes[1].name])
    # Long before TCP gives up, and while the owners stay what they are.
    wait_for(lambda: arrivals.all_newer_than(began + 1), 8, "all are served", every=0.05)
    print(f"\n  all served {time.time() - began:.1f} s after the cut")
    went = 'cluster_driver_connections_closed_total{reason="out_of_reach"}'
    assert sum(each.metrics().get(went, 0) for each in cluster.nodes) > 0
    cut.heal()
    arrivals.end()


def test_a_node_that_reaches_no_other_though_all_reach_redis_gives_what_it_has_to_the_others(hosted):
    cluster, arrivals = served(hosted, 7)
    # The others are as many as it takes: by its name alone it would stay.
    node, others = cluster.nodes[0], cluster.nodes[1:]
    hosts = hosted.hosts
    began = time.time()
    cut = hosted.network.cut(hosts[node.name], [hosts[other.name] for other in others])
    wait_for(lambda: node.http("/readyz")[0] == 503, 5, "the balancer is told to send nobody there")
    assert "not reached" in node.http("/readyz")[1]
    wait_for(lambda: cluster.owned(node) == 0, 10, "it has nothing any more", every=0.05)
    moved = time.time()
    wait_for(lambda: arrivals.all_newer_than(moved), 10, "all are served", every=0.05)
    print(f"\n  moved away {moved - began:.1f} s after the cut, all served {time.time() - began:.1f} s after it")
    assert all(cluster.owned(other) > 0 and other.http("/readyz")[0] == 200 for other in others)
    cut.heal()
    wait_for(lambda: cluster.owned(node) > 0 and node.http("/readyz")[0] == 200, 30, "it has its share again")
    arrivals.end()
