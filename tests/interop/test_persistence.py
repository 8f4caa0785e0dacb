"""What outlives the program: it is killed, started again on the same directory, and asked."""

import queue
import shutil
import signal
import subprocess
import time

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from conftest import DEADLINE_S, Broker, Peer


class Store:
    """A data directory and the broker on it."""

    def __init__(self, path, shards):
        self.args = ["--data-dir", str(path), "--shards"]
        self.broker = Broker(*self.args, str(shards))
        self.shards = shards

    def connect(self, *args, **kwargs):
        return Peer(self.broker.port, *args, **kwargs).connect()

    def restart(self, number=signal.SIGKILL, shards=None, down_s=0):
        """Ends the broker, and starts one on another port."""
        status = self.broker.stop(number)
        assert status == (-number if number == signal.SIGKILL else 0), "".join(self.broker.log)
        if down_s:
            # Not for luck: time has to pass while nobody is there.
            time.sleep(down_s)
        self.shards = shards or self.shards
        self.broker = Broker(*self.args, str(self.shards))


@pytest.fixture(params=[1, 3], ids=lambda shards: f"{shards}shards")
def store(request, tmp_path):
    store = Store(tmp_path / "data", request.param)
    yield store
    assert store.broker.stop() == 0, "".join(store.broker.log)


@pytest.fixture(params=["3.1", "3.1.1", "5"])
def version(request):
    return request.param


def numbers(messages):
    return [int(message.payload) for message in messages]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_waits_for_a_client_survives_in_order(store, version, topic, qos, number):
    subscriber = store.connect(version, clean=False)
    subscriber.subscribe(topic, qos=qos)
    subscriber.disconnect()
    publisher = store.connect(version)
    sent = [publisher.send(topic, str(n), qos=qos) for n in range(200)]
    for info in sent:
        info.wait_for_publish(DEADLINE_S)
    store.restart(number)
    back = store.connect(version, subscriber.client_id, clean=False)
    assert back.flags.session_present or version == "3.1"
    assert numbers(back.receive_many(200)) == list(range(200))
    # And the subscription is still there.
    store.connect(version).publish(topic, b"200", qos=qos)
    assert back.receive().payload == b"200"
    assert back.messages.empty()


def test_retained_messages_survive(store, version, topic):
    publisher = store.connect(version)
    for n in range(50):
        publisher.publish(f"{topic}/{n}", str(n), qos=n % 3, retain=True)
    publisher.publish(f"{topic}/7", b"", qos=1, retain=True)
    publisher.publish(f"{topic}/8", b"88", qos=1, retain=True)
    store.restart()
    subscriber = store.connect(version)
    subscriber.subscribe(f"{topic}/#", qos=2)
    messages = subscriber.receive_many(49)
    assert all(message.retain for message in messages)
    assert sorted(numbers(messages)) == [n for n in range(50) if n not in (7, 8)] + [88]


@pytest.mark.parametrize("keeps", [True, False], ids=["persistent", "clean"])
def test_a_session_is_there_or_not(store, version, topic, keeps):
    client = store.connect(version, clean=not keeps)
    client.subscribe(topic, qos=1)
    store.restart()
    back = store.connect(version, client.client_id, clean=False)
    if version != "3.1":
        assert back.flags.session_present == keeps
    store.connect(version).publish(topic, b"x", qos=1)
    if keeps:
        assert back.receive().payload == b"x"
    else:
        back.subscribe(f"{topic}/other", qos=1)
        store.connect(version).publish(f"{topic}/other", b"y", qos=1)
        assert back.receive().payload == b"y"


def test_messages_of_qos_2_under_way_arrive_once(store, topic):
    """paho keeps its side of the session over its own reconnect."""
    subscriber = store.connect("3.1.1", clean=False)
    subscriber.subscribe(topic, qos=2)
    publisher = Peer(store.broker.port, "3.1.1", clean=False)
    publisher.client.max_inflight_messages_set(200)
    publisher.connect()
    sent = [publisher.send(topic, str(n), qos=2) for n in range(1000)]
    # In the midst of it, whenever that is.
    store.restart()
    for peer in (publisher, subscriber):
        peer.ended()
        peer.client.loop_stop()
        peer.port = store.broker.port
        peer.connect()
        assert peer.flags.session_present
    for info in sent:
        info.wait_for_publish(DEADLINE_S)
    received = numbers(subscriber.receive_many(1000))
    assert received == list(range(1000))
    publisher.publish(topic, b"1000", qos=2)
    assert subscriber.receive().payload == b"1000"
    with pytest.raises(queue.Empty):
        subscriber.messages.get_nowait()


