"""Nodes that the package has installed, each on a host of its own that is booted and shut down."""

import collections
import threading

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


class Moves(threading.Thread):
    """Looks who owns each controller, for as long as it runs; counts how often that changes."""

    def __init__(self, redis, serials):
        super().__init__(daemon=True)
        self.redis, self.serials = redis, serials
        self.former, self.times = self._look(), collections.Counter()
        self._is_done = threading.Event()
        self.start()

    def _look(self):
        ranges = packaged.owners(self.redis)
        return [next(owner for first, last, owner in ranges if first <= serial <= last) for serial in self.serials]

    def run(self):
        while not self._is_done.wait(0.05):
            now = self._look()
            self.times.update(serial for serial, was, is_ in zip(self.serials, self.former, now) if was != is_)
            self.former = now

    def end(self):
        self._is_done.set()
        self.join(10)
        return self.times


def test_a_rollout_brings_all_hosts_onto_the_package_that_was_installed(hosted, packages, capsys):
    with packaged.Hosts(hosted, packages.first, CONTROLLERS) as hosts:
        another = packages.differing("+rollout")
        pids = [host.nodes[0].show("MainPID") for host in hosts.hosts.values()]
        for host in hosts.hosts.values():
            host.system.write("/etc/default/cluster-driver", "RESTART_ON_UPGRADE=no\n", group="root")
            host.install(another)
        assert [host.nodes[0].show("MainPID") for host in hosts.hosts.values()] == pids
        moves = Moves(hosts.redis, hosts.serials)
        code, said = hosts.hosts["node-1"].system.call("clusterctl", "rollout", seconds=120)
        assert code == 0, said
        times = moves.end()
        for host, pid in zip(hosts.hosts.values(), pids):
            main = host.nodes[0].show("MainPID")
            assert main != pid and host.nodes[0].show("ActiveState") == "active"
            code, _ = host.system.call("test", f"/proc/{main}/exe", "-ef", "/usr/bin/cluster-driver")
            assert code == 0
        hosts.wait_served()
        report = hosts.fleet.end(90)
        with capsys.disabled():
            print(f"\n  rollout over 3 hosts, {CONTROLLERS} controllers: {len(times)} changed their owner, at most "
                  f"{max(times.values(), default=0)} times; gap {report['gap_ms']}")
        assert report["exit"] == 0 and report["lost"] == 0 and report["duplicated"] == 0, report
        assert report["reconnects"] == 0 and report["goaways"] == 0, report
        assert max(times.values(), default=0) <= 1, times
