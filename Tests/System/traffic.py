"""Commands while everything breaks: published in Redis and given by clusterctl, each written down."""

import json
import os
import random
import threading
import time

from harness import command_json
from process import Failure
from resp import RedisError

SECONDS = 3.0


class Given:
    """A command. `heard`: how many nodes Redis says took it; None when nobody can say whether it was given.
    `status` is what clusterctl was told (clusterdriver.v1.CommandStatus)."""

    __slots__ = ("id", "serial", "door", "at", "heard", "status")

    def __init__(self, identity, serial, door, at, heard=None, status=None):
        self.id, self.serial, self.door, self.at = identity, serial, door, at
        self.heard, self.status = heard, status

    @property
    def not_after(self):
        return self.at + SECONDS

    def __repr__(self):
        told = f"heard by {self.heard}" if self.door == "redis" else f"told {self.status}"
        return f"{self.door} command {self.id.hex()} for {self.serial} at {self.at:.3f} ({told})"


# Of clusterctl's exit codes, those that are results.
_STATUS = {0: 1, 1: 2, 3: 3, 4: 4, 6: 5}


class Traffic:
    """Two threads that give commands to random controllers until end()."""

    def __init__(self, cluster, seed, published=5.0, sent=0.5):
        self.given = []
        self._cluster = cluster
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=self._publish, args=(random.Random(f"{seed} redis"), published), daemon=True),
            threading.Thread(target=self._send, args=(random.Random(f"{seed} clusterctl"), sent), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def end(self):
        self._ends.set()
        for thread in self._threads:
            thread.join(30)

    def _publish(self, chance, rate):
        while not self._ends.wait(chance.uniform(0.5, 1.5) / rate):
            given = Given(os.urandom(16), chance.choice(self._cluster.serials), "redis", time.time())
            self.given.append(given)
            try:
                given.heard = self._cluster.redis.publish(
                    given.serial, command_json(seconds=SECONDS, identity=given.id))
            except (OSError, RedisError):
                # It may have been published all the same.
                pass

    def _send(self, chance, rate):
        while not self._ends.wait(chance.uniform(0.5, 1.5) / rate):
            node = chance.choice(self._cluster.nodes)
            given = Given(os.urandom(16), chance.choice(self._cluster.serials), "clusterctl", time.time())
            self.given.append(given)
            try:
                code, out, _ = self._cluster.lab.run(
                    "clusterctl", "send", given.serial, "unlock", "--admin", node.admin, "--door", 1,
                    "--within", f"{SECONDS:g}s", "--id", given.id.hex(), "-f", "json", seconds=60)
            except Failure:
                continue
            # 1 and 4 without a result on standard output are clusterctl's own.
            if code in _STATUS and out.strip().startswith(("{", "[")):
                given.status = _STATUS[code]


def executed(path):
    """What the controllers carried out: {id: [line of the fleet's log of commands, …]}."""
    lines = {}
    with open(path, encoding="ascii") as log:
        for line in map(json.loads, log):
            lines.setdefault(bytes.fromhex(line["id"]), []).append(line)
    return lines
