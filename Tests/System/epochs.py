"""Watches, in Redis, under which epoch each serial is owned: the word of the store, not of any node. Standard library
only."""

import threading
import time

from resp import Connection, RedisError

EVERY = 0.05
RANGES = "{cd:main}:ranges"


class Epochs(threading.Thread):
    """Reads the ranges twenty times a second. What the store has forgotten (it was emptied) still counts here."""

    def __init__(self, redis, serials):
        super().__init__(daemon=True)
        self._redis = redis
        self._ranges = {}
        # Of each serial, when it was first seen under which highest epoch, and whose.
        self._rises = {serial: [(0.0, 0, None)] for serial in serials}
        self._ends = threading.Event()

    def run(self):
        connection = None
        while not self._ends.wait(EVERY):
            try:
                connection = connection or self._connect()
                self._look(connection, time.time())
            except (OSError, RedisError):
                # It is just being killed, or begins.
                if connection:
                    connection.close()
                connection = None
        if connection:
            connection.close()

    def end(self):
        self._ends.set()
        self.join(10)

    def replaced(self, serial, epoch, at):
        """Whether the serial was owned under a higher epoch before that time."""
        return any(seen < at and higher > epoch for seen, higher, _ in self._rises[serial])

    def owner(self, serial, epoch):
        """Who had the serial under that epoch; None when that was never seen."""
        return next((owner for _, each, owner in self._rises[serial] if each == epoch), None)

    def _connect(self):
        with self._redis.on_host():
            return Connection(self._redis.port, self._redis.address, seconds=1.0)

    def _look(self, connection, at):
        ranges = {}
        for line in connection.call("HVALS", RANGES):
            words = line.split()
            ranges[int(words[0]), int(words[1])] = int(words[2]), words[3].decode()
        for (first, last), (epoch, owner) in ranges.items():
            if self._ranges.get((first, last)) == (epoch, owner):
                continue
            for serial, rises in self._rises.items():
                if first <= serial <= last and epoch > rises[-1][1]:
                    rises.append((at, epoch, owner))
        self._ranges = ranges
