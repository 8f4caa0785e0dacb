"""mosquitto_pub and mosquitto_sub over TLS, with certificates of theirs, and over a Unix socket."""

import shutil
import subprocess

import pytest

from conftest import DEADLINE_S
from test_mosquitto import FLAGS

IS_MISSING = shutil.which("mosquitto_sub") is None
pytestmark = pytest.mark.skipif(IS_MISSING, reason="mosquitto-clients is not installed")


def where(via, identity=None):
    """The flags that lead to a listener, with a client's certificate where one is named."""
    if via.kind == "unix":
        return ["--unix", via.path]
    flags = ["-h", "127.0.0.1", "-p", str(via.port)]
    if via.context:
        flags += ["--cafile", via.pki.path("ca.pem")]
    if identity:
        flags += ["--cert", via.pki.path(f"{identity}.pem"), "--key", via.pki.path(f"{identity}.key")]
    return flags


def run(name, flags, version, *args):
    command = [name, *flags, "-V", FLAGS[version], *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)


WAYS = [("tls", None), ("mtls", "client"), ("optional", None), ("optional", "client"), ("unix", None)]


@pytest.mark.parametrize("qos", "012")
@pytest.mark.parametrize("kind, identity", WAYS)
def test_messages_wait_for_a_subscriber(transports, version, topic, kind, identity, qos):
    flags = where(transports.via[kind], identity)
    sent = run("mosquitto_pub", flags, version, "-t", topic, "-m", "kept", "-q", qos, "-r")
    assert sent.returncode == 0, sent.stderr
    got = run("mosquitto_sub", flags, version, "-t", topic, "-q", qos, "-C", "1", "-F", "%t %p %q %r")
    assert (got.returncode, got.stdout) == (0, f"{topic} kept {qos} 1\n"), got.stderr


@pytest.mark.parametrize("kind, identity", [("mtls", None), ("mtls", "foreign"), ("optional", "foreign")])
def test_whom_the_authority_does_not_know_is_turned_away(transports, topic, kind, identity):
    flags = where(transports.via[kind], identity)
    sent = run("mosquitto_pub", flags, "5", "-t", topic, "-m", "x", "-q", "1", "-r")
    assert sent.returncode != 0
    transports.expect_end("certificate")
    # Nothing of it got through, and others are served.
    watcher = transports.via["mtls"].peer("5").connect()
    watcher.subscribe(topic, topic + "/marker", qos=1)
    watcher.publish(topic + "/marker", qos=1)
    assert watcher.receive().topic == topic + "/marker"
    watcher.disconnect()


def test_a_broker_that_the_client_does_not_know_is_not_talked_to(transports, topic):
    via = transports.via["tls"]
    flags = ["-h", "127.0.0.1", "-p", str(via.port), "--cafile", via.pki.path("foreign-ca.pem")]
    sent = run("mosquitto_pub", flags, "5", "-t", topic, "-m", "x", "-q", "1")
    assert sent.returncode != 0
    # The client says so in an alert.
    transports.expect_end("tls_handshake")
