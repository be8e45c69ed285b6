"""Hosts on which nothing of ours is until its Debian package is installed."""

import os
import pathlib
import re
import shutil
import subprocess

import booted
from harness import ROOT, binary
from namespaces import NETWORK
from process import free_port, wait_for

# The machine's own network and limits, and logs that can be read from outside.
DROP_IN = """
[Unit]
Wants=
[Service]
StandardError=append:/lab/node-%i.log
LimitNOFILE=20000
"""
SETTINGS = """
CLUSTER_DRIVER_REDIS={redis}
CLUSTER_DRIVER_VENDOR={vendor}
CLUSTER_DRIVER_METRICS={metrics}
CLUSTER_DRIVER_BIND={address}
CLUSTER_DRIVER_ADVERTISE={address}:0
CLUSTER_DRIVER_PEERS={address}:{peers}
CLUSTER_DRIVER_NODE_ID={name}
CLUSTER_DRIVER_LOG=stderr
{more}
"""
# Nodes on several hosts speak plain gRPC to each other, and say whose connection it is that they pass on.
HOSTED = f"CLUSTER_DRIVER_INSECURE=true\nCLUSTER_DRIVER_TRUSTED_PROXIES={NETWORK}.0/24,127.0.0.0/8"


def why_not():
    """Why packages cannot be installed in a booted systemd here; None when they can."""
    if reason := booted.why_not():
        return reason
    missing = [tool for tool in ("dpkg-deb", "dpkg-shlibdeps", "objcopy") if shutil.which(tool) is None]
    return f"no {', '.join(missing)}: run scripts/setup test" if missing else None


