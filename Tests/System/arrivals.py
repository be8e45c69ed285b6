"""Watches the vendor app's database for when each controller's events are committed. Standard library only."""

import sqlite3
import threading
import time

EVERY = 0.1
# An event that takes longer from its controller to the database was held up. It is there at the latest when it is read,
# and was not at the reading before.
LATE = 0.5
# A controller goes by the clock of its node. One that is off by more says nothing of when something happened.
CLOCK_ERROR = 3600

# A comparison of (log_epoch, seq) with another table's would read the whole log.
NEW = """
    SELECT e.serial, e.log_epoch, e.seq, e.occurred_at_ms FROM read_to AS r CROSS JOIN events AS e
    ON e.serial = r.serial AND e.log_epoch = r.log_epoch AND e.seq > r.seq
    UNION ALL
    SELECT e.serial, e.log_epoch, e.seq, e.occurred_at_ms FROM read_to AS r CROSS JOIN events AS e
    ON e.serial = r.serial AND e.log_epoch > r.log_epoch
    ORDER BY 1, 2, 3"""


class Arrivals(threading.Thread):
    """Reads what is new, ten times a second, by its own connection to the database; less often where a reading takes long,
    so that it does not take the machine from those it watches.

    `since(at)` has the events seen since then; what is older than the last `forget()` is gone.
    """

    def __init__(self, path, serials):
        super().__init__(daemon=True)
        self._path = path
        self._at = {serial: (0, 0) for serial in serials}
        self._missing_at = time.time()
        self._failed = False
        self.longest = 0.0  # from one reading's begin to the next one's end: what is told is exact to that
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
                self._failed = True
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
            for missing, seen, serial, happened in self._seen:
                if seen > since and missing - max(happened, since) > LATE:
                    times[serial] = max(times[serial], seen - since)
        return list(times.values())

    def _open(self):
        """What has been read is kept in a table of this connection: of thousands of controllers one statement finds what
        is new in a tenth of the time."""
        db = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=1, check_same_thread=False,
                             isolation_level=None)
        db.execute("CREATE TEMP TABLE read_to (serial INTEGER PRIMARY KEY, log_epoch INTEGER, seq INTEGER)")
        db.executemany("INSERT INTO read_to VALUES (?, ?, ?)", ((serial, *at) for serial, at in self._at.items()))
        return db

    def _read(self, db):
        began = time.time()
        rows = db.execute(NEW).fetchall()
        now = time.time()
        if not self._failed:
            self.longest = max(self.longest, now - self._missing_at)
        self._failed = False
        news = {}
        with self._lock:
            for serial, log_epoch, seq, occurred_at_ms in rows:
                at = occurred_at_ms / 1000
                at = at if abs(now - at) < CLOCK_ERROR else now
                news[serial] = (log_epoch, seq)
                self._newest[serial] = max(self._newest[serial], at)
                self._seen.append((self._missing_at, now, serial, at))
        self._missing_at = began
        self._at.update(news)
        db.execute("BEGIN")
        db.executemany("UPDATE read_to SET log_epoch = ?, seq = ? WHERE serial = ?",
                       ((*at, serial) for serial, at in news.items()))
        db.execute("COMMIT")
