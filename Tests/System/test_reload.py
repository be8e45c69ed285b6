"""SIGHUP: what has changed in the files is taken, nobody is disconnected, and a bad file changes nothing."""

import shutil
import signal
import ssl
import subprocess

import pytest

from harness import Redis
from process import wait_for
from service import Unit

LIMIT = "cluster_driver_event_in_flight_limit_bytes"


def reload(unit):
    """Has the files read again; returns what the service manager was told of it, as one text."""
    before = len(unit.store.said)
    unit.process.popen.send_signal(signal.SIGHUP)
    wait_for(lambda: any(said.startswith("READY=1") for said in unit.store.said[before:]), 10, "it is ready again")
    said = unit.store.said[before:]
    first = next(text for text in said if text.startswith("RELOADING=1"))
    assert int(first.split("MONOTONIC_USEC=")[1]) > 0
    assert said.index(first) < next(i for i, text in enumerate(said) if text.startswith("READY=1"))
    return "\n".join(said)


def test_what_has_changed_is_taken_and_what_is_wrong_changes_nothing(lab):
    settings = lab.folder / "node.env"
    settings.write_text("CLUSTER_DRIVER_IN_FLIGHT_BYTES=1MiB\n")
    vendor = lab.vendor(db="memory:")
    unit = Unit(lab, "unit", "memory:", vendor,
                options=[f"--env-file=-{lab.folder}/missing.env", "--env-file", settings])
    fleet = lab.fleet(unit, 100, 5, "8s", vendor=vendor, options=["--drain", "20s"])
    fleet.wait_connected(100)
    assert unit.metrics()[LIMIT] == 1 << 20
    log = unit.process.log_path

    settings.write_text("CLUSTER_DRIVER_IN_FLIGHT_BYTES=2MiB\nCLUSTER_DRIVER_LOG_LEVEL=debug\nCLUSTER_DRIVER_T3=30s\n")
    assert "NOT RELOADED" not in reload(unit)
    assert unit.metrics()[LIMIT] == 2 << 20
    wait_for(lambda: "need a restart" in log.read_text(), 5, "what needs a restart is named")
    assert "changed=in-flight-bytes,log-level" in log.read_text() and "settings=t3" in log.read_text()
    assert lab.run("clusterctl", "list", "--admin", unit.admin)[0] == 0
    wait_for(lambda: " debug admin: connected" in log.read_text(), 5, "grave or not, all is logged")

    settings.write_text("CLUSTER_DRIVER_IN_FLIGHT_BYTES=4MiB\nCLUSTER_DRIVER_T3=30\nCLUSTER_DRIVER_PROT=1\n")
    assert "STATUS=CONFIGURATION NOT RELOADED (CLUSTER_DRIVER_PROT in " in reload(unit)
    assert unit.metrics()[LIMIT] == 2 << 20
    for problem in ("CLUSTER_DRIVER_PORT?", '"30" has no unit'):
        wait_for(lambda: any("the configuration stays as it was" in line and problem in line
                             for line in log.read_text().splitlines()), 5, f"{problem} is said")

    settings.write_text("")
    assert "NOT RELOADED" not in reload(unit)
    assert unit.metrics()[LIMIT] == 8 << 20
    report = fleet.report()
    assert report["exit"] == 0 and report["reconnects"] == 0, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report
    assert unit.end(signal.SIGTERM)


class Authority:
    """Makes certificates for 127.0.0.1, as `ca.pem`, `cert.pem` and `key.pem` in a folder."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={folder.name}",
                      "-keyout", "ca.key", "-out", "ca.pem")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=redis", "-keyout", "key.pem",
                      "-out", "cert.csr")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        self._openssl("x509", "-req", "-in", "cert.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", "names", "-out", "cert.pem")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


class SecureRedis(Redis):
    """A Redis that speaks TLS only, by the certificate of an authority that may be changed between starts."""

    def __init__(self, lab, authority):
        self.authority = authority
        super().__init__(lab, "redis")

    def start(self):
        folder = self.authority.folder
        self._start(
            [shutil.which("redis-server"), "--port", 0, "--tls-port", self.port, "--bind", "127.0.0.1", "--save", "",
             "--tls-cert-file", folder / "cert.pem", "--tls-key-file", folder / "key.pem",
             "--tls-ca-cert-file", folder / "ca.pem", "--tls-auth-clients", "no", "--dir", self.lab.folder])
        wait_for(self._answers, 10, what="Redis speaks TLS")

    def _answers(self):
        if not self.process.is_running:
            raise self.process.failure("ended at once")
        try:
            ssl.get_server_certificate(("127.0.0.1", self.port), ca_certs=self.authority.folder / "ca.pem")
            return True
        except OSError:
            return False


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH")
def test_certificates_are_read_again_before_they_are_needed(lab):
    former, later = Authority(lab.folder / "former"), Authority(lab.folder / "later")
    trusted = lab.folder / "trusted.pem"
    shutil.copy(former.folder / "ca.pem", trusted)
    redis, vendor = SecureRedis(lab, former), lab.vendor(db="memory:")
    unit = Unit(lab, "unit", f"rediss://127.0.0.1:{redis.port}?ca={trusted}", vendor)
    fleet = lab.fleet(unit, 20, 5, "20s", vendor=vendor, options=["--drain", "20s"])
    fleet.wait_connected(20)
    log = unit.process.log_path

    def connects():
        return unit.metrics()['cluster_driver_link_connects_total{link="redis"}']

    def renewed():
        """Redis begins anew; the node is there again without a word about its certificate."""
        before, said = connects(), log.read_text().count("is not trusted")
        redis.kill()
        redis.start()
        wait_for(lambda: connects() > before and unit.http("/readyz")[0] == 200, 15, "the node has Redis again")
        assert log.read_text().count("is not trusted") == said

    # A file that is none is refused, and the former one is good for what comes.
    trusted.write_text("no certificate\n")
    assert "STATUS=CONFIGURATION NOT RELOADED" in reload(unit)
    wait_for(lambda: f"the configuration stays as it was: TLS: the CA file {trusted}" in log.read_text(), 5,
             "the file is named")
    assert connects() == 1
    renewed()
    # Another authority's is there before Redis is.
    shutil.copy(later.folder / "ca.pem", trusted)
    assert "NOT RELOADED" not in reload(unit)
    redis.authority = later
    renewed()
    report = fleet.report()
    assert report["exit"] == 0 and report["reconnects"] == 0, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report
