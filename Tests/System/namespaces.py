"""Hosts on one machine: network namespaces on one bridge, and links that are cut. Standard library only.

    with Network() as network:
        a, b = network.host("a"), network.host("b")
        with network.cut(a, b):            # neither hears the other
            ...

Everything is in namespaces named cdPID-…, PID the process that made them: nothing of the machine's own network is
touched. A namespace whose maker is gone is removed, with what runs in it, by the next Network. Needs root.
"""

import collections
import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess

NETWORK = "10.111.0"
CLONE_NEWNET = 0x40000000
SECONDS = 10
# As Docs/OPERATING.md has it. Without the ports a thousand connections that end each second use up those to one address,
# and then connect() takes milliseconds.
SETTINGS = {"net/core/somaxconn": "16384", "net/ipv4/ip_local_port_range": "10240 65535", "net/ipv4/tcp_tw_reuse": "1"}
_NAMES = pathlib.Path("/run/netns")
_OURS = re.compile(r"cd(\d+)-[a-z0-9-]+")
_libc = ctypes.CDLL(None, use_errno=True)

# On the bridge, so that a packet is lost between hosts as on a wire: no sender is told. By the pair of addresses; what
# resolves them to links (ARP) passes, as it does in a host that has been there for a while.
_RULES = """
table bridge cuts {
  set pairs { type ipv4_addr . ipv4_addr; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @pairs drop
  }
}
"""


def why_not():
    """Why this machine cannot have such hosts, or None."""
    if os.geteuid() != 0:
        return "hosts are network namespaces, and these need root"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"no {program} on PATH: install {package} (scripts/setup test does)"
    try:
        with Network() as network:
            a, b = network.host("a"), network.host("b")
            network.cut(a, b).heal()
    except NetworkFailure as failure:
        return f"this kernel does not do what hosts need: {failure}"
    return None


class NetworkFailure(Exception):
    """A command of iproute2 or nftables failed; the message has both."""


def _run(*words, text=None):
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkFailure(f"{' '.join(words)}: {error}") from None
    if done.returncode != 0:
        raise NetworkFailure(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _remove(namespace):
    """Ends what runs in a namespace, then removes it. One that is gone is fine."""
    if not (_NAMES / namespace).exists():
        return
    for pid in _run("ip", "netns", "pids", namespace).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _run("ip", "netns", "delete", namespace)


def sweep():
    """Removes the namespaces that processes which are gone have left."""
    for path in sorted(_NAMES.glob("cd*")) if _NAMES.is_dir() else []:
        ours = _OURS.fullmatch(path.name)
        if ours and not pathlib.Path(f"/proc/{ours[1]}").exists():
            _remove(path.name)


class Host:
    """A namespace with one address. Its loopback is its own, Unix sockets by path are everybody's."""

    def __init__(self, network, name, number):
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self.namespace = f"{network.prefix}-{name}"
        # A program is started in it by putting this before its words; the process id stays the program's.
        self.prefix = ["ip", "netns", "exec", self.namespace]
        _run("ip", "netns", "add", self.namespace)
        network.namespaces.append(self.namespace)
        _run("ip", "-n", network.bridge, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0",
             "netns", self.namespace)
        _run("ip", "-n", network.bridge, "link", "set", f"to-{name}", "master", "bridge", "up")
        _run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        _run("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        with self.inside():
            for name, value in SETTINGS.items():
                pathlib.Path("/proc/sys", name).write_text(value)

    def __repr__(self):
        return self.name

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread makes meanwhile are the host's, and stay it."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(_NAMES / self.namespace, "rb") as there:
            _enter(there)
            try:
                yield
            finally:
                _enter(home)


def _enter(namespace):
    if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise NetworkFailure(f"setns: {os.strerror(ctypes.get_errno())}")


class Cut:
    """Directions in which no packet passes, until heal()."""

    def __init__(self, network, pairs):
        self._network = network
        self._pairs = pairs
        network._lose(pairs)

    def heal(self):
        pairs, self._pairs = self._pairs, []
        self._network._pass(pairs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.heal()


class Network:
    """A bridge and its hosts, at most 250. One at a time in a process."""

    def __init__(self):
        sweep()
        self.prefix = f"cd{os.getpid()}"
        self.bridge = f"{self.prefix}-net"
        self.namespaces = []
        self.hosts = []
        self._lost = collections.Counter()
        try:
            _run("ip", "netns", "add", self.bridge)
            self.namespaces.append(self.bridge)
            _run("ip", "-n", self.bridge, "link", "add", "bridge", "type", "bridge")
            _run("ip", "-n", self.bridge, "link", "set", "bridge", "up")
            _run("ip", "netns", "exec", self.bridge, "nft", "-f", "-", text=_RULES)
        except NetworkFailure:
            self.close()
            raise

    def host(self, name):
        """A new host; `name` has at most 10 letters, digits and dashes."""
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def cut(self, host, peers=None, sends=True, hears=True):
        """Cuts a host off from `peers` (a host, several, or all): what it `sends` is lost, what it `hears` is, or
        both. Cuts add up; each is healed by itself."""
        if peers is None:
            peers = [other for other in self.hosts if other is not host]
        elif isinstance(peers, Host):
            peers = [peers]
        pairs = [(host.address, peer.address) for peer in peers if sends]
        pairs += [(peer.address, host.address) for peer in peers if hears]
        return Cut(self, pairs)

    def close(self):
        for namespace in reversed(self.namespaces):
            _remove(namespace)
        self.namespaces.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _lose(self, pairs):
        self._change("add", [pair for pair in pairs if self._lost[pair] == 0])
        self._lost.update(pairs)

    def _pass(self, pairs):
        self._lost.subtract(pairs)
        self._change("delete", [pair for pair in pairs if self._lost[pair] == 0])

    def _change(self, what, pairs):
        if pairs:
            elements = ", ".join(f"{source} . {target}" for source, target in pairs)
            _run("ip", "netns", "exec", self.bridge, "nft", what, "element", "bridge", "cuts", "pairs",
                 f"{{ {elements} }}")
