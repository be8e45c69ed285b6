"""Puts together what the controllers, the vendor app's database and those who gave commands have seen, and says
which promise was broken. Standard library only.

Of the nodes' own words only what they hold against others counts: a node that breaks a promise may well count wrong.
"""

import collections
import json
import sqlite3

from traffic import executed

DONE, REFUSED, EXPIRED, OFFLINE, SUPERSEDED = range(1, 6)
EXAMPLES = 5
# A controller that keeps to the protocol is never told one of these.
FAULTS = ("bad_order", "window_exceeded", "out_of_turn", "out_of_sync", "bad_payload", "unknown_type", "bad_hello",
          "unknown_result", "frame_too_large", "bad_serial", "unsupported_version", "proxy_malformed", "proxy_refused")


class Verdict:
    """`broken`: sentences, each a promise that was broken; `counts`: what was looked at."""

    def __init__(self):
        self.broken = []
        self.counts = collections.Counter()

    def blame(self, what, cases):
        """Each of `cases` is one time that this happened."""
        cases = list(cases)
        if cases:
            some = "".join(f"\n    {case}" for case in cases[:EXAMPLES])
            more = f"\n    … and {len(cases) - EXAMPLES} more" if len(cases) > EXAMPLES else ""
            self.broken.append(f"{what}: {len(cases)}{some}{more}")

    def __str__(self):
        counts = ", ".join(f"{value:,} {name}" for name, value in self.counts.items())
        return "\n".join([counts, *self.broken, f"{len(self.broken)} promises broken"])


def check(database, ledger, commands, given, report, conflicts, may_be_lost, is_stale):
    """`database`: the vendor app's; `ledger`, `commands`: what the fleet wrote; `given`: Traffic's; `report`: the
    fleet's; `conflicts`: results that contradict a stored one, by the vendor app's count;
    `may_be_lost(given)`: whether a fault was there that may take a command with it before there is a result;
    `is_stale(line)`: whether, by the store, another owner had come before a command was carried out."""
    verdict = Verdict()
    _check_report(verdict, report)
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        _check_events(verdict, db, ledger)
        _check_commands(verdict, db, executed(commands), given, may_be_lost, is_stale)
    if conflicts:
        verdict.broken.append(f"results that contradict another of the same command: {conflicts}")
    return verdict


def accused(logs):
    """Lines in which nodes say that a controller broke the protocol."""
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            if "connection was refused or ended" in line and any(f" {fault} " in line for fault in FAULTS):
                yield f"{log.name}: {line}"


def _check_report(verdict, report):
    commands = report["commands"]
    said = {
        "lost": report["lost"], "duplicated": report["duplicated"],
        "corrupt": report.get("verify", {}).get("corrupt", 0),
        "commands carried out twice": commands["duplicate"], "commands carried out late": commands["late"],
        "commands or WELCOMEs under a stale epoch": commands["stale_epoch"],
        "acknowledgements of what was never sent": report["acks_invalid"],
        "resumes from what was never sent": report["resume_invalid"],
        "resumes from before what was acknowledged": report["resume_below_acked"],
    }
    verdict.counts["events generated"] = report["generated"]
    for what, n in said.items():
        if n:
            verdict.broken.append(f"by the controllers, {what}: {n}")
    if report["exit"] != 0 and not verdict.broken:
        verdict.broken.append(f"the fleet's exit code is {report['exit']}: {report}")


def _check_events(verdict, db, ledger):
    rows, distinct = db.execute(
        "SELECT count(*), count(DISTINCT serial || '/' || log_epoch || '/' || seq) FROM events").fetchone()
    verdict.counts["rows stored"] = rows
    if rows != distinct:
        verdict.broken.append(f"rows stored twice: {rows - distinct}")
    verdict.blame("rows under a lower owner epoch than a row before", db.execute("""
        SELECT serial, log_epoch, seq, owner_epoch, before FROM (
          SELECT *, lag(owner_epoch) OVER (PARTITION BY serial, log_epoch ORDER BY seq) AS before FROM events)
        WHERE owner_epoch < before"""))
    lost = []
    with open(ledger, encoding="ascii") as lines:
        for log in map(json.loads, lines):
            gone = db.execute(
                "SELECT coalesce(sum(through_seq - from_seq + 1), 0) FROM gaps WHERE serial = ? AND log_epoch = ?",
                (log["serial"], log["log_epoch"])).fetchone()[0]
            stored = db.execute(
                "SELECT count(*) FROM events WHERE serial = ? AND log_epoch = ? AND seq BETWEEN ? AND ?",
                (log["serial"], log["log_epoch"], log["first"], log["acked"])).fetchone()[0]
            wanted = log["acked"] - log["first"] + 1
            if stored + gone < wanted:
                lost.append(f"{log['serial']}: {wanted} acknowledged, {stored} stored, {gone} declared gone")
    verdict.blame("logs of which acknowledged events are not stored", lost)


def _check_commands(verdict, db, done, given, may_be_lost, is_stale):
    results = dict(db.execute("SELECT id, status FROM results"))
    verdict.counts["commands given"] = len(given)
    verdict.counts["carried out"] = len(done)
    verdict.counts["results"] = len(results)
    missing, contradicted, unheard = [], [], []
    for one in given:
        status = results.get(one.id)
        if status is None:
            if one.heard or one.status is not None:
                if may_be_lost(one):
                    verdict.counts["lost with their node or line"] += 1
                else:
                    missing.append(one)
        elif one.status is not None and one.status != status:
            contradicted.append(f"{one}, but stored is {status}")
        if one.heard == 0 and (one.id in done or status is not None):
            unheard.append(one)
    verdict.blame("commands without a result", missing)
    verdict.blame("commands whose giver was told another result", contradicted)
    verdict.blame("commands nobody heard that were carried out, or have a result", unheard)
    verdict.blame("commands carried out more than once",
                  (f"{lines}" for lines in done.values() if len(lines) > 1))
    # Offline may have been carried out: the controller was gone before it could say so.
    verdict.blame("commands carried out whose result says they were not", (
        f"result {results[id]}: {lines[0]}" for id, lines in done.items()
        if results.get(id) in (REFUSED, EXPIRED, SUPERSEDED)))
    verdict.blame("commands said to be done that nobody carried out",
                  (id.hex() for id, status in results.items() if status == DONE and id not in done))
    epochs = {}
    stale = []
    for line in sorted((line for lines in done.values() for line in lines), key=lambda line: line["at_ms"]):
        if line["owner_epoch"] < epochs.get(line["serial"], 0) or is_stale(line):
            stale.append(line)
        epochs[line["serial"]] = max(line["owner_epoch"], epochs.get(line["serial"], 0))
    verdict.blame("commands carried out for an owner that was none any more", stale)
