"""`--release`: what a dead process of a node held is given back at once, and nothing that a living one holds."""

import shutil

from process import wait_for


def session(redis):
    """Incarnation of the node's session, and whether it is released."""
    incarnation, _, released, *_ = redis.call("HGET", "{cd:main}:state", "s:unit").decode().split()
    return int(incarnation), released == "1"


def test_only_the_session_of_a_process_that_is_dead_is_given_back(lab):
    redis, vendor, state = lab.redis(), lab.vendor(db="memory:"), lab.folder / "unit.state"
    node = lab.node(redis, vendor, options=["--node-id", "unit", "--state-file", state])

    def release(file):
        code, output, errors = lab.run(
            "cluster-driver", "--release", "--port", node.port, "--redis", redis.url, "--vendor", vendor.url,
            "--node-id", "unit", "--state-file", file)
        assert not errors
        return code, output

    def is_there():
        return node.http("/readyz")[0] == 200

    wait_for(is_there, 10, "it is a member")
    life = session(redis)
    code, output = release(state)
    assert code == 1 and "another process uses the state file" in output, output
    assert session(redis) == life and not life[1] and is_there()

    node.kill()
    shutil.copy(state, lab.folder / "former.state")
    code, output = release(state)
    assert code == 0 and f"unit/i{life[0]} is given back" in output, output
    assert session(redis) == (life[0], True)

    # Its next life is none of the former one's.
    node.start()
    wait_for(is_there, 10, "it is a member again")
    code, output = release(lab.folder / "former.state")
    assert code == 0, output
    incarnation, is_released = session(redis)
    assert incarnation > life[0] and not is_released and is_there()


def test_what_cannot_be_released_is_said(lab):
    def release(*options):
        code, output, _ = lab.run("cluster-driver", "--release", "--vendor", "grpc://127.0.0.1:1", *options)
        return code, output

    assert release("--redis", "memory:", "--port", 5001)[0] == 0
    code, output = release("--redis", "redis://127.0.0.1:1", "--port", 5001)
    assert code == 1 and "--state-file" in output
    code, output = release("--redis", "redis://127.0.0.1:1", "--port", 5001, "--state-file", lab.folder / "none")
    assert code == 0 and "no process of this node" in output, output
    (lab.folder / "some").write_text("cluster-driver memory 1\nincarnation 7\nlist 0\nfloor 1 1\nend\n")
    code, output = release("--redis", "redis://127.0.0.1:1", "--port", 5001, "--state-file", lab.folder / "some")
    assert code == 1 and "redis://127.0.0.1:1" in output, output
