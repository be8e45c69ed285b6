"""The units that are shipped: systemd takes every line of them, and they keep what the design relies on."""

import re
import shutil
import subprocess

import pytest

from harness import ROOT

UNITS = ROOT / "systemd"
SERVICES = ["cluster-driver@.service", "vendor-app.service"]
# What `systemd-analyze security` gave them, in tenths; Docs/OPERATING.md says why it is not less.
EXPOSURE = {"cluster-driver@.service": 11, "vendor-app.service": 9}


def analyze(*arguments):
    """systemd-analyze's exit code and all it says."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze on PATH")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def instance(name, folder):
    """A copy of a unit, of a template an instance, under a name that systemd takes."""
    copy = folder / name.replace("@.", "@5001.")
    shutil.copy(UNITS / name, copy)
    return copy


def settings(name):
    """Key to its last value."""
    lines = (UNITS / name).read_text().replace("\\\n", " ").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_systemd_has_nothing_to_say_about_the_units(tmp_path):
    units = [instance(name, tmp_path) for name in SERVICES]
    for unit in units:
        # The programs are not installed where the tests run.
        text, n = re.subn(r"(?m)^ExecStart=/usr/bin/[a-z-]+", "ExecStart=/bin/true", unit.read_text())
        assert n == 1
        unit.write_text(text)
    _, said = analyze("verify", *units, instance("cluster-driver.target", tmp_path))
    # It also looks at units of the machine that ours refer to; only ours are judged.
    ours = [line for line in said.splitlines() if "cluster-driver" in line or "vendor-app" in line]
    assert not ours, said


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_may_do_no_more_than_it_could(name, tmp_path):
    def is_below(tenths):
        code, said = analyze("security", "--offline=true", "--no-pager", f"--threshold={tenths}",
                             instance(name, tmp_path))
        assert "Overall exposure level" in said, said
        return code == 0

    assert is_below(EXPOSURE[name])
    # The number is the one that is written down.
    assert not is_below(EXPOSURE[name] - 1)
    guide = (ROOT / "Docs/OPERATING.md").read_text()
    assert f"`{name}` {EXPOSURE[name] / 10}" in guide


def test_a_unit_never_gives_up_and_keeps_its_connections():
    unit = settings("cluster-driver@.service")
    # Giving up would drop what is kept.
    assert unit["StartLimitIntervalSec"] == "0" and unit["Restart"] == "always"
    # With 100 ms the next process of one that was killed began after 240 to 590 ms, with 0 after 70 to 100.
    assert unit["RestartSec"] == "0" and "sleep 0.3" in unit["ExecStopPost"]
    # The next process waits for it: no sandbox is made for it, and what it starts has no privilege.
    end = unit["ExecStopPost"]
    assert end.startswith("-+/bin/sh -c '[ \"$$SERVICE_RESULT\" != success ] || exit 0;"), end
    assert re.search(r'exec setpriv --reuid="\$\$USER" .*--no-new-privs .*--bounding-set=-all\s+/usr/bin/cluster-driver', end)
    assert unit["Type"] == "notify" and "--parking" in unit["ExecStart"].split()
    # Names of descriptors go into one string of the environment, which may have 128 KiB.
    entries = int(unit["FileDescriptorStoreMax"])
    assert entries * len("cscp.lot.4294967295.4294967295:") < 128 * 1024
    # In the worst case a row has 250 sockets, and a third more are in rows than are in use.
    assert entries * 250 * 3 // 4 > int(unit["LimitNOFILE"]) // 2
    # A core of a large process would make the outage longer.
    assert unit["LimitCORE"] == "0" and unit["TimeoutAbortSec"] == "2s"
