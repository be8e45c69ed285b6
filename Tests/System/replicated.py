"""A master with a replica, and three sentinels over them, on hosts of their own: Redis as a cluster has it in operation."""

import shutil

from harness import Part, Redis
from process import Failure, wait_for
from resp import Connection, RedisError

SENTINELS = 3
QUORUM = 2
SENTINEL_PORT = 26379
MASTER = "doors"
# Below a session's TTL nothing would be gained: who is master is found out over again.
DOWN_AFTER_MS = 1000
FAILOVER_TIMEOUT_MS = 5000
# As Docs/OPERATING.md says: one that is cut off from its replica takes no heartbeats.
OPTIONS = ["--min-replicas-to-write", 1, "--min-replicas-max-lag", 1, "--repl-diskless-sync-delay", 0,
           "--repl-backlog-ttl", 0]


class Sentinel(Part):
    def __init__(self, lab, name, master):
        super().__init__(lab, name)
        config = lab.folder / f"{name}.conf"
        config.write_text("\n".join([
            f"port {SENTINEL_PORT}", f"bind {self.address}", f"dir {lab.folder}", "protected-mode no",
            f"sentinel monitor {MASTER} {master.address} {master.port} {QUORUM}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}", ""]))
        self._start([shutil.which("redis-server"), config, "--sentinel"])
        wait_for(lambda: self._knows_all(others=0), 10, f"{name} answers")

    def call(self, *words):
        with self.on_host(), Connection(SENTINEL_PORT, self.address, seconds=1.0) as connection:
            return connection.call(*words)

    def master(self):
        """(address, port)"""
        host, port = self.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return host.decode(), int(port)

    def knows_all(self):
        return self._knows_all(SENTINELS - 1)

    def _knows_all(self, others):
        try:
            words = self.call("SENTINEL", "MASTER", MASTER)
        except (OSError, RedisError):
            return False
        known = dict(zip(words[::2], words[1::2]))
        return int(known[b"num-other-sentinels"]) >= others and (others == 0 or int(known[b"num-slaves"]) >= 1)


class ReplicatedRedis:
    """What a cluster needs of `harness.Redis`; `kill` and `pause` are the master's. Call everything from the thread that
    made it, but for `call` and `publish`."""

    name = "redis"

    def __init__(self, lab):
        self.servers = [Redis(lab, "redis-1", OPTIONS)]
        self.servers.append(Redis(lab, "redis-2", [*OPTIONS, *_replica_of(self.servers[0])]))
        wait_for(lambda: b"state=online" in self.servers[0].call("INFO", "replication"), 10, "the replica is in step")
        self.sentinels = [Sentinel(lab, f"sentinel-{i + 1}", self.servers[0]) for i in range(SENTINELS)]
        wait_for(lambda: all(one.knows_all() for one in self.sentinels), 20, "the sentinels know each other")
        self._down = None

    @staticmethod
    def hosts():
        return ["redis-1", "redis-2", *(f"sentinel-{i + 1}" for i in range(SENTINELS))]

    @property
    def url(self):
        return f"redis+sentinel://{','.join(f'{one.address}:{SENTINEL_PORT}' for one in self.sentinels)}/{MASTER}"

    @property
    def process(self):
        """Of a server or sentinel that has ended without having been told to; else the first server's."""
        for part in (*self.servers, *self.sentinels):
            if part is not self._down and not part.process.is_running:
                return part.process
        return self.servers[0].process

    @property
    def master(self):
        """By the word of the first sentinel that answers."""
        for sentinel in self.sentinels:
            try:
                at = sentinel.master()
            except (OSError, RedisError):
                continue
            return next(server for server in self.servers if (server.address, server.port) == at)
        raise OSError("no sentinel answers")

    @property
    def address(self):
        return self.master.address

    @property
    def port(self):
        return self.master.port

    def on_host(self):
        return self.servers[0].on_host()

    def call(self, *words):
        return self.master.call(*words)

    def publish(self, serial, command):
        return self.call("PUBLISH", serial, command)

    def kill(self):
        self._down = self.master
        self._down.kill()

    def pause(self):
        self._down = self.master
        self._down.pause()

    def start(self):
        """The server that was killed comes back, as a replica."""
        if self._down is None:
            raise Failure("no server of Redis was killed")
        self._await_another()
        self._down.options = [*OPTIONS, *_replica_of(self.master)]
        self._down.start()
        self._await_replica()

    def resume(self):
        """The server that was paused goes on, as a master, until the sentinels tell it otherwise."""
        self._down.resume()
        self._await_replica()

    def _await_another(self):
        wait_for(lambda: self.master is not self._down, 30, "the sentinels have promoted the replica", 0.1)

    def _await_replica(self):
        # So that the next failover finds one.
        wait_for(self._has_replica, 60, "the master has its replica again", 0.1)
        self._down = None

    def _has_replica(self):
        try:
            return b"state=online" in self.master.call("INFO", "replication")
        except (OSError, RedisError):
            return False


def _replica_of(master):
    return ["--replicaof", f"{master.address} {master.port}"]
