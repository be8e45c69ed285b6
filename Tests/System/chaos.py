"""Breaks a cluster on purpose, by a seed, and finds out whether it kept its promises."""

import json
import random
import signal
import sqlite3
import subprocess
import time

import checker
import faults
from arrivals import Arrivals
from epochs import Epochs
from harness import ROOT
from process import Failure, wait_for
from traffic import Traffic

# After a fault has ended; a controller's patience, its back-off and what Linux waits with sending again are in it.
RECOVERY_SECONDS = 60
# For a command from the node to the controller, on a machine that does a lot else; a new owner comes no sooner after
# the old one's right has ended.
ON_ITS_WAY = 0.3
# Then its deadline has passed.
LATE_AT_MOST = 3


class Step:
    """Faults that were there together, and what they did."""

    def __init__(self, number, these):
        self.number, self.faults = number, these
        self.began = self.ended = 0.0
        self.settled = None
        self.times = []
        self.has_unplanned_ends = False

    @property
    def kind(self):
        return " + ".join(sorted(fault.kind for fault in self.faults))

    @property
    def loses_commands(self):
        return self.has_unplanned_ends or any(fault.kind in faults.LOSES_COMMANDS for fault in self.faults)

    @property
    def counted_from(self):
        """Whether how soon the controllers were served again is counted from the faults' end, or from their begin."""
        return "end" if any(fault.kind in faults.HINDERS_ALL for fault in self.faults) else "begin"

    def __str__(self):
        at = time.strftime("%H:%M:%S", time.gmtime(self.began))
        return f"{self.number:3} {at}.{int(self.began % 1 * 1000):03} {' + '.join(map(str, self.faults))}"


