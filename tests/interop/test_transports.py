"""paho over TLS, WebSocket and Unix sockets."""

import os
import signal
import ssl
import threading

import pytest

from conftest import Broker
from transports import KINDS, AllTransports, Pki, Via


@pytest.fixture(params=KINDS)
def via(request, transports):
    return transports.via[request.param]


@pytest.fixture
def connect(via, version):
    """Connects clients of the test's version in the test's way, and disconnects them after it."""
    peers = []

    def connect_one(*args, **kwargs):
        peer = via.peer(version, *args, **kwargs)
        peers.append(peer)
        return peer.connect()

    yield connect_one
    for peer in peers:
        if peer.client.is_connected():
            peer.disconnect()


def test_every_qos_arrives(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, qos=2)
    for qos in range(3):
        publisher.publish(topic, b"at %d" % qos, qos=qos)
        message = subscriber.receive()
        assert (message.payload, message.qos) == (b"at %d" % qos, qos)


def test_a_large_payload_arrives_whole(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, qos=1)
    payload = os.urandom(1024 * 1024)
    for qos in (1, 0, 2):
        publisher.publish(topic, payload, qos=qos)
        assert subscriber.receive().payload == payload


def test_a_thousand_messages_arrive_once_and_in_order(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, qos=1)
    for number in range(1000):
        publisher.send(topic, str(number), qos=1)
    assert [int(message.payload) for message in subscriber.receive_many(1000)] == list(range(1000))


def test_a_cut_publishes_the_will(connect, topic):
    watcher = connect()
    watcher.subscribe(topic, qos=1)
    connect(will={"topic": topic, "payload": b"gone", "qos": 1}).die()
    assert watcher.receive().payload == b"gone"


def test_a_session_is_resumed(connect, topic):
    away = connect(clean=False)
    away.subscribe(topic, qos=1)
    away.die()
    publisher = connect()
    for number in range(100):
        publisher.publish(topic, str(number), qos=1)
    back = connect(away.client_id, clean=False)
    assert [int(message.payload) for message in back.receive_many(100)] == list(range(100))


def test_ways_and_versions_mix(transports, topic):
    versions = ["3.1", "3.1.1", "5"]
    peers = [transports.via[kind].peer(versions[at % 3]).connect() for at, kind in enumerate(KINDS)]
    for peer in peers:
        peer.subscribe(topic, qos=1)
    for at, publisher in enumerate(peers):
        publisher.publish(topic, str(at), qos=1)
        assert [int(peer.receive().payload) for peer in peers] == [at] * len(peers)
    for peer in peers:
        peer.disconnect()


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["tls", "mtls", "wss"])
def test_both_versions_of_tls(transports, topic, kind, tls):
    via = transports.via[kind]
    peer = via.peer("5")
    context = transports.pki.context("client" if kind == "mtls" else None)
    context.minimum_version = context.maximum_version = tls
    # Nothing of the context of the others is changed.
    peer.client._ssl_context = context
    peer.connect()
    peer.subscribe(topic)
    peer.publish(topic, b"x")
    assert peer.receive().payload == b"x"
    peer.disconnect()


def test_an_optional_certificate_may_be_shown(transports, topic):
    peer = transports.via["optional"].peer("5")
    peer.client._ssl_context = transports.pki.context("client")
    peer.connect().disconnect()


def served_serial(via):
    """The number of the certificate that the broker shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with via.wire() as wire, context.wrap_socket(wire) as tls:
        return tls.getpeercert(binary_form=True)


def test_sighup_swaps_certificates_and_leaves_connections_alone(topic):
    pki = Pki()
    broker = AllTransports(2, pki)
    ways = [broker.via[kind] for kind in ("tls", "wss")]
    old = [served_serial(via) for via in ways]
    subscriber = broker.via["tls"].peer("5").connect()
    subscriber.subscribe(topic, qos=1)

    pki.issue("server", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    broker.process.send_signal(signal.SIGHUP)
    # Told by the log of each listener with certificates: tls, mtls, optional, wss.
    broker.await_log("certificates read again", 4)
    new = [served_serial(via) for via in ways]
    assert all(before != after for before, after in zip(old, new))

    # A key that does not fit leaves all as it is.
    pki.issue("other", "ca", "subjectAltName=DNS:localhost")
    os.replace(pki.path("other.key"), pki.path("server.key"))
    broker.process.send_signal(signal.SIGHUP)
    broker.await_log("certificates kept", 4)
    assert [served_serial(via) for via in ways] == new

    with_new = broker.via["wss"].peer("5").connect()
    with_new.publish(topic, b"over both", qos=1)
    assert subscriber.receive().payload == b"over both"
    with_new.disconnect()
    subscriber.disconnect()
    assert broker.stop() == 0
    pki.remove()


def test_clients_are_told_of_a_stop(topic):
    pki = Pki()
    broker = AllTransports(2, pki)
    peers = [via.peer("5").connect() for via in broker.via.values() for _ in range(2)]
    assert broker.stop() == 0
    assert [peer.ended() for peer in peers] == [0x8B] * len(peers)
    pki.remove()


def test_what_waits_for_a_slow_reader_arrives_whole_and_in_order(transports, via, topic):
    publisher, subscriber = transports.via["tcp"].peer("5").connect(), via.peer("5").connect()
    subscriber.subscribe(topic, qos=1)
    # It reads nothing for as long as its thread rests.
    subscriber.client.loop_stop()
    payloads = [os.urandom(256 * 1024) for _ in range(30)]
    for payload in payloads:
        publisher.publish(topic, payload, qos=1)
    subscriber.client.loop_start()
    assert [message.payload for message in subscriber.receive_many(30)] == payloads
    publisher.disconnect()
    subscriber.disconnect()


def test_new_certificates_under_load_fail_no_connection(topic):
    pki = Pki()
    broker = AllTransports(2, pki)
    stop, failures, connected = threading.Event(), [], [0, 0, 0, 0]

    def come_and_go(number):
        via = broker.via[("tls", "mtls", "optional", "wss")[number]]
        while not stop.is_set():
            try:
                peer = via.peer("5").connect()
                peer.subscribe(f"{topic}/{number}", qos=1)
                peer.publish(f"{topic}/{number}", b"x", qos=1)
                assert peer.receive().payload == b"x"
                peer.disconnect()
                connected[number] += 1
            except Exception as failure:
                failures.append(failure)
                return

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        # Key and certificate are replaced one after the other, and read at any time in between.
        broker.process.send_signal(signal.SIGHUP)
        pki.issue("server", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        broker.process.send_signal(signal.SIGHUP)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == [] and min(connected) > 0, (failures, connected)
    assert broker.stop() == 0
    pki.remove()


def test_one_connection_too_many_is_told_so_in_any_layer():
    pki = Pki()
    listen = ["--listen", "tls://127.0.0.1:0", "--listen", "ws://127.0.0.1:0"]
    listen += ["--tls-certificate", pki.path("server.pem"), "--tls-key", pki.path("server.key")]
    broker = Broker("--shards", "2", "--connections-max", "4", listen=listen)
    ways = [Via(kind, address, pki) for kind, address in zip(("tls", "ws"), broker.addresses, strict=True)]
    peers = [via.peer("5").connect() for via in ways for _ in range(2)]
    for via in ways:
        with pytest.raises(AssertionError, match="Quota exceeded"):
            via.peer("5").connect()
    for peer in peers:
        peer.disconnect()
    assert broker.stop() == 0
    pki.remove()
