"""A cluster on hosts of its own: three nodes, Redis, the vendor app and the controllers each on another."""

import struct
import subprocess

from harness import ROOT, Lab
from namespaces import NETWORK, Network
from process import wait_for
from replicated import ReplicatedRedis

FIRST_SERIAL = 1000
# The same after a restart, as in operation; each host has its own.
PEERS_PORT, METRICS_PORT = 8001, 9001
# So that what is cut off is noticed within seconds: the defaults are for lines that are slow and bad.
PATIENCE = ["--t1", "2s", "--t2", "20ms", "--t3", "1s"]
QUICK = ["--backoff-min", "100ms", "--backoff-max", "1s"]


class Clock:
    """The time of day as the programs of one host see it; their other clocks go on as they do."""

    def __init__(self, folder, name):
        self._library = folder / "clock.so"
        if not self._library.exists():
            subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", self._library,
                            ROOT / "Tests/System/clock.c", "-ldl"], check=True, timeout=60)
        self._path = folder / f"{name}.clock"
        self._path.write_bytes(bytes(8))

    def set(self, ahead_seconds):
        """How far it is ahead from now on."""
        with open(self._path, "r+b") as file:
            file.write(struct.pack("=q", int(ahead_seconds * 1e9)))

    @property
    def prefix(self):
        return ["env", f"LD_PRELOAD={self._library}", f"CLOCK_AHEAD={self._path}"]


class HostedLab(Lab):
    """A Lab whose parts run where `hosts` says, by the parts' names, and by which of the `clocks`."""

    def __init__(self):
        super().__init__()
        self.hosts = {}
        self.clocks = {}
        self.network = Network()

    def host(self, part):
        """Makes the host that the part of this name will run on."""
        self.hosts[part] = self.network.host(part)
        return self.hosts[part]

    def address(self, name):
        return self.hosts[name].address

    def on_host(self, name):
        return self.hosts[name].inside()

    def start(self, name, argv, **streams):
        clock = self.clocks[name].prefix if name in self.clocks else []
        return super().start(name, [*self.hosts[name].prefix, *clock, *argv], **streams)

    def close(self, keep=False):
        super().close(keep)
        self.network.close()


class Cluster:
    """Redis, the vendor app, the nodes and the balancers of a cluster, each on a host of its own."""

    def __init__(self, lab, nodes=3, tolerance=0, node_options=(), sentinels=False, balancers=1, clocks=False,
                 patience=PATIENCE):
        """With `clocks` those of the nodes and of the vendor app can be set. `patience`: of the nodes with silent
        controllers, as options."""
        self.lab = lab
        self._patience = patience
        stores = ReplicatedRedis.hosts() if sentinels else ["redis"]
        gates = [f"balancer-{i + 1}" for i in range(balancers)]
        for name in (*stores, "vendor", *(f"node-{i + 1}" for i in range(nodes)), *gates, "fleet"):
            lab.host(name)
            if clocks and name.startswith(("node", "vendor")):
                lab.clocks[name] = Clock(lab.folder, name)
        self.redis = ReplicatedRedis(lab) if sentinels else lab.redis("redis")
        self.vendor = lab.vendor("vendor", options=["--insecure"])
        self.nodes = [self._node(f"node-{i + 1}", tolerance, node_options) for i in range(nodes)]
        # It takes all for up until it has asked.
        wait_for(lambda: all(node.http("/readyz")[0] == 200 for node in self.nodes), 30, "all nodes are ready")
        self.balancers = [lab.balancer(self.nodes, name) for name in gates]
        for balancer in self.balancers:
            balancer.wait_for_states(*["UP"] * nodes)
        self.fleet = None
        self.controllers = 0

    def _node(self, name, tolerance, options):
        address = self.lab.address(name)
        return self.lab.node(self.redis, self.vendor, name, [
            "--bind", address, "--advertise", f"{address}:0", "--peers", f"{address}:{PEERS_PORT}", "--node-id", name,
            "--metrics", f"{address}:{METRICS_PORT}", "--trusted-proxies", f"{NETWORK}.0/24", "--insecure",
            "--tolerance", tolerance, "--state-file", self.lab.folder / f"{name}.state", *self._patience, *options,
        ])

    @property
    def serials(self):
        return range(FIRST_SERIAL, FIRST_SERIAL + self.controllers)

    def connect(self, controllers, event_rate, seed, options=()):
        """Controllers that have the balancers' addresses, until they are told to end."""
        self.controllers = controllers
        targets = ",".join(f"{balancer.address}:{balancer.port}" for balancer in self.balancers)
        self.fleet = self.lab.fleet(
            targets, controllers, event_rate, "10h", vendor=self.vendor, seed=seed, first_serial=FIRST_SERIAL,
            name="fleet", options=[
                *QUICK, "--connect-timeout", "5s", "--drain", "60s", "--ledger", self.lab.folder / "ledger.jsonl",
                "--commands-log", self.lab.folder / "commands.jsonl", *options])
        self.fleet.wait_connected(controllers, 60)
        wait_for(lambda: all(self.owned(node) > 0 for node in self.nodes), 60, "every node has ranges", 0.2)

    @staticmethod
    def owned(node):
        return node.metrics()["cluster_driver_ranges_owned"]
