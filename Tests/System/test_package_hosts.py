"""Nodes that the package has installed, each on a host of its own that is booted and shut down."""

import packaged
from process import wait_for

CONTROLLERS = 300


def test_a_host_that_is_rebooted_hands_over_before_and_takes_part_afterwards(hosted, packages, capsys):
    with packaged.Hosts(hosted, packages.first, CONTROLLERS) as hosts:
        host = hosts.hosts["node-2"]
        node, = host.nodes
        came = node.metrics()["cluster_driver_connections"]
        host.system.power_off()
        # By the stop, not because its session ran out.
        assert {owner for *_, owner in packaged.owners(hosts.redis)} == {"node-1", "node-3"}
        assert "what this node had is the others'" in host.log_of(node), host.log_of(node)
        assert hosts.redis.call("HGET", "{cd:main}:state", "s:node-2").split()[2] == b"1"
        hosts.wait_served()
        host.system.boot()
        wait_for(lambda: node.show("ActiveState") == "active", 30, "its node has begun by itself")
        hosts.wait_all_take_part()
        report = hosts.fleet.end(90)
        with capsys.disabled():
            print(f"\n  a host is rebooted: {report['goaways']} controllers told to go, {report['reconnects']} reconnects, "
                  f"gap {report['gap_ms']}")
        assert report["exit"] == 0 and report["lost"] == 0 and report["duplicated"] == 0, report
        # Nobody but those that had come in by it: connections of its own, and those it had for others' controllers.
        assert 0 < report["reconnects"] <= came, (report, came)
