"""Promise 3: a command takes effect at most once and always ends in exactly one result."""

import json
import os
import time

import pytest

from harness import command_json
from process import wait_for
from vendor_query import VendorQuery, model

SERIAL = 1000
DONE, REFUSED, EXPIRED, OFFLINE = 1, 2, 3, 4


@pytest.fixture
def system(lab):
    """Vendor app, Redis, a node, and ten controllers that stay for the test."""
    vendor = lab.vendor(db="memory:")
    redis = lab.redis()
    node = lab.node(redis, vendor)
    carried_out = lab.folder / "commands.jsonl"
    fleet = lab.fleet(node, 10, 1, "30s", options=["--commands-log", carried_out])
    fleet.wait_connected(10)
    # The node listens on a controller's channel a moment after its welcome.
    wait_for(lambda: redis.call("PUBSUB", "NUMSUB", SERIAL)[1] == 1, 10, "a node listens")
    return vendor, redis, node, fleet


def executed(fleet):
    return (fleet.progress.get("commands") or {}).get("executed", 0)


def end(fleet):
    """Ends the fleet before its time and returns its report."""
    fleet.process.popen.send_signal(2)
    return fleet.report(seconds=20)


def unlock(seconds=5.0, **more):
    return model.Command(
        id=os.urandom(16), serial=more.pop("serial", SERIAL), lane=model.LANE_URGENT,
        not_after_ms=int((time.time() + seconds) * 1000), unlock=model.Unlock(door=1), **more,
    )


def test_a_command_published_as_json_is_carried_out_once(lab, system):
    _, redis, _, fleet = system
    assert redis.publish(SERIAL, command_json(door=1)) == 1
    wait_for(lambda: executed(fleet) == 1, 10, "carried out")
    assert end(fleet)["commands"]["executed"] == 1


def test_a_command_published_as_binary_protobuf_is_carried_out_too(lab, system):
    _, redis, _, fleet = system
    assert redis.publish(SERIAL, unlock().SerializeToString()) == 1
    wait_for(lambda: executed(fleet) == 1, 10, "carried out")
    assert end(fleet)["exit"] == 0


def test_the_same_id_given_again_is_not_carried_out_again(lab, system):
    vendor, redis, _, fleet = system
    identity = os.urandom(16)
    for _ in range(5):
        redis.publish(SERIAL, command_json(identity=identity))
    command = unlock()
    command.id = identity
    with VendorQuery(vendor) as query:
        assert query.send(command).status == DONE
    report = end(fleet)
    assert report["commands"]["executed"] == 1
    assert report["commands"]["duplicate"] == 0


def test_publishing_for_a_controller_nobody_has_says_so_at_once(lab, system):
    _, redis, _, _ = system
    assert redis.publish(999_999, command_json()) == 0


def test_the_vendor_apps_own_stream_carries_commands_without_redis(lab, system):
    vendor, redis, _, fleet = system
    redis.kill()
    with VendorQuery(vendor) as query:
        result = query.send(unlock())
    assert result.status == DONE
    assert result.serial == SERIAL
    assert end(fleet)["commands"]["executed"] == 1


def test_a_deadline_in_the_past_is_never_carried_out(lab, system):
    vendor, redis, _, fleet = system
    redis.publish(SERIAL, command_json(seconds=-1))
    with VendorQuery(vendor) as query:
        assert query.send(unlock(seconds=-1)).status == EXPIRED
    report = end(fleet)
    assert report["commands"]["executed"] == 0
    assert report["commands"]["late"] == 0


def test_a_momentary_command_without_a_deadline_is_refused_with_the_reason(lab, system):
    vendor, _, _, fleet = system
    command = unlock()
    command.not_after_ms = 0
    with VendorQuery(vendor) as query:
        result = query.send(command)
    assert result.status == REFUSED
    assert "not_after" in result.detail or "deadline" in result.detail
    assert end(fleet)["commands"]["executed"] == 0


def test_nonsense_on_a_channel_harms_nothing(lab, system):
    _, redis, node, fleet = system
    for nonsense in ("", "{", "{}", '{"id":"AA=="}', b"\x00\xff" * 40, "x" * 100_000):
        redis.publish(SERIAL, nonsense)
    redis.publish(SERIAL, command_json())
    wait_for(lambda: executed(fleet) == 1, 10, "the command after the nonsense")
    assert node.process.is_running
    assert end(fleet)["commands"]["executed"] == 1


def test_many_commands_at_once_each_have_their_one_result(lab, system):
    vendor, redis, _, fleet = system
    n = 500
    for i in range(n):
        redis.publish(SERIAL + i % 10, command_json(seconds=30))
    wait_for(lambda: executed(fleet) == n, 20, f"{n} commands carried out")
    with VendorQuery(vendor) as query:
        wait_for(lambda: query.stats().results_stored >= n, 10, "results stored")
        stats = query.stats()
    assert stats.results_stored == n
    assert stats.results_conflicting == 0
    report = end(fleet)
    assert report["commands"]["duplicate"] == 0
    log = [json.loads(line) for line in (lab.folder / "commands.jsonl").read_text().splitlines()]
    assert len(log) == n
