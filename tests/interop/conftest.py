"""The program under test, and a client that waits for what must come instead of sleeping."""

import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import threading
import uuid

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# A deadline, not a pace: everything comes far sooner.
DEADLINE_S = 30

ROOT = pathlib.Path(__file__).resolve().parents[2]
VERSIONS = {"3.1": paho.MQTTv31, "3.1.1": paho.MQTTv311, "5": paho.MQTTv5}


def binary():
    """The program: RINGMQ_BIN, or what `cargo build` made."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = pathlib.Path(os.environ.get("RINGMQ_BIN", target / "debug" / "ringmq"))
    if not path.exists():
        pytest.exit(f"{path} does not exist: run `cargo build`, or name the program in RINGMQ_BIN", 2)
    return str(path)


class Broker:
    """A running broker on a free port, or on the listeners of its configuration."""

    def __init__(self, *args, listen=("--listen", "127.0.0.1:0")):
        command = [binary(), *listen, "--log-format", "json", *args]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log, self.logged = [], threading.Condition()
        ready = self.wait_for_log("ready")
        # "[127.0.0.1:1883, tls://127.0.0.1:8883]", in the order of the configuration.
        self.addresses = ready["addresses"][1:-1].split(", ")
        self.port = int(self.addresses[0].rsplit(":", 1)[1])
        # A pipe that nobody reads would stop the broker once it is full.
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()

    def wait_for_log(self, message):
        for line in self.process.stderr:
            self.log.append(line)
            fields = json.loads(line)["fields"]
            if fields["message"] == message:
                return fields
        raise AssertionError(f"no line {message!r} in the log:\n{''.join(self.log)}")

    def _read_log(self):
        for line in self.process.stderr:
            with self.logged:
                self.log.append(line)
                self.logged.notify_all()

    def await_log(self, message, count):
        """Waits until so many lines of the log begin so."""

        def lines():
            return sum(json.loads(line)["fields"]["message"].startswith(message) for line in self.log)

        with self.logged:
            assert self.logged.wait_for(lambda: lines() >= count, DEADLINE_S), "".join(self.log)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            # Nothing, when it has stopped as it should.
            self.process.kill()
            self.reader.join(DEADLINE_S)


@pytest.fixture(scope="session", params=[1, 2, 4], ids=lambda shards: f"{shards}shards")
def broker(request):
    """One broker for all tests of a number of shards."""
    broker = Broker("--shards", str(request.param))
    yield broker
    assert broker.stop() == 0, "".join(broker.log)


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def topic():
    """A topic that no other test uses."""
    return f"t/{uuid.uuid4().hex}"


class Client(paho.Client):
    """paho 2.1.0 reads the reason of a DISCONNECT only when properties follow it; this reads it always."""

    goodbye = None

    def _handle_disconnect(self):
        packet = self._in_packet["packet"]
        self.goodbye = packet[0] if packet else 0
        super()._handle_disconnect()


class Peer:
    """A paho client whose events are queued, so that a test can wait for them in order."""

    def __init__(self, port, version, client_id=None, clean=True, expiry_s=None, will=None, options=None, via=None):
        self.port, self.is_v5, self.via = port, version == "5", via
        # MQTT 3.1 allows 23 characters.
        self.client_id = client_id or uuid.uuid4().hex[:20]
        kwargs = {} if self.is_v5 else {"clean_session": clean}
        self.client = Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=VERSIONS[version],
            reconnect_on_failure=False,
            transport=via.paho_transport if via else "tcp",
            **kwargs,
        )
        if via and via.context:
            self.client.tls_set_context(via.context)
        self.connect_kwargs = {}
        if self.is_v5:
            properties = Properties(PacketTypes.CONNECT)
            if not clean:
                properties.SessionExpiryInterval = 3600 if expiry_s is None else expiry_s
            for name, value in (options or {}).items():
                setattr(properties, name, value)
            self.connect_kwargs = {"clean_start": clean, "properties": properties}
        if will:
            self.client.will_set(**will)
        self.connacks, self.subacks, self.unsubacks = queue.Queue(), queue.Queue(), queue.Queue()
        self.acked, self.messages, self.ends = queue.Queue(), queue.Queue(), queue.Queue()
        self.client.on_connect = lambda c, u, flags, reason, props: self.connacks.put((flags, reason, props))
        self.client.on_disconnect = lambda c, u, flags, reason, props: self.ends.put(reason)
        self.client.on_subscribe = lambda c, u, mid, reasons, props: self.subacks.put((mid, reasons))
        self.client.on_unsubscribe = lambda c, u, mid, reasons, props: self.unsubacks.put((mid, reasons))
        self.client.on_publish = lambda c, u, mid, reason, props: self.acked.put((mid, reason))
        self.client.on_message = lambda c, u, message: self.messages.put(message)

    def connect(self):
        host, port = self.via.paho_address if self.via else ("127.0.0.1", self.port)
        self.client.connect(host, port, keepalive=60, **self.connect_kwargs)
        self.client.loop_start()
        self.flags, self.reason, self.properties = self.connacks.get(timeout=DEADLINE_S)
        assert self.reason == 0, self.reason
        return self

    def subscribe(self, *filters, qos=0, options=None, properties=None):
        if options is not None:
            wanted = [(name, options) for name in filters]
        else:
            wanted = [(name, qos) for name in filters]
        result, mid = self.client.subscribe(wanted, properties=properties)
        assert result == 0
        answered, reasons = self.subacks.get(timeout=DEADLINE_S)
        assert answered == mid
        return [reason.value for reason in reasons]

    def unsubscribe(self, name):
        result, mid = self.client.unsubscribe(name)
        assert result == 0
        assert self.unsubacks.get(timeout=DEADLINE_S)[0] == mid

    def send(self, topic, payload=b"", qos=0, retain=False, properties=None):
        """Publishes without waiting for the acknowledgement."""
        info = self.client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        assert info.rc == 0
        return info

    def publish(self, *args, **kwargs):
        """Publishes, and waits until the broker has acknowledged what it acknowledges."""
        self.send(*args, **kwargs).wait_for_publish(DEADLINE_S)

    def receive(self):
        return self.messages.get(timeout=DEADLINE_S)

    def receive_many(self, count):
        return [self.receive() for _ in range(count)]

    def ended(self):
        """Waits for the end of the connection: the reason code that the broker gave, if it gave one."""
        self.ends.get(timeout=DEADLINE_S)
        return self.client.goodbye

    def disconnect(self):
        self.client.disconnect()
        self.ended()
        self.client.loop_stop()

    def die(self):
        """Cuts the connection without a DISCONNECT."""
        # Below TLS and WebSocket, where there are any.
        with socket.socket(fileno=os.dup(self.client.socket().fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        self.ended()
        self.client.loop_stop()


@pytest.fixture
def connect(broker, version):
    """Connects clients of the test's version, and disconnects them after it."""
    peers = []

    def connect_one(*args, **kwargs):
        peer = Peer(broker.port, kwargs.pop("version", version), *args, **kwargs)
        peers.append(peer)
        return peer.connect()

    yield connect_one
    for peer in peers:
        if peer.client.is_connected():
            peer.disconnect()


@pytest.fixture(scope="session", params=[1, 2, 4], ids=lambda shards: f"{shards}shards")
def transports(request):
    """One broker with all kinds of listeners for all tests of a number of shards."""
    # Which needs what is above.
    from transports import AllTransports, Pki

    pki = Pki()
    broker = AllTransports(request.param, pki)
    yield broker
    broker.check_figures()
    status = broker.stop()
    pki.remove()
    assert status == 0, "".join(broker.log)
