"""Ends the processes of a node again and again, by chance in how and when, and measures until all are served again."""

import collections
import os
import random
import signal
import time

from installed import Installed
from process import wait_for

KINDS = ("SIGKILL", "SIGABRT", "restart")


class Kills:
    """Of an Installed node with `controllers`, all served when it begins."""

    def __init__(self, node, controllers, seed):
        self.node, self.controllers = node, controllers
        self.chance = random.Random(seed)
        # Times in ms until all were served again, by what ended the process; where something came in between, how
        # many ends there were until then.
        self.gaps = collections.defaultdict(list)
        self.chains = collections.Counter()
        self.n = collections.Counter()
        # The last few: a process may get the number of one that was ended long ago.
        self.ended = collections.deque(maxlen=8)

    def run(self, times, say=lambda line: None):
        said = 0
        while (done := sum(self.n.values())) < times:
            if done >= said + 100:
                said = done
                say(f"{done} ends")
            # Half of them come when all are served, the others at any moment of the next start.
            kind, began, in_a_row = self._end(), time.monotonic(), 1
            while self.chance.random() < 0.5 and sum(self.n.values()) < times:
                time.sleep(self.chance.random() * 0.3)
                kind, began, in_a_row = self._end(), time.monotonic(), in_a_row + 1
            self._wait_served()
            if in_a_row == 1:
                self.gaps[kind].append((time.monotonic() - began) * 1000)
            self.chains[in_a_row] += 1
            time.sleep(self.chance.random() * 0.3)

    def _end(self):
        kind = self.chance.choice(KINDS)
        self.node.forgive()
        pids = self.node.pids()
        self.ended.extend(pids)
        if kind == "restart":
            self.node.ctl("restart", "--no-block")
        else:
            for pid in pids or [self.node.wait_process()]:
                try:
                    os.kill(pid, getattr(signal, kind))
                except ProcessLookupError:
                    pass
        self.n[kind] += 1
        return kind

    def _wait_served(self):
        """By a process that has begun since, and has had events committed."""
        def is_served():
            pids = self.node.pids()
            said = self.node.metrics() or {}
            return (len(pids) == 1 and pids[0] not in self.ended and pids == self.node.pids()
                    and said.get("cluster_driver_sessions") == self.controllers
                    and said.get("cluster_driver_events_committed_total", 0) > 0)

        wait_for(is_served, 60, "all are served again", 0.002)

    def table(self):
        lines = [f"{'':<10}{'ends':>6}{'alone':>7}{'p50':>8}{'p99':>8}{'max':>8}   ms until all are served again"]
        for kind in KINDS:
            gaps = sorted(self.gaps[kind])
            if gaps:
                p50, p99 = (gaps[min(len(gaps) - 1, int(len(gaps) * q))] for q in (0.5, 0.99))
                lines.append(f"{kind:<10}{self.n[kind]:>6}{len(gaps):>7}{p50:>8.0f}{p99:>8.0f}{gaps[-1]:>8.0f}")
        lines.append("ends in a row: " + ", ".join(f"{n}: {times}" for n, times in sorted(self.chains.items())))
        return "\n".join(lines)


class Large:
    """10,000 controllers on one node, and what an end of its process costs them and the service manager."""

    CONTROLLERS = 10_000
    # Those that are asked how long they waited: with so many events that the time between two counts little.
    PROBES, PROBE_RATE = 200, 50

    def __init__(self, lab, rounds, load):
        self.lab, self.rounds, self.load = lab, rounds, load

    def run(self):
        reports = []
        for kind in ("restart", "SIGKILL"):
            reports += self._of(kind)
        return reports

    def _of(self, kind):
        redis, vendor = self.lab.redis(), self.lab.vendor(db="memory:")
        # Acknowledged at once, or the wait for more events would be most of what is measured.
        with Installed(self.lab, redis.url, vendor, settings="CLUSTER_DRIVER_T2=5ms", name=kind.lower()) as node:
            before = wait_for(node.metrics, 20, "it serves")["process_resident_memory_bytes"]
            others = (self.CONTROLLERS - self.PROBES) // 2
            # The probes are neither the first nor the last to come.
            fleets = [self._fleet(node, vendor, n, rate, first) for n, rate, first in (
                (others, 0.2, 100_000), (self.PROBES, self.PROBE_RATE, 200_000), (others, 0.2, 300_000))]
            wait_for(lambda: node.has(self.CONTROLLERS), 60, "all are parked")
            print(f"{kind}, {self.CONTROLLERS} controllers; {node.show('NFileDescriptorStore')} descriptors kept; memory "
                  f"{before / 2**20:.1f} MiB, and {self._more(node, before)} bytes for each controller; {self.load()}")
            for _ in range(self.rounds):
                self._round(node, kind)
                time.sleep(3)  # the probes' events flow again, as long as they did before the first round
            print(f"  memory after the last: {self._more(node, before)} bytes more for each controller")
            reports = [fleet.end(120) for fleet in fleets]
            print(f"  gap of {self.PROBES} controllers, {self.rounds} times: {reports[1]['gap_ms']}; {self.load()}", flush=True)
            return reports

    def _more(self, node, before):
        return f"{(node.metrics()['process_resident_memory_bytes'] - before) / self.CONTROLLERS:.0f}"

    def _round(self, node, kind):
        # What is measured is one death, not what a node does that keeps dying.
        node.forgive()
        main, pids, cpu, began = node.show("MainPID"), node.pids(), node.system.cpu_ms(), time.monotonic()
        if kind == "restart":
            node.ctl("restart", "--no-block")
        else:
            os.kill(*pids, signal.SIGKILL)
        wait_for(lambda: (now := node.pids()) and now != pids and node.has(self.CONTROLLERS), 60, "all are served", 0.1)
        took, cpu = (time.monotonic() - began) * 1000, node.system.cpu_ms() - cpu
        assert node.show("MainPID") != main
        print(f"  all parked again after {took:.0f} ms; {cpu:.1f} ms of PID 1; {self.load()}", flush=True)

    def _fleet(self, node, vendor, controllers, rate, first):
        fleet = self.lab.fleet(node, controllers, rate, "10h", vendor=vendor, first_serial=first,
                               options=["--drain", "60s"])
        fleet.wait_connected(controllers, 60)
        return fleet
