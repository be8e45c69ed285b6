"""What a cluster does, seen from outside: whose ranges are whose, who leads, who is served. Standard library only."""

import collections

from process import Failure

Range = collections.namedtuple("Range", "first last owner")


class Watch:
    """Looks at Redis, and at what nodes that live say. `names` has each node's --node-id, in the nodes' order."""

    def __init__(self, redis, nodes, names, serials):
        self.redis = redis
        self.nodes = dict(zip(names, nodes))
        # First and last serial of the controllers there are.
        self.serials = serials
        self.ranges = []
        self.leader = None

    @property
    def living(self):
        return [node for node in self.nodes.values() if node.process.is_running]

    def look(self):
        """Reads ranges and leader; returns what has changed hands: {(from, to): [range]}."""
        before = self.ranges
        words = [value.decode().split() for value in self.redis.call("HVALS", "{cd:main}:ranges")]
        self.ranges = sorted(Range(int(w[0]), int(w[1]), w[3]) for w in words)
        leader = self.redis.call("HGET", "{cd:main}:state", "leader")
        self.leader = leader.decode().split()[0] if leader else None
        moved = collections.defaultdict(list)
        for range_ in self.ranges:
            former = next((r.owner for r in before if r.first <= range_.first <= r.last), range_.owner)
            if former != range_.owner:
                moved[former, range_.owner].append(range_)
        return moved

    def counts(self):
        """How many ranges each node has, in the nodes' order."""
        owners = collections.Counter(range_.owner for range_ in self.ranges)
        return [owners[name] for name in self.nodes]

    def controllers(self, ranges):
        """How many controllers are in them."""
        first, last = self.serials
        return sum(max(0, min(r.last, last) - max(r.first, first) + 1) for r in ranges)

    def total(self, metric):
        """Sum over the living nodes, by their own word; None while one does not answer."""
        try:
            return sum(int(node.metrics()[f"cluster_driver_{metric}"]) for node in self.living)
        except (OSError, Failure, KeyError):
            return None

    def is_acted_for(self):
        """Whether every range is a living node's, by Redis' word and by the nodes'."""
        living = {name for name, node in self.nodes.items() if node.process.is_running}
        return (bool(self.ranges) and all(r.owner in living for r in self.ranges)
                and self.total("ranges_owned") == len(self.ranges))

    def is_served(self):
        """Whether every controller is connected, and served by the node that acts for it."""
        first, last = self.serials
        return self.total("sessions") == last - first + 1
