"""The program: its exit codes, its checks, and its way down."""

import json
import signal
import socket
import subprocess

import pytest

from conftest import Broker, Peer, binary


def run(*args):
    return subprocess.run([binary(), *args], capture_output=True, text=True)


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clients_are_told_of_a_stop(shards, number):
    broker = Broker("--shards", str(shards))
    peers = [Peer(broker.port, "5").connect() for _ in range(8)]
    assert broker.stop(number) == 0
    assert [peer.ended() for peer in peers] == [0x8B] * 8


def test_a_message_that_was_acknowledged_before_the_stop_is_delivered(topic):
    broker = Broker("--shards", "2")
    publisher, subscriber = (Peer(broker.port, "5").connect() for _ in range(2))
    subscriber.subscribe(topic, qos=1)
    for payload in range(100):
        publisher.publish(topic, str(payload), qos=1)
    assert broker.stop() == 0
    assert [int(message.payload) for message in subscriber.receive_many(100)] == list(range(100))


def test_a_bad_configuration_is_refused(tmp_path):
    path = tmp_path / "ringmq.toml"
    path.write_text("[limits]\nrecieve_maximum = 1\n")
    refused = run("--config", str(path))
    assert refused.returncode == 2
    expect = f"{path}:2:1: unknown key recieve_maximum in [limits]: did you mean receive_maximum?\n"
    assert refused.stderr == expect
    assert run("check", str(path)).stderr == expect


def test_a_configuration_file_is_obeyed(tmp_path, topic):
    path = tmp_path / "ringmq.toml"
    path.write_text('shards = 1\n[limits]\npacket_bytes_max = "64KiB"\nreceive_maximum = 7\n')
    assert run("check", str(path)).returncode == 0
    broker = Broker("--config", str(path))
    peer = Peer(broker.port, "5").connect()
    assert (peer.properties.MaximumPacketSize, peer.properties.ReceiveMaximum) == (65536, 7)
    peer.send(topic, bytes(70_000))
    assert peer.ended() == 0x95
    assert broker.stop() == 0


def test_one_connection_too_many_is_refused():
    broker = Broker("--shards", "2", "--connections-max", "10")
    peers = [Peer(broker.port, "5").connect() for _ in range(10)]
    extra = Peer(broker.port, "5")
    with pytest.raises(AssertionError, match="Quota exceeded"):
        extra.connect()
    peers.pop().disconnect()
    assert broker.stop() == 0
    assert [peer.ended() for peer in peers] == [0x8B] * 9


def test_doctor_reports():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = "127.0.0.1:%d" % holder.getsockname()[1]
        report = run("doctor", "--json", "--listen", address)
    assert report.returncode == 1
    verdicts = {check["name"]: check["verdict"] for check in json.loads(report.stdout)["checks"]}
    assert verdicts["listen"] == "fail"
    assert run("doctor", "--listen", "127.0.0.1:0").returncode == 0


def test_sys_topics(topic):
    broker = Broker("--sys-interval-s", "1", "--shards", "2")
    peer = Peer(broker.port, "5").connect()
    peer.subscribe("$SYS/broker/#")
    seen = {}
    while seen.get("$SYS/broker/clients/connected") != b"1":
        message = peer.receive()
        seen[message.topic] = message.payload
    assert broker.stop() == 0
