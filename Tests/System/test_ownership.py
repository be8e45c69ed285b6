"""Ownership by whole processes and a real Redis: killed, stopped, restarted, and their journals compared."""

import collections
import os
import random
import threading
import time

import ownership
from ownership import Holders, distribution

# Together, over clusters of three that run side by side.
FAULTS = int(os.environ.get("OWNERSHIP_FAULTS", "104"))
CLUSTERS = int(os.environ.get("OWNERSHIP_CLUSTERS", "4"))
SEED = int(os.environ.get("OWNERSHIP_SEED", "1"))
CUTS = 12

# How often each is chosen; a pause is of 10 s, as long as a person would say "it hangs".
KINDS = {"kill": 6, "pause": 3, "stop": 2, "redis restart": 3, "redis pause": 2}


class Run(threading.Thread):
    """Faults, one after another, in a cluster of its own."""

    def __init__(self, lab, number, faults, tolerance):
        super().__init__(name=f"cluster {number}")
        self.cluster = Holders(lab, 3, CUTS, name=str(number), options=["--tolerance", tolerance])
        self.chance = random.Random(SEED * 1000 + number)
        self.faults = faults
        self.times = collections.defaultdict(list)
        self.error = None

    def run(self):
        try:
            self.cluster.wait_settled()
            for _ in range(self.faults):
                kind = self.chance.choices(list(KINDS), KINDS.values())[0]
                self.fault(kind, self.chance.choice(self.cluster.holders))
        except Exception as error:
            self.error = error

    def fault(self, kind, victim):
        redis = self.cluster.redis
        at = ownership.now()
        lives = len(victim.lives)
        if kind == "kill":
            at = victim.kill()
            time.sleep(self.chance.uniform(2, 3))
            again = self.cluster.served_again(victim, at, self.cluster.rights())
            victim.start()
        elif kind == "pause":
            at = victim.pause()
            time.sleep(10)
            again = self.cluster.served_again(victim, at, self.cluster.rights())
            victim.resume()
        elif kind == "stop":
            victim.end()
            # Within a TTL of a new Redis nobody claims.
            time.sleep(self.chance.uniform(2, 3))
            again = self.cluster.served_again(victim, at, self.cluster.rights())
            victim.start()
        else:
            if kind == "redis restart":
                redis.kill()
                time.sleep(self.chance.uniform(0, 3))
                redis.start()
            else:
                redis.pause()
                time.sleep(self.chance.uniform(0.5, 4))
                redis.resume()
            self.cluster.wait_settled()
            again = ownership.gaps(self.cluster.rights(), at, ownership.now())
        assert len(victim.lives) >= lives
        self.times[kind] += again
        self.times[f"{kind}: faults"].append(0)
        self.cluster.wait_settled()


def test_three_processes_never_own_the_same_and_replace_each_other(lab):
    runs = [Run(lab, i, FAULTS // CLUSTERS, tolerance=i % 2) for i in range(CLUSTERS)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    for run in runs:
        if run.error:
            raise run.error
    for run in runs:
        ownership.check(run.cluster.rights())
    print()
    for kind in KINDS:
        times = [t for run in runs for t in run.times[kind]]
        faults = sum(len(run.times[f"{kind}: faults"]) for run in runs)
        what = "ranges unserved" if "redis" in kind else "until a new owner acts, each range"
        print(f"{kind}: {faults} faults; {what}: {distribution(times)}")
    sudden = sorted(t / 1e6 for run in runs for kind in ("kill", "pause") for t in run.times[kind])
    assert sum(len(run.times[f"{kind}: faults"]) for run in runs for kind in KINDS) >= FAULTS // CLUSTERS * CLUSTERS
    # Owners that reach each other need no Redis.
    assert not [t for run in runs for t in run.times["redis pause"]]
    assert sudden, "nobody who held anything was ever killed"
    assert sudden[int(len(sudden) * 0.99)] <= 1900, f"p99 of {len(sudden)}: {sudden[-20:]}"


def test_ten_thousand_ranges_cost_redis_no_more_than_one(lab):
    cluster = Holders(lab, 3, 10_000, options=["--moves-max", 256])
    cluster.wait_settled(120)
    before = commands(cluster.redis)
    began = time.monotonic()
    time.sleep(10)
    after = commands(cluster.redis)
    seconds = time.monotonic() - began
    scripts = (after["evalsha"] - before["evalsha"]) / seconds / 3
    every = (sum(after.values()) - sum(before.values())) / seconds / 3
    print(f"\n10,000 ranges at rest: {scripts:.1f} calls/s a node to Redis, by its own counters"
          f" ({every:.1f} commands/s with those that the scripts carry out themselves)")
    assert scripts <= 20
    victim = cluster.holders[1]
    at = victim.kill()
    time.sleep(3)
    rights = cluster.rights()
    print(f"10,000 ranges, one of three killed: until a new owner acts, each range:"
          f" {distribution(cluster.served_again(victim, at, rights))}")
    ownership.check(rights)


def commands(redis):
    """Calls by name, from INFO commandstats."""
    counts = {}
    for line in redis.call("INFO", "commandstats").decode().splitlines():
        if line.startswith("cmdstat_"):
            name, rest = line.removeprefix("cmdstat_").split(":", 1)
            counts[name] = int(rest.split(",")[0].removeprefix("calls="))
    return counts
