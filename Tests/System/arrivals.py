"""Watches the vendor app's database for when each controller's events are committed. Standard library only."""

import sqlite3
import threading
import time

EVERY = 0.1
# An event that takes longer from its controller to the database was held up.
LATE = 0.5
# A controller goes by the clock of its node. One that is off by more says nothing of when something happened.
CLOCK_ERROR = 3600


class Arrivals(threading.Thread):
    """Reads what is new, ten times a second, by its own connection to the database; less often where a reading takes long,
    so that it does not take the machine from those it watches.

    `since(at)` has the events seen since then; what is older than the last `forget()` is gone.
    """

    def __init__(self, path, serials):
        super().__init__(daemon=True)
        self._path = path
        self._at = {serial: (0, 0) for serial in serials}
        self._newest = dict.fromkeys(serials, 0.0)
        self._seen = []
        self._lock = threading.Lock()
        self._ends = threading.Event()

    def run(self):
        db, took = None, 0.0
        while not self._ends.wait(max(EVERY, 3 * took)):
            began = time.monotonic()
            try:
                db = db or self._open()
                self._read(db)
            except sqlite3.Error:
                # The vendor app is just being killed, or begins: what is there is read by the next one.
                if db:
                    db.close()
                db = None
            took = time.monotonic() - began

    def end(self):
        self._ends.set()
        self.join(10)

    def all_newer_than(self, at):
        """Whether of every controller an event is stored that happened after `at`."""
        with self._lock:
            return all(newest > at for newest in self._newest.values())

    def without(self, at):
        """Controllers of which no event is stored that happened after `at`."""
        with self._lock:
            return [serial for serial, newest in self._newest.items() if newest <= at]

    def forget(self):
        with self._lock:
            self._seen.clear()

    def held_up(self, since):
        """For each controller, seconds from `since` until the last of its events was committed that was held up; 0
        when none was."""
        times = dict.fromkeys(self._newest, 0.0)
        with self._lock:
            for seen, serial, happened in self._seen:
                if seen > since and seen - max(happened, since) > LATE:
                    times[serial] = max(times[serial], seen - since)
        return list(times.values())

    def _open(self):
        db = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=1, check_same_thread=False)
        db.execute("PRAGMA query_only = 1")
        return db

    def _read(self, db):
        for serial, at in self._at.items():
            rows = db.execute(
                "SELECT log_epoch, seq, occurred_at_ms FROM events WHERE serial = ? AND (log_epoch, seq) > (?, ?) "
                "ORDER BY log_epoch, seq", (serial, *at)).fetchall()
            if not rows:
                continue
            now = time.time()
            self._at[serial] = rows[-1][:2]
            happened = [row[2] / 1000 for row in rows]
            happened = [at if abs(now - at) < CLOCK_ERROR else now for at in happened]
            with self._lock:
                self._newest[serial] = max(self._newest[serial], happened[-1])
                self._seen += [(now, serial, at) for at in happened]