class Chaos:
    """One run. A cluster that has controllers is needed, and nobody else may give it commands."""

    def __init__(self, cluster, seed, say=print, published=5.0):
        self.cluster, self.seed, self.say = cluster, seed, say
        self.steps = []
        self.broken = []
        self.conflicts = self.stale = 0
        self.database = cluster.vendor.db.removeprefix("sqlite:")
        self.arrivals = Arrivals(self.database, cluster.serials)
        self.arrivals.start()
        self.epochs = Epochs(cluster.redis, cluster.serials)
        self.epochs.start()
        self.traffic = Traffic(cluster, seed, published)

    def run(self, seconds, kinds):
        """Faults for so long, each step after the one before has been got over."""
        ends = time.monotonic() + seconds
        chance = random.Random(self.seed)
        for these in faults.choose(self.cluster, chance, kinds):
            left = ends - time.monotonic()
            if left <= 0:
                break
            step = Step(len(self.steps) + 1, these)
            self.steps.append(step)
            self.arrivals.forget()
            begins = [0.0, *(chance.uniform(0, 1.5) for _ in these[1:])]
            self._carry_out(step, begins)
            if not self._settle(step):
                break

    def verdict(self):
        """Ends the run and says what was broken. Call it once."""
        self.traffic.end()
        self._await_results()
        self.arrivals.end()
        self.epochs.end()
        fleet = self.cluster.fleet
        fleet.process.popen.send_signal(signal.SIGINT)
        report = fleet.report(120)
        for node in self.cluster.nodes:
            try:
                node.stop(20)
            except Failure as failure:
                self.broken.append(f"a node does not end: {failure}")
        self._count()
        self.cluster.vendor.stop()
        folder = self.cluster.lab.folder
        verdict = checker.check(
            self.database, folder / "ledger.jsonl", folder / "commands.jsonl", self.traffic.given, report,
            self.conflicts, self._may_be_lost, self._is_stale)
        verdict.counts["refused by the vendor app for a stale epoch"] = self.stale
        verdict.blame("controllers that a node took for faulty", checker.accused(
            node.process.log_path for node in self.cluster.nodes))
        verdict.broken += self.broken
        return verdict

    def table(self):
        """How soon each controller was served again, by kind of fault. Steps of two faults are one kind: "two"."""
        rows = {}
        for step in self.steps:
            name = step.kind if len(step.faults) == 1 else "two at once"
            rows.setdefault((name, step.counted_from), []).append(step)
        lines = [f"{'fault':16} {'times':>5} {'from its':>8} {'held up':>8} {'p50 s':>7} {'p99 s':>7} {'max s':>7}"]
        for (name, origin), steps in sorted(rows.items()):
            times = sorted(value for step in steps for value in step.times)
            held = [value for value in times if value > 0]
            p50, p99 = (held[min(len(held) - 1, int(len(held) * q))] if held else 0 for q in (0.5, 0.99))
            share = len(held) / len(times) if times else 0
            lines.append(f"{name:16} {len(steps):5} {origin:>8} {share:8.0%} {p50:7.2f} {p99:7.2f} "
                         f"{held[-1] if held else 0:7.2f}")
        lines.append(f"exact to {self.arrivals.longest:.2f} s")
        return "\n".join(lines)

    def _carry_out(self, step, begins):
        """Begins and ends each fault at its time. The seconds are the faults' own: nothing is waited for."""
        plan = []
        for fault, at in zip(step.faults, begins):
            plan.append((at, fault, self._begin))
            plan.append((at + fault.seconds, fault, type(fault).end))
        step.began = time.time()
        for at, fault, what in sorted(plan, key=lambda entry: entry[0]):
            time.sleep(max(0.0, step.began + at - time.time()))
            what(fault)
        step.ended = time.time()

    def _begin(self, fault):
        if fault.kind == "vendor.kill":
            self._count()
        fault.begin()

    def _settle(self, step):
        """Waits until of every controller something is stored that happened after the faults. False: in vain."""
        over = True
        try:
            wait_for(lambda: self.arrivals.all_newer_than(step.ended), RECOVERY_SECONDS, every=0.05)
        except Failure:
            over = False
            waiting = self.arrivals.without(step.ended)
            self.broken.append(f"{len(waiting)} controllers are not served {RECOVERY_SECONDS} s after\n    {step}\n"
                               f"    {waiting[:10]}")
        step.settled = time.time()
        step.times = self.arrivals.held_up(step.ended if step.counted_from == "end" else step.began)
        self.say(f"{step}: held up {sum(t > 0 for t in step.times)}, at most {max(step.times):.2f} s "
                 f"from its {step.counted_from}; all well {step.settled - step.ended:.2f} s after its end")
        for part in (*self.cluster.nodes, *self.cluster.balancers, self.cluster.redis, self.cluster.vendor,
                     self.cluster.fleet):
            if not part.process.is_running:
                self.broken.append(f"ended by itself in\n    {step}\n"
                                   f"{part.process.failure(str(part.process.popen.returncode))}")
                if part is self.cluster.fleet:
                    return False
                # There may be more to be found.
                step.has_unplanned_ends = True
                part.start()
        return over

    def _await_results(self):
        """A result may be on its way until the last command's deadline, and a commit longer. And before the controllers
        are gone nodes are to have ended all that they hold, which takes 60 s at most: of a command that another one had
        carried out they could only say then that they do not know."""
        def all_there():
            with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as db:
                there = {row[0] for row in db.execute("SELECT id FROM results")}
            return all(one.id in there for one in self.traffic.given
                       if (one.heard or one.status is not None) and not self._may_be_lost(one))

        def none_held():
            return not any(node.metrics()["cluster_driver_commands_pending"] for node in self.cluster.nodes)
        for condition, seconds in ((all_there, 10), (none_held, 70)):
            try:
                wait_for(condition, seconds, every=0.2)
            except Failure:
                pass  # The checker says which.

    def _may_be_lost(self, given):
        """A fault that loses commands was near. A result waits for the vendor app in a node's memory, so with two
        faults at once all of both counts."""
        if given.door == "mailbox":
            # It is lost with what Redis holds, and not otherwise: as long as its owner, perhaps cut off from Redis
            # before, has not fetched it.
            losing = [step for step in self.steps if any(fault.kind in faults.EMPTIES_REDIS for fault in step.faults)]
            patience = 15
        else:
            losing = [step for step in self.steps if step.loses_commands]
            patience = 3
        ends = given.not_after + patience
        for step in self.steps:
            if any(fault.kind in faults.KEEPS_APART for fault in step.faults) and given.at < step.ended and step.began < ends:
                ends = max(ends, step.ended + patience)
        return any(given.at < (step.settled or step.ended) + 1 and ends > step.began for step in losing)

    def _is_stale(self, line):
        """Carried out under an epoch that the store had replaced a while before, and not because it was on its way for
        so long: in the network, or in another node than its owner, through which the controller came in."""
        at, serial, epoch = line["at_ms"] / 1000, line["serial"], line["owner_epoch"]
        if not self.epochs.replaced(serial, epoch, at - ON_ITS_WAY):
            return False
        owner = self.epochs.owner(serial, epoch)
        near = [fault for step in self.steps if step.began < at < (step.settled or step.ended) + LATE_AT_MOST
                for fault in step.faults]
        return not any(fault.kind in faults.DELAYS or (fault.kind in faults.STALLS and fault.target != owner)
                       for fault in near)

    def _count(self):
        """Adds up the counters of this life of the vendor app."""
        vendor = self.cluster.vendor
        if not vendor.process.is_running:
            return
        host = self.cluster.lab.hosts[vendor.name]

        done = subprocess.run(
            [*host.prefix, ROOT / ".venv/bin/python", ROOT / "Tests/System/vendor_stats.py", vendor.listen],
            capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise Failure(f"the vendor app does not tell its counters: {done.stderr}")
        stats = json.loads(done.stdout)
        self.conflicts += stats["results_conflicting"]
        self.stale += stats["events_stale"]
