"""What can be done to a cluster on hosts of its own, by name."""

import signal

# What hinders the vendor app keeps everybody from being served: how soon is counted from the fault's end.
HINDERS_ALL = {"vendor.kill", "vendor.pause", "balancer.kill", "balancer.pause"}
# With these a command may be gone before anybody has its result: it was in the memory of a process that was killed,
# or on a line that broke.
LOSES_COMMANDS = {
    "node.kill", "redis.kill", "redis.failover", "redis.split", "node.cut", "node.mute", "node.deaf", "node.cut-redis",
}
# With these a node may hold what is another's to carry out, and cannot pass it on before they are over.
KEEPS_APART = {"node.cut", "node.mute", "node.deaf", "node.cut-peers"}
# What was sent before one of these may arrive long after it.
DELAYS = {"node.cut", "node.mute", "node.deaf", "node.cut-redis", "node.cut-vendor", "node.cut-peers", "node.cut-balancer"}
# What was to pass through one of these goes on when it does.
STALLS = {"node.pause", "node.stall", "balancer.pause"}
# With which all is lost that Redis held, or some of it.
EMPTIES_REDIS = {"redis.kill", "redis.flush", "redis.failover", "redis.split"}


class Fault:
    """begin() it, and end() it `seconds` later. Both are called by the thread that made the cluster."""

    def __init__(self, kind, target, seconds, begin, end):
        self.kind, self.target, self.seconds = kind, target, seconds
        self.begin, self._end = begin, end

    def end(self):
        if self._end:
            self._end()

    def __str__(self):
        return f"{self.kind} {self.target} {self.seconds:.1f} s" if self.seconds else f"{self.kind} {self.target}"


def _node(cluster, chance):
    return chance.choice(cluster.nodes)


def _process(begin, end, shortest, longest, part=_node):
    """Something done to a process, by two methods of its part's."""
    def make(kind, cluster, chance):
        target = part(cluster, chance)
        return Fault(kind, target.name, chance.uniform(shortest, longest), getattr(target, begin),
                     getattr(target, end))
    return make


def _cut(of=lambda cluster, node: None, **ways):
    def make(kind, cluster, chance):
        node = _node(cluster, chance)
        hosts = cluster.lab.hosts
        peers = of(cluster, node)
        cuts = []
        return Fault(
            kind, node.name, chance.uniform(0.5, 10),
            lambda: cuts.append(cluster.lab.network.cut(
                hosts[node.name], peers and [hosts[peer] for peer in peers], **ways)),
            lambda: cuts.pop().heal())
    return make


def _stop(kind, cluster, chance):
    """Is told to end, and begun again when it has: other faults of the step go on meanwhile."""
    node = _node(cluster, chance)

    def begin_again():
        # Told once: a second signal ends a node at once.
        code = node.process.wait(20)
        if code != 0:
            raise node.process.failure(f"exit code {code} when it was told to end")
        node.start()

    return Fault(kind, node.name, chance.uniform(0, 4),
                 lambda: node.process.popen.send_signal(signal.SIGTERM), begin_again)


def _clock(kind, cluster, chance):
    """The time of day of a host jumps, as when somebody sets it, and back again."""
    target = chance.choice([*cluster.nodes, cluster.vendor])
    days = chance.choice((-1, 1))
    clock = cluster.lab.clocks[target.name]
    return Fault(kind, f"{target.name} by {days:+} d", chance.uniform(0.5, 8),
                 lambda: clock.set(days * 86400), lambda: clock.set(0))


def _flush(kind, cluster, chance):
    return Fault(kind, "redis", 0, lambda: cluster.redis.call("FLUSHALL"), None)


def _redis(cluster, chance):
    return cluster.redis


def _vendor(cluster, chance):
    return cluster.vendor


def _balancer(cluster, chance):
    return chance.choice(cluster.balancers)


KINDS = {
    "node.kill": _process("kill", "start", 0, 8),
    "node.stop": _stop,
    "node.pause": _process("pause", "resume", 0.3, 10),
    # Longer than a lease, and shorter than its controllers wait: they hear what it does when it goes on.
    "node.stall": _process("pause", "resume", 1.8, 2.9),
    "node.cut": _cut(),
    "node.mute": _cut(hears=False),
    "node.deaf": _cut(sends=False),
    "node.cut-redis": _cut(lambda cluster, node: cluster.redis.hosts()),
    "node.cut-vendor": _cut(lambda cluster, node: ["vendor"]),
    "node.cut-peers": _cut(lambda cluster, node: [other.name for other in cluster.nodes if other is not node]),
    "node.cut-balancer": _cut(lambda cluster, node: [balancer.name for balancer in cluster.balancers]),
    # It keeps nothing on disk: it comes back empty.
    "redis.kill": _process("kill", "start", 0, 5, _redis),
    "redis.pause": _process("pause", "resume", 0.3, 5, _redis),
    "redis.flush": _flush,
    # With sentinels only. Both end when the former master has become a replica.
    "redis.failover": _process("kill", "start", 0, 5, _redis),
    "redis.split": _process("pause", "resume", 3, 8, _redis),
    "vendor.kill": _process("kill", "start", 0, 5, _vendor),
    "vendor.pause": _process("pause", "resume", 0.3, 5, _vendor),
    "balancer.kill": _process("kill", "start", 0, 3, _balancer),
    "balancer.pause": _process("pause", "resume", 0.3, 5, _balancer),
}


# Of hosts whose clocks can be set.
CLOCKS = {"host.clock": _clock}
# Of one server, and of a master with a replica.
ALONE, REPLICATED = {"redis.kill", "redis.pause"}, {"redis.failover", "redis.split"}


def kinds(sentinels=False, clocks=False):
    """What can be done to such a cluster."""
    return sorted(set(KINDS) - (ALONE if sentinels else REPLICATED) | set(CLOCKS if clocks else ()))


def choose(cluster, chance, kinds, pairs=0.35):
    """Endless: one fault, or two of different parts at once. Every kind comes before one comes again."""
    while True:
        bag = chance.sample(sorted(kinds), len(kinds))
        while bag:
            faults = [_make(bag.pop(), cluster, chance)]
            if bag and chance.random() < pairs:
                second = _make(bag.pop(), cluster, chance)
                if second.target != faults[0].target:
                    faults.append(second)
            yield faults


def _make(kind, cluster, chance):
    return {**KINDS, **CLOCKS}[kind](kind, cluster, chance)
