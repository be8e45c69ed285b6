"""What an operator meets: help, mistakes, health, metrics, and ends in order."""

import json

import pytest

from process import free_port, wait_for


@pytest.mark.parametrize("program", ["cluster-driver", "vendor-app", "scp-fleet", "clusterctl"])
def test_every_program_explains_itself(lab, program):
    code, out, _ = lab.run(program, "--help")
    assert code == 0
    assert "--" in out


@pytest.mark.parametrize(
    "program, arguments",
    [
        ("cluster-driver", ["--port", "70000"]),
        ("cluster-driver", ["--no-such-flag"]),
        ("vendor-app", ["--db", "postgres:x"]),
        ("scp-fleet", ["--connect", "nowhere"]),
        ("clusterctl", ["dance"]),
    ],
)
def test_a_mistake_in_the_flags_is_said_and_fails(lab, program, arguments):
    code, out, error = lab.run(program, *arguments)
    assert code != 0
    assert len(error) > 20
    assert not out


def test_a_node_without_its_three_settings_names_what_is_missing(lab):
    code, _, error = lab.run("cluster-driver")
    assert code != 0
    assert "redis" in error.lower()
    assert "vendor" in error.lower()


def test_a_port_that_is_taken_is_named(lab):
    vendor = lab.vendor(db="memory:")
    node = lab.node("memory:", vendor)
    code, _, error = lab.run(
        "cluster-driver", "--port", node.port, "--redis", "memory:", "--vendor", vendor.url,
        "--admin", f"unix:{lab.folder}/second.sock", "--metrics", "off",
    )
    assert code != 0
    assert str(node.port) in error


def test_health_and_metrics_are_served_and_count(lab):
    vendor = lab.vendor(db="memory:")
    node = lab.node("memory:", vendor)
    assert node.http("/healthz")[0] == 200
    assert wait_for(lambda: node.http("/readyz")[0] == 200, 10, "ready")
    assert node.http("/nothing")[0] == 404
    report = lab.fleet(node, 10, 20, "2s").report()
    assert report["exit"] == 0
    counted = [v for k, v in node.metrics().items() if "event" in k and v == report["acked"]]
    assert counted, "no metric counts the events that were acknowledged"


def test_check_says_what_cannot_be_reached_and_changes_nothing(lab):
    vendor = lab.vendor(db="memory:")
    redis = lab.redis()
    settings = ["--port", 0, "--vendor", vendor.url, "--admin", f"unix:{lab.folder}/check.sock"]
    code, _, error = lab.run("cluster-driver", "--check", *settings, "--redis", redis.url)
    assert code == 0, error
    nobody = f"redis://127.0.0.1:{free_port()}"
    code, out, error = lab.run("cluster-driver", "--check", *settings, "--redis", nobody)
    assert code != 0
    assert nobody.rsplit(":", 1)[1] in out + error


def test_clusterctl_finds_the_node_and_its_controllers(lab):
    vendor = lab.vendor(db="memory:")
    node = lab.node("memory:", vendor)
    fleet = lab.fleet(node, 5, 1, "20s")
    fleet.wait_connected(5)
    code, out, error = lab.run("clusterctl", "--admin", node.admin, "list", "-f", "json")
    assert code == 0, error
    assert json.loads(out)
    code, out, error = lab.run("clusterctl", "--admin", node.admin, "controllers", "-f", "json")
    assert code == 0, error
    assert all(str(serial) in out for serial in range(1000, 1005))


def test_a_node_ends_in_order_on_sigterm_with_nobody_connected(lab):
    node = lab.node("memory:", lab.vendor(db="memory:"))
    assert node.stop(seconds=5) == 0


def test_a_vendor_app_ends_in_order_on_sigterm(lab):
    assert lab.vendor().stop(seconds=5) == 0