def run(*words, **environment):
    done = subprocess.run([*map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Packages:
    """The node's package, and others of later versions that differ from it in the program."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.environment = {"CLUSTER_DRIVER_BIN": str(binary("cluster-driver").parent), "OUT": str(self.folder),
                            "COMPRESS": "gzip 1"}
        run("scripts/deb", "cluster-driver", **self.environment)
        self.first, = self.folder.glob("cluster-driver_*.deb")
        self.version = run("dpkg-deb", "-f", self.first, "Version").strip()

    def later(self, suffix, change):
        """Another version of it, for which `change` has been done to its program."""
        tree, to = self.folder / suffix, self.folder / f"later{suffix}.deb"
        run("dpkg-deb", "-R", self.first, tree)
        change(tree / "usr/bin/cluster-driver")
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^(Version: .*)$", rf"\g<1>{suffix}", control.read_text()))
        run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, to)
        shutil.rmtree(tree)
        return to

    def differing(self, suffix):
        """The same sources, another file."""
        def note(program):
            (self.folder / "note").write_text(suffix)
            run("objcopy", "--add-section", f".version_of_package={self.folder / 'note'}", program)
        return self.later(suffix, note)

    def broken(self, suffix):
        """Its program ends at once."""
        return self.later(suffix, lambda program: program.write_text("#!/bin/sh\necho broken on purpose >&2\nexit 1\n"))


class Host:
    """A booted systemd. Instances are of the ports that node() was called for."""

    def __init__(self, lab, name="systemd"):
        self.lab, self.name = lab, name
        self.nodes = []
        self.system = booted.Systemd(lab, DROP_IN, programs=(), units=(), name=name)
        # That of containers' images forbids everything.
        self.system.run("rm", "-f", "/usr/sbin/policy-rc.d")

    def dpkg(self, verb, package):
        """Exit code of dpkg, and all it says. A package by its path outside, or by its name."""
        if isinstance(package, pathlib.Path):
            shutil.copy(package, self.system.lab_folder / "package.deb")
            package = "/lab/package.deb"
        # Triggers are other packages': manual pages, above all.
        return self.system.call("dpkg", "--no-triggers", verb, package, seconds=240)

    def install(self, package):
        code, said = self.dpkg("-i", package)
        assert code == 0, said + self.system.log()
        return said

    def node(self, redis, vendor, name, more=""):
        """Enables and starts an instance, with settings in its file."""
        address = self.lab.address(self.name)
        if hosted := address != "127.0.0.1":
            port, metrics, peers, more = 5001, 9001, 8001, f"{HOSTED}\n{more}"
        else:
            port, metrics, peers = free_port(), free_port(), 0
        node = booted.Unit(self.system, port, f"{address}:{metrics}", address)
        self.system.write(f"/etc/cluster-driver/{port}.env", SETTINGS.format(
            redis=redis.url, vendor=vendor.url, metrics=node.metrics_at, address=address, peers=peers, name=name,
            more=more))
        said = node.ctl("enable", "--now")
        assert node.show("ActiveState") == "active", said + node.ctl("status") + node.log()
        # Without it an instance is not wanted at the next boot; the target of this lab is not multi-user.
        if hosted:
            self.system.run("systemctl", "add-wants", "lab.target", "cluster-driver.target")
        self.nodes.append(node)
        return node

    def ctl(self, node, *words):
        """clusterctl on the host, of a node of it."""
        return self.system.call("clusterctl", *words, "--admin", f"unix:/run/cluster-driver/{node.port}.sock")

    def log_of(self, node):
        return (self.system.lab_folder / f"node-{node.port}.log").read_text(errors="replace")

    def keep_owners(self, redis, names, seconds=40):
        """Waits until all of these own something; nothing is moved for balance any more then."""
        wait_for(lambda: {owner for *_, owner in owners(redis)} == set(names), seconds, f"{names} all own ranges", 0.1)
        code, said = self.ctl(self.nodes[0], "rebalance", "stop")
        assert code == 0, said
        # What was under way is at its end.
        wait_for(lambda: ", 0 under way" in self.ctl(self.nodes[0], "plan")[1], 20, "nothing is moved", 0.2)

    def close(self):
        self.system.close()


class Hosts:
    """Three nodes, each installed by the package on a booted host of its own, with Redis, the vendor app and the
    controllers on others. Every host has one address, and every node the ports that are usual."""

    NAMES = ("node-1", "node-2", "node-3")

    def __init__(self, lab, package, controllers, event_rate=5):
        self.lab, self.controllers, self.hosts = lab, controllers, {}
        for name in ("redis", "vendor", *self.NAMES, "fleet"):
            lab.host(name)
        self.redis = lab.redis("redis")
        self.vendor = lab.vendor("vendor", db="memory:", options=["--insecure"])
        try:
            for name in self.NAMES:
                host = self.hosts[name] = Host(lab, name)
                host.install(package)
                host.node(self.redis, self.vendor, name)
            addresses = ",".join(f"{host.nodes[0].address}:{host.nodes[0].port}" for host in self.hosts.values())
            self.fleet = lab.fleet(addresses, controllers, event_rate, "10h", vendor=self.vendor, name="fleet", options=[
                "--drain", "60s", "--backoff-min", "100ms", "--backoff-max", "1s", "--connect-timeout", "5s"])
            self.fleet.wait_connected(controllers, 60)
            self.wait_all_take_part()
        except BaseException:
            self.close()
            raise

    @property
    def serials(self):
        return range(1000, 1000 + self.controllers)

    def wait_all_take_part(self, seconds=60):
        def take_part():
            return {owner for *_, owner in owners(self.redis)} == set(self.NAMES)
        wait_for(take_part, seconds, "every node has ranges", 0.1)
        self.wait_served()

    def wait_served(self, seconds=30):
        def served():
            said = [host.nodes[0].metrics() or {} for host in self.hosts.values()]
            return sum(samples.get("cluster_driver_sessions", 0) for samples in said) == self.controllers
        wait_for(served, seconds, "all are served", 0.1)

    def close(self):
        for host in self.hosts.values():
            host.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def owners(redis):
    """Who owns what, by Redis: (first, last, owner) in order, neighbours of one owner as one."""
    words = sorted((int(w[0]), int(w[1]), w[3]) for w in
                   (value.decode().split() for value in redis.call("HVALS", "{cd:main}:ranges")))
    joined = []
    for first, last, owner in words:
        if joined and joined[-1][2] == owner and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last, owner)
        else:
            joined.append((first, last, owner))
    return joined
