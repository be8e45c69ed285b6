"""Clusters of cluster-holder processes, and what their journals show when they are put together."""

import bisect
import signal
import time

from harness import Part, binary
from process import Failure, wait_for

LOWEST, HIGHEST = 1, 2**64 - 2


def now():
    """ns on the clock that the journals are written by."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def memory(cuts):
    """What makes a leader that meets an empty Redis cut all serials in `cuts` ranges: it cuts where the epochs
    that it remembers differ."""
    width = HIGHEST // cuts
    floors = "".join(f"floor {LOWEST + i * width} {1 + i % 2}\n" for i in range(cuts))
    return f"cluster-driver memory 1\nincarnation 1\nlist 0\n{floors}end\n"


class Right:
    """A process may act for serials first ... last under an epoch, from `begin` until `end`."""

    __slots__ = ("life", "first", "last", "epoch", "begin", "end")

    def __init__(self, life, first, last, epoch, begin, end):
        self.life, self.first, self.last, self.epoch = life, first, last, epoch
        self.begin, self.end = begin, end

    def __repr__(self):
        return (f"{self.life} {self.first}-{self.last}@{self.epoch} "
                f"{self.begin / 1e6:.3f}...{self.end / 1e6:.3f} ms")


class Holder(Part):
    """A holder. Every life of it has a journal of its own; `lives` has (journal, when it was killed)."""

    def __init__(self, lab, name, redis, cuts, options=()):
        super().__init__(lab, name)
        self.redis = redis
        self.options = list(options)
        self.state = lab.folder / f"{name}.state"
        self.state.write_text(memory(cuts))
        self.lives = []
        self.start()

    def start(self):
        journal = self.lab.folder / f"{self.name}.{len(self.lives) + 1}.journal"
        self.lives.append([journal, None])
        self._start([
            binary("cluster-holder"), "--node-id", self.name, "--redis", self.redis.url, "--journal", journal,
            "--state-file", self.state, "--no-cuts", *self.options,
        ])

    def kill(self):
        """Returns when it was told, and notes when it was gone."""
        told = now()
        super().kill()
        self.lives[-1][1] = now()
        return told

    def pause(self):
        told = now()
        super().pause()
        return told

    def end(self):
        """Asks it to give back what it has, and to end."""
        code = self.stop()
        self.lives[-1][1] = now()
        if code != 0:
            raise self.process.failure(f"exit code {code}")

    def rights(self):
        """Everything it ever might act for, of all its lives."""
        return [right for life in range(len(self.lives)) for right in self._rights(life)]

    def present(self):
        """What it acts for at this instant: {first: last}."""
        at = now()
        return {r.first: r.last for r in self._rights(len(self.lives) - 1) if r.end > at}

    def renewed_at(self):
        """When it last moved its deadline."""
        with open(self.lives[-1][0], "rb") as journal:
            journal.seek(0, 2)
            journal.seek(max(0, journal.tell() - 200))
            lines = [line for line in journal.read().split(b"\n")[1:-1] if b" acts " in line]
        return int(lines[-1].split()[0]) if lines else 0

    def _rights(self, life):
        path, killed = self.lives[life]
        label = f"{self.name}/{life + 1}"
        rights, present, until = [], {}, 0
        try:
            text = path.read_text()
        except FileNotFoundError:
            return []
        for line in text[:text.rfind("\n") + 1].splitlines():
            words = line.split()
            if words[1] != "acts":
                continue
            at, end = int(words[0]), int(words[2])
            if at >= until:
                # All of it had run out; what is still there begins anew.
                for first, right in present.items():
                    present[first] = Right(label, first, right.last, right.epoch, at, end)
                rights += present.values()
            for word in words[3:]:
                if word[0] == "-":
                    gone = present.pop(int(word[1:]))
                    gone.end = min(gone.end, at)
                else:
                    serials, epoch = word[1:].split("@")
                    first, last = map(int, serials.split("-"))
                    present[first] = Right(label, first, last, int(epoch), at, end)
                    rights.append(present[first])
            for right in present.values():
                right.end = end
            until = end
        if killed is not None:
            for right in rights:
                right.end = min(right.end, killed)
        return [right for right in rights if right.end > right.begin]


class Holders:
    """Redis and some holders of one cluster."""

    def __init__(self, lab, n, cuts, name="", options=()):
        self.redis = lab.redis(name=f"redis{name}")
        self.cuts = cuts
        self.holders = [Holder(lab, f"node{name}-{i}", self.redis, cuts, options) for i in range(n)]

    def is_served(self):
        """Whether every serial is acted for, by whomever, at this instant."""
        pieces = sorted(piece for holder in self.holders for piece in holder.present().items())
        after = LOWEST
        for first, last in pieces:
            if first != after:
                return False
            after = last + 1
        return after == HIGHEST + 1

    def is_balanced(self):
        # The planner leaves alone what is within a tenth of a share.
        counts = [len(holder.present()) for holder in self.holders]
        share = self.cuts / len(counts)
        return sum(counts) == self.cuts and max(counts) <= max(share * 1.1, share + 1)

    def is_known(self):
        """Whether each holder has met the Redis that is there now, and the others have seen so.

        Before that a holder may act by what a former Redis has said, and whoever ends then is no single fault.
        """
        words = self.redis.call("HGETALL", "{cd:main}:state")
        state = dict(zip(map(bytes.decode, words[::2]), map(bytes.decode, words[1::2])))
        number = state.get("list", "0").split()[0]
        sessions = [state.get(f"s:{holder.name}", "").split() for holder in self.holders]
        return (all(len(s) > 4 and s[2] == "0" and s[-3] == number for s in sessions)
                and len({s[-2] for s in sessions}) == 1 and sessions[0][-2] != "~")

    def wait_settled(self, seconds=20.0):
        """Every serial is acted for, by each holder its share, and each knows of each."""
        wait_for(lambda: self.is_served() and self.is_balanced() and self.is_known(), seconds, every=0.05,
                 what="every serial is acted for, by each holder its share, and each knows the members")
        # Two heartbeats more of each: what is in Redis has then been seen, and everybody's session to change,
        # without which nobody is promised anything.
        for _ in range(2):
            at = now()
            wait_for(lambda: all(h.renewed_at() > at for h in self.holders), 5, every=0.02,
                     what="each holder has renewed its lease since")

    def rights(self):
        return [right for holder in self.holders for right in holder.rights()]

    def served_again(self, victim, at, rights):
        """ns from `at` on until each of the ranges the victim then acted for was acted for again, by another
        life than the one that was."""
        life = f"{victim.name}/{len(victim.lives)}"
        times = []
        for lost in (r for r in rights if r.life == life and r.begin <= at < r.end):
            next_ = [r.begin for r in rights
                     if r.life != life and r.first == lost.first and r.begin >= at]
            if not next_:
                raise Failure(f"nobody has acted for {lost} since")
            times.append(min(next_) - at)
        return times


def check(rights):
    """No two processes may ever act for a serial at once, and epochs grow with every change of owner."""
    # By first serial, then by time: ranges are not cut in these tests.
    by_first = {}
    for right in rights:
        by_first.setdefault(right.first, []).append(right)
    for piece in by_first.values():
        piece.sort(key=lambda r: r.begin)
        for before, after in zip(piece, piece[1:]):
            if after.begin < before.end and after.life != before.life:
                raise Failure(f"two act at once: {before} and {after}")
            if after.epoch < before.epoch or (after.epoch == before.epoch and after.life != before.life):
                raise Failure(f"the epoch did not grow: {before}, then {after}")


def distribution(nanoseconds):
    """n, p50, p99 and max, in ms."""
    if not nanoseconds:
        return "never"
    ms = sorted(value / 1e6 for value in nanoseconds)
    p99 = ms[min(len(ms) - 1, int(len(ms) * 0.99))]
    return f"{len(ms)} times, p50 {ms[len(ms) // 2]:.0f} ms, p99 {p99:.0f} ms, max {ms[-1]:.0f} ms"


def gaps(rights, begin, end):
    """For each range, the ns in begin ... end during which nobody might act for it."""
    found = []
    by_first = {}
    for right in rights:
        by_first.setdefault(right.first, []).append(right)
    for piece in by_first.values():
        piece.sort(key=lambda r: r.begin)
        at = begin
        for right in piece:
            if right.begin > at and at < end:
                gap = min(right.begin, end) - at
                if gap > 0:
                    found.append(gap)
            at = max(at, right.end)
        if at < end:
            found.append(end - at)
    return found
