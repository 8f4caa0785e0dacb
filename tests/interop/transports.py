"""Certificates, and a broker that listens in every way that it can."""

import shutil
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

from conftest import DEADLINE_S, Broker, Peer

CONFIGURATION = """
[[listener]]
address = "127.0.0.1:0"
[[listener]]
address = "tls://127.0.0.1:0"
certificate = "$/server.pem"
key = "$/server.key"
[[listener]]
address = "tls://127.0.0.1:0"
certificate = "$/server.pem"
key = "$/server.key"
client_ca = "$/ca.pem"
[[listener]]
address = "tls://127.0.0.1:0"
certificate = "$/server.pem"
key = "$/server.key"
client_ca = "$/ca.pem"
client_certificate = "optional"
[[listener]]
address = "ws://127.0.0.1:0"
[[listener]]
address = "wss://127.0.0.1:0"
certificate = "$/server.pem"
key = "$/server.key"
[[listener]]
address = "unix:$/socket"
unix_mode = "0600"
[limits]
handshake_timeout_ms = "1s"
websocket_frame_bytes_max = "2MiB"
[sys]
interval_s = 1
"""

# The listeners of the configuration, in its order.
KINDS = ["tcp", "tls", "mtls", "optional", "ws", "wss", "unix"]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


class Pki:
    """PEM files made by openssl: an authority, a server and a client; a foreign authority, and its client."""

    EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def __init__(self):
        # A short path, for the socket in it.
        self.folder = Path(tempfile.mkdtemp(prefix="ringmq-"))
        self.authority("ca")
        self.issue("server", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.issue("client", "ca", "extendedKeyUsage=clientAuth")
        self.authority("foreign-ca")
        self.issue("foreign", "foreign-ca", "extendedKeyUsage=clientAuth")

    def path(self, name):
        return str(self.folder / name)

    def authority(self, name):
        openssl("req", "-x509", *self.EC, "-days", "2", "-subj", f"/CN={name}",
                "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.pem"))  # fmt: skip

    def issue(self, name, authority, extension, days="2"):
        openssl("req", *self.EC, "-subj", f"/CN={name}", "-addext", extension,
                "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.csr"))  # fmt: skip
        openssl("x509", "-req", "-in", self.path(f"{name}.csr"), "-CA", self.path(f"{authority}.pem"),
                "-CAkey", self.path(f"{authority}.key"), "-days", days, "-copy_extensions", "copy",
                "-out", self.path(f"{name}.pem"))  # fmt: skip

    def context(self, identity=None):
        """What a client of the authority trusts, and shows."""
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        if identity:
            context.load_cert_chain(self.path(f"{identity}.pem"), self.path(f"{identity}.key"))
        return context

    def remove(self):
        shutil.rmtree(self.folder)


class Via:
    """One way to the broker."""

    def __init__(self, kind, address, pki):
        self.kind, self.pki = kind, pki
        self.path = address.removeprefix("unix:") if kind == "unix" else None
        self.port = None if kind == "unix" else int(address.rsplit(":", 1)[1])
        self.context = None
        if kind in ("tls", "mtls", "optional", "wss"):
            self.context = pki.context("client" if kind == "mtls" else None)

    @property
    def paho_transport(self):
        return {"ws": "websockets", "wss": "websockets", "unix": "unix"}.get(self.kind, "tcp")

    @property
    def paho_address(self):
        # A port is asked for even where there is none.
        return (self.path, 1883) if self.kind == "unix" else ("127.0.0.1", self.port)

    @property
    def url(self):
        scheme = {"tcp": "mqtt", "tls": "mqtts", "mtls": "mqtts", "optional": "mqtts"}.get(self.kind, self.kind)
        return f"{scheme}://127.0.0.1:{self.port}"

    def wire(self):
        """A connected socket without any layer."""
        if self.kind == "unix":
            wire = socket.socket(socket.AF_UNIX)
            wire.settimeout(DEADLINE_S)
            wire.connect(self.path)
        else:
            wire = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        return wire

    def peer(self, version, *args, **kwargs):
        return Peer(None, version, *args, via=self, **kwargs)


class AllTransports(Broker):
    """A broker with all kinds of listeners. `expected` says what tests made of its figures."""

    def __init__(self, shards, pki):
        config = pki.folder / "ringmq.toml"
        config.write_text(CONFIGURATION.replace("$", str(pki.folder)))
        super().__init__("--config", str(config), "--shards", str(shards), listen=())
        self.pki = pki
        self.via = {kind: Via(kind, address, pki) for kind, address in zip(KINDS, self.addresses, strict=True)}
        self.shards, self.expected = shards, {}

    def await_figure(self, name, value):
        """Waits until a figure has this value; it must not pass it."""
        watcher = self.via["tcp"].peer("5").connect()
        watcher.subscribe(f"$SYS/broker/{name}")
        seen = -1
        while seen < value:
            seen = int(watcher.receive().payload)
        watcher.disconnect()
        assert seen == value, name

    def expect(self, figure, count=1):
        """Expects a figure to grow. It is looked for at once, with one shard, and else when all is over, since
        figures take a second to come."""
        self.expected[figure] = self.expected.get(figure, 0) + count
        if self.shards == 1:
            self.await_figure(figure, self.expected[figure])

    def expect_end(self, reason, count=1):
        """Expects the transports to end one connection more for this reason."""
        self.expect(f"transport/ended/{reason}", count)

    def check_figures(self):
        """Nothing was counted but what was expected."""
        reasons = ["timed_out", "gone", "not_tls", "tls_handshake", "certificate", "tls_record", "not_websocket"]
        reasons += ["subprotocol", "frame_too_large", "frame_text", "websocket_frame"]
        for figure in ["clients/violations"] + [f"transport/ended/{reason}" for reason in reasons]:
            self.await_figure(figure, self.expected.get(figure, 0))
