"""Commands while everything breaks: published in Redis, put into the mailbox there, and given by clusterctl, each
written down."""

import json
import os
import random
import threading
import time

from harness import ROOT, command_json
from process import Failure
from resp import RedisError

SECONDS = 3.0


class Given:
    """A command. `heard`: how many nodes Redis says took it (1 when it was posted into the mailbox); None when nobody
    can say whether it was given. `status` is what clusterctl was told (clusterdriver.v1.CommandStatus)."""

    __slots__ = ("id", "serial", "door", "at", "heard", "status")

    def __init__(self, identity, serial, door, at, heard=None, status=None):
        self.id, self.serial, self.door, self.at = identity, serial, door, at
        self.heard, self.status = heard, status

    @property
    def not_after(self):
        return self.at + SECONDS

    def __repr__(self):
        told = f"told {self.status}" if self.door == "clusterctl" else f"heard by {self.heard}"
        return f"{self.door} command {self.id.hex()} for {self.serial} at {self.at:.3f} ({told})"


# Of clusterctl's exit codes, those that are results.
_STATUS = {0: 1, 1: 2, 3: 3, 4: 4, 6: 5}


_POST = (ROOT / "Docs/clients/mailbox_post.lua").read_text()
_KEYS = [f"{{cd:main}}:{key}" for key in ("mail", "letters", "marks", "ended")]


class Traffic:
    """Threads that give commands to random controllers until end(): so many a second by each way."""

    def __init__(self, cluster, seed, published=5.0, posted=5.0, sent=0.5):
        self.given = []
        self._cluster = cluster
        self._ends = threading.Event()
        ways = [("redis", self._publish, published), ("mailbox", self._post, posted),
                ("clusterctl", self._send, sent)]
        self._threads = [
            threading.Thread(target=give, args=(random.Random(f"{seed} {name}"), rate), daemon=True)
            for name, give, rate in ways if rate > 0
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

    def _post(self, chance, rate):
        while not self._ends.wait(chance.uniform(0.5, 1.5) / rate):
            given = Given(os.urandom(16), chance.choice(self._cluster.serials), "mailbox", time.time())
            self.given.append(given)
            command = command_json(seconds=SECONDS, identity=given.id)
            # As a vendor app is to do it: when the reply is lost, once more under the same id.
            while given.heard is None and time.time() < given.not_after:
                try:
                    self._cluster.redis.call("EVAL", _POST, len(_KEYS), *_KEYS, given.serial, given.id.hex(), command)
                    given.heard = 1
                except (OSError, RedisError):
                    self._ends.wait(0.1)

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