def test_a_session_expires_while_nobody_is_there(store, topic):
    short = store.connect("5", clean=False, expiry_s=1)
    long = store.connect("5", clean=False, expiry_s=1000)
    for peer in (short, long):
        peer.subscribe(topic, qos=1)
        peer.disconnect()
    store.connect("5").publish(topic, b"x", qos=1)
    store.restart(down_s=1.2)
    assert not store.connect("5", short.client_id, clean=False).flags.session_present
    back = store.connect("5", long.client_id, clean=False)
    assert back.flags.session_present
    assert back.receive().payload == b"x"


def test_the_queue_of_a_shared_subscription_survives(store, topic):
    shared = f"$share/group/{topic}"
    members = [store.connect("5", clean=False) for _ in range(3)]
    for member in members:
        member.subscribe(shared, qos=1)
        member.disconnect()
    publisher = store.connect("5")
    for n in range(60):
        publisher.publish(topic, str(n), qos=1)
    store.restart()
    received = set()
    backs = [store.connect("5", member.client_id, clean=False) for member in members]
    assert all(back.flags.session_present for back in backs)
    until = time.monotonic() + DEADLINE_S
    while len(received) < 60 and time.monotonic() < until:
        for back in backs:
            try:
                received.add(int(back.messages.get(timeout=0.05).payload))
            except queue.Empty:
                pass
    assert received == set(range(60))


def test_a_delayed_will_comes_after_the_restart_when_it_is_due(store, topic):
    watcher = store.connect("5", clean=False)
    watcher.subscribe(topic, qos=2)
    watcher.disconnect()
    properties = Properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = 2
    will = {"topic": topic, "payload": b"gone", "qos": 2, "properties": properties}
    mortal = store.connect("5", clean=False, will=will)
    mortal.die()
    died = time.monotonic()
    store.restart()
    back = store.connect("5", watcher.client_id, clean=False)
    assert back.receive().payload == b"gone"
    assert time.monotonic() - died >= 2
    store.restart()
    again = store.connect("5", watcher.client_id, clean=False)
    store.connect("5").publish(topic, b"nothing between", qos=2)
    message = again.receive()
    # The last acknowledgement may not have been read before the kill.
    while message.dup:
        message = again.receive()
    assert message.payload == b"nothing between"


def test_a_will_is_void_when_its_client_is_back_in_time(store, topic):
    watcher = store.connect("5", clean=False)
    watcher.subscribe(topic, qos=1)
    properties = Properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = 3
    will = {"topic": topic, "payload": b"gone", "properties": properties}
    mortal = store.connect("5", clean=False, will=will)
    store.restart()
    assert store.connect("5", mortal.client_id, clean=False).flags.session_present
    time.sleep(3.5)
    back = store.connect("5", watcher.client_id, clean=False)
    store.connect("5").publish(topic, b"alive", qos=1)
    assert back.receive().payload == b"alive"


def test_properties_survive(store, topic):
    subscriber = store.connect("5", clean=False)
    options = Properties(PacketTypes.SUBSCRIBE)
    options.SubscriptionIdentifier = 4711
    subscriber.subscribe(topic, qos=1, properties=options)
    subscriber.disconnect()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.ResponseTopic = "answer/here"
    properties.CorrelationData = b"\x00\xff"
    properties.UserProperty = [("a", "1"), ("a", "2")]
    properties.MessageExpiryInterval = 1000
    store.connect("5").publish(topic, b"x", qos=1, properties=properties)
    store.restart()
    got = store.connect("5", subscriber.client_id, clean=False).receive().properties
    assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "answer/here", b"\x00\xff")
    assert got.UserProperty == [("a", "1"), ("a", "2")]
    assert got.SubscriptionIdentifier == [4711]
    assert 900 < got.MessageExpiryInterval <= 1000


def test_a_message_expires_while_nobody_is_there(store, topic):
    subscriber = store.connect("5", clean=False)
    subscriber.subscribe(topic, qos=1)
    subscriber.disconnect()
    publisher = store.connect("5")
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = 1
    publisher.publish(topic, b"stale", qos=1, properties=properties)
    publisher.publish(topic, b"fresh", qos=1)
    store.restart(down_s=1.2)
    assert store.connect("5", subscriber.client_id, clean=False).receive().payload == b"fresh"


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto-clients is not installed")
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_with_mosquittos_tools(store, topic, version):
    def tool(name, *args, **kwargs):
        command = [name, "-p", str(store.broker.port), "-V", version, "-t", topic, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True, **kwargs)

    session = ["-i", "away", "-c", "-q", "1"]
    if version == "mqttv5":
        session += ["-x", "3600"]
    tool("mosquitto_sub", *session, "-E")
    lines = "".join(f"{n}\n" for n in range(100))
    tool("mosquitto_pub", "-q", "1", "-l", input=lines)
    tool("mosquitto_pub", "-q", "2", "-r", "-m", "kept")
    store.restart(shards=2)
    assert tool("mosquitto_sub", *session, "-C", "101").stdout == lines + "kept\n"
    assert tool("mosquitto_sub", "-C", "1").stdout == "kept\n"
