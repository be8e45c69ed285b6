"""What `make install` puts onto a system: all that the units and the documentation name, and nothing besides."""

import os
import re
import subprocess

import pytest

from harness import ROOT, binary

# Links within a page, to other pages: [text](path) and [text](path#heading).
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
PAGES = ("ARCHITECTURE", "GLOSSARY", "OPERATING", "OWNERSHIP", "PROTOCOL", "VENDOR")


def install(folder, *parts, **environment):
    done = subprocess.run(
        [ROOT / "scripts/install", *parts], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "CLUSTER_DRIVER_BIN": str(binary("clusterctl").parent), "DESTDIR": str(folder),
             **environment})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_installed_is_what_is_named(installed):
    names = files(installed)
    programs = {"cluster-driver", "clusterctl", "vendor-app", "scp-fleet"}
    assert {name for name in names if name.startswith("usr/bin/")} == {f"usr/bin/{name}" for name in programs}
    assert {name for name in names if name.startswith("usr/lib/")} == {
        "usr/lib/systemd/system/cluster-driver@.service", "usr/lib/systemd/system/cluster-driver.target",
        "usr/lib/systemd/system/vendor-app.service", "usr/lib/sysusers.d/cluster-driver.conf",
        "usr/lib/cluster-driver/restart-nodes"}
    assert {f"usr/share/man/man1/{name}.1.gz" for name in programs} <= names
    assert {f"usr/share/doc/cluster-driver/{page}.md" for page in PAGES} <= names
    assert {"usr/share/doc/cluster-driver/examples/cluster-driver.env",
            "usr/share/doc/cluster-driver/examples/haproxy.cfg"} <= names
    assert not [name for name in names if not name.startswith(("usr/bin/", "usr/lib/", "usr/share/"))]


@pytest.mark.parametrize("prefix", ["/usr", "/opt/doors"])
def test_every_program_that_a_unit_runs_is_installed_where_it_looks(prefix, installed, tmp_path):
    root = installed if prefix == "/usr" else install(tmp_path, PREFIX=prefix)
    units = list((root / prefix[1:] / "lib/systemd/system").iterdir())
    assert len(units) == 3
    ran = {path for unit in units for path in re.findall(r"/\S*/bin/(?:cluster|vendor)\S*", unit.read_text())}
    assert ran == {f"{prefix}/bin/cluster-driver", f"{prefix}/bin/vendor-app"}
    script = root / prefix[1:] / "lib/cluster-driver/restart-nodes"
    assert f"program={prefix}/bin/cluster-driver\n" in script.read_text()
    for path in (*(root / path[1:] for path in ran), script):
        assert os.access(path, os.X_OK), path


def test_the_guide_names_files_that_are_installed(installed):
    guide = (ROOT / "Docs/OPERATING.md").read_text()
    named = set(re.findall(r"/usr/(?:bin|lib|share)/[\w./@-]*\w", guide))
    assert {"/usr/lib/cluster-driver/restart-nodes", "/usr/share/doc/cluster-driver/examples/cluster-driver.env"} <= named
    assert not [name for name in named if not (installed / name[1:]).exists()], named


def test_every_link_of_the_installed_documentation_leads_somewhere(installed):
    doc = installed / "usr/share/doc/cluster-driver"
    for page in doc.rglob("*.md"):
        for link in LINK.findall(page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(doc)}: {link}"


def test_modes_do_not_depend_on_who_installs(installed):
    for path in installed.rglob("*"):
        runs = path.is_dir() or path.parent.name in ("bin", "cluster-driver") and "doc" not in path.parts
        assert path.stat().st_mode & 0o777 == (0o755 if runs else 0o644), path


def test_completions_are_what_a_shell_takes(installed):
    share = installed / "usr/share"
    for name in ("clusterctl", "vendor-app", "scp-fleet"):
        script = share / f"bash-completion/completions/{name}"
        said = subprocess.run(["bash", "-c", f". {script} && complete -p {name}"], capture_output=True, text=True,
                              timeout=30)
        assert said.returncode == 0 and name in said.stdout, said
        assert (share / f"zsh/vendor-completions/_{name}").read_text().startswith(f"#compdef {name}")
        assert f"-c '{name}'" in (share / f"fish/vendor_completions.d/{name}.fish").read_text()


def test_a_part_is_installed_alone(tmp_path):
    names = files(install(tmp_path, "trial"))
    assert "usr/bin/vendor-app" in names and "usr/bin/cluster-driver" not in names
