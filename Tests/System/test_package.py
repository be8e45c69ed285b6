"""The Debian package in a booted systemd: what it begins, what an upgrade restarts and in which order, what a removal
leaves. Controllers notice nothing of an upgrade."""

import re
import subprocess

import pytest

import packaged
from process import wait_for

pytestmark = pytest.mark.skipif(packaged.why_not() is not None, reason=str(packaged.why_not()))

CONTROLLERS = 300
ENDING = "the connections are the next process'"


class Served:
    """Two nodes of one host, installed by the package, and the fleet that knows both; with `other` a third one elsewhere."""

    def __init__(self, lab, package, other=False):
        self.lab, self.redis, self.vendor = lab, lab.redis(), lab.vendor(db="memory:")
        self.host = packaged.Host(lab)
        try:
            self.said = self.host.install(package)
            # Nothing begins by itself.
            assert self.host.system.run("systemctl", "list-units", "--plain", "--no-legend", "cluster-driver@*") == ""
            self.nodes = [self.host.node(self.redis, self.vendor, name) for name in ("one", "two")]
            self.other = lab.node(self.redis, self.vendor, "other", ["--node-id", "other"]) if other else None
            self.everywhere = [*self.nodes, *filter(None, [self.other])]
            self.fleet = lab.fleet(
                ",".join(f"127.0.0.1:{node.port}" for node in self.everywhere), CONTROLLERS, 5, "10m", vendor=self.vendor,
                options=["--drain", "30s", "--backoff-min", "100ms", "--backoff-max", "1s"])
            self.fleet.wait_connected(CONTROLLERS, 30)
            self.host.keep_owners(self.redis, ("one", "two", "other")[:len(self.everywhere)])
            self.wait_all_served(self.everywhere)
        except BaseException:
            self.host.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.host.close()

    def wait_all_served(self, nodes):
        wait_for(lambda: sum((node.metrics() or {}).get("cluster_driver_sessions", 0) for node in nodes) == CONTROLLERS,
                 20, "all are served")

    def pids(self):
        return [node.show("MainPID") for node in self.nodes]

    def in_order(self):
        """The nodes as restart-nodes takes them: systemd sorts units by their names."""
        return sorted(self.nodes, key=lambda node: node.unit)

    def whole(self):
        report = self.fleet.end(90)
        assert report["exit"] == 0, (report, self.host.system.log())
        assert report["lost"] == 0 and report["duplicated"] == 0, report
        return report


def owners(served):
    return {owner for *_, owner in packaged.owners(served.redis)}


def moments(log, words):
    """When a log says something, in its own words: they sort."""
    return [line.split()[0] for line in log.splitlines() if words in line]


def test_the_package_is_the_same_bytes_each_time_and_lintian_agrees(packages, tmp_path):
    packaged.run("scripts/deb", "cluster-driver", **{**packages.environment, "OUT": str(tmp_path), "LINTIAN": "no"})
    assert (tmp_path / packages.first.name).read_bytes() == packages.first.read_bytes()
    assert re.fullmatch(r"\d+\.\d+\.\d+", packages.version)
    # scripts/deb has asked lintian, where there is one.
    said = subprocess.run(["dpkg-deb", "-I", packages.first], capture_output=True, text=True).stdout
    for library in ("libc6", "libhiredis0.14", "libmicrohttpd12", "libnghttp2-14", "libssl3"):
        assert library in said, said


def test_an_upgrade_restarts_one_node_after_another_and_nobody_notices(lab, packages, capsys):
    with Served(lab, packages.first) as served:
        host, before, pids = served.host, packaged.owners(served.redis), served.pids()
        # By the setting, nothing.
        host.system.write("/etc/default/cluster-driver", "RESTART_ON_UPGRADE=no\n", group="root")
        said = host.install(packages.differing("+1"))
        assert served.pids() == pids and "restart-nodes" in said, said
        # By the command of the host, and nothing if there is nothing to do.
        code, said = host.system.call("/usr/lib/cluster-driver/restart-nodes", seconds=120)
        assert code == 0 and said.count("serves") == 2, said
        again = served.pids()
        assert not set(again) & set(pids)
        assert host.system.call("/usr/lib/cluster-driver/restart-nodes") == (0, "")
        # As it is shipped.
        host.system.write("/etc/default/cluster-driver", "RESTART_ON_UPGRADE=yes\n", group="root")
        host.install(packages.differing("+2"))
        assert not set(served.pids()) & set(again)
        report = served.whole()
        with capsys.disabled():
            print(f"\n  two upgrades of two nodes with {CONTROLLERS} controllers: gap {report['gap_ms']}")
        assert report["reconnects"] == 0 and report["goaways"] == 0, report
        assert packaged.owners(served.redis) == before
        first, second = (host.log_of(node) for node in served.in_order())
        # The second one ends after the first one serves again, each time.
        serving, ending = moments(first, "serving controllers")[1:], moments(second, ENDING)
        assert len(serving) == len(ending) == 2 and all(s < e for s, e in zip(serving, ending)), (first, second)
        assert moments(second, "serving controllers")[1] < moments(first, ENDING)[1]
        assert host.system.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "cluster-driver") == (
            f"{packages.version}+2 install ok installed")


def test_a_broken_upgrade_stops_at_the_first_node_and_a_removal_hands_over(lab, packages):
    with Served(lab, packages.first, other=True) as served:
        host = served.host
        first, second = served.in_order()
        pid = second.show("MainPID")
        code, said = host.dpkg("-i", packages.broken("+1"))
        assert code != 0, said
        for word in (f"{first.unit}.service did not start again", f"Left alone, with the program they had: {second.unit}",
                     f"journalctl -u {first.unit}", "install the former version"):
            assert word in said, said
        assert second.show("MainPID") == pid and second.show("ActiveState") == "active"
        assert host.system.run("dpkg-query", "-W", "-f", "${Status}", "cluster-driver") == "install ok half-configured"
        broken = {"one"} if first is served.nodes[0] else {"two"}
        wait_for(lambda: owners(served) == {"one", "two", "other"} - broken, 10, "the others have its ranges")
        # The former version, over it: what failed takes it up by itself, and goes on with its connections.
        host.install(packages.first)
        assert first.show("ActiveState") == second.show("ActiveState") == "active"
        served.wait_all_served(served.everywhere)
        assert served.fleet.progress["reconnects"] == 0 and "going on with" in host.log_of(first)

        code, said = host.dpkg("-r", "cluster-driver")
        assert code == 0 and owners(served) == {"other"}, said
        assert [node.show("ActiveState") for node in served.nodes] == ["inactive"] * 2
        # The one that failed has had no ranges since: nothing was moved for balance.
        assert "what this node had is the others'" in host.log_of(second)
        served.wait_all_served([served.other])
        served.whole()
        # Settings and state stay until a purge.
        kept = "ls -d /etc/cluster-driver/*.env /var/lib/cluster-driver/*.state /etc/default/cluster-driver"
        assert len(host.system.run("sh", "-c", kept).splitlines()) == 5
        code, said = host.dpkg("-P", "cluster-driver")
        assert code == 0, said
        left = host.system.run("find", "/etc", "/usr", "/lib/systemd", "/var/lib/cluster-driver", "-xdev", "-name",
                               "*cluster-driver*", "-not", "-name", "*.service.d", "-not", "-path", "/usr/src/*")
        assert "No such file" in left and left.count("\n") == 0, left
