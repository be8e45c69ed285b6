"""A node that cannot serve though others can is relieved of its controllers.

Needs root, iproute2 and nftables; skipped, with the reason, where they are missing.
"""

import time

from arrivals import Arrivals
from hosts import Cluster
from process import wait_for


def test_a_node_that_does_not_reach_the_vendor_app_gives_its_controllers_to_those_that_do(hosted):
    cluster = Cluster(hosted)
    cluster.connect(90, 2, seed=5)
    arrivals = Arrivals(cluster.vendor.db.removeprefix("sqlite:"), cluster.serials)
    arrivals.start()
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


def test_controllers_whose_owner_their_entry_cannot_reach_come_in_by_another(hosted):
    cluster = Cluster(hosted)
    cluster.connect(90, 2, seed=6)
    arrivals = Arrivals(cluster.vendor.db.removeprefix("sqlite:"), cluster.serials)
    arrivals.start()
    node = cluster.nodes[0]
    hosts = hosted.hosts
    began = time.time()
    cut = hosted.network.cut(hosts[node.name], [hosts[other.name] for other in cluster.nodes[1:]])
    # Long before TCP gives up, and while the owners stay what they are.
    wait_for(lambda: arrivals.all_newer_than(began + 1), 15, "all are served")
    print(f"\n  all served {time.time() - began:.1f} s after the cut")
    went = 'cluster_driver_connections_closed_total{reason="out_of_reach"}'
    assert sum(each.metrics().get(went, 0) for each in cluster.nodes) > 0
    cut.heal()
    arrivals.end()
