"""What outlives a connection, and what its end causes."""

import pytest


@pytest.mark.parametrize("qos", [1, 2])
def test_a_hundred_messages_wait_for_a_client_that_is_away(connect, topic, qos):
    publisher, subscriber = connect(), connect(clean=False)
    assert not subscriber.flags.session_present
    subscriber.subscribe(topic, qos=qos)
    subscriber.disconnect()
    for number in range(100):
        publisher.publish(topic, str(number), qos=qos)
    back = connect(subscriber.client_id, clean=False)
    # MQTT 3.1 has no such flag.
    assert back.flags.session_present or back.client.protocol == 3
    received = [int(message.payload) for message in back.receive_many(100)]
    assert received == list(range(100))
    # And the subscription is still there.
    publisher.publish(topic, b"100", qos=qos)
    assert back.receive().payload == b"100"


def test_a_clean_session_forgets(connect, topic):
    publisher, subscriber = connect(), connect(clean=False)
    subscriber.subscribe(topic, qos=1)
    subscriber.disconnect()
    publisher.publish(topic, b"lost", qos=1)
    back = connect(subscriber.client_id, clean=True)
    assert not back.flags.session_present
    back.subscribe(topic, qos=1)
    publisher.publish(topic, b"found", qos=1)
    assert back.receive().payload == b"found"


def test_messages_survive_a_cut_connection(connect, topic):
    publisher, subscriber = connect(), connect(clean=False)
    subscriber.subscribe(topic, qos=1)
    publisher.publish(topic, b"before", qos=1)
    assert subscriber.receive().payload == b"before"
    subscriber.die()
    for number in range(10):
        publisher.publish(topic, str(number), qos=1)
    back = connect(subscriber.client_id, clean=False)
    received = []
    while len(received) < 10:
        message = back.receive()
        # What the cut kept from being acknowledged may come again.
        if message.payload != b"before":
            received.append(int(message.payload))
    assert received == list(range(10))


def test_a_second_connection_takes_the_session_over(connect, topic):
    publisher, first = connect(), connect(clean=False)
    first.subscribe(topic, qos=1)
    second = connect(first.client_id, clean=False)
    reason = first.ended()
    if first.is_v5:
        assert reason == 0x8E
    publisher.publish(topic, b"to the second", qos=1)
    assert second.receive().payload == b"to the second"
    assert first.messages.empty()


def test_takeovers_in_a_row(connect, topic):
    publisher, peers = connect(), [connect(clean=False)]
    peers[0].subscribe(topic, qos=1)
    for number in range(20):
        peers.append(connect(peers[0].client_id, clean=False))
        peers[-2].ended()
        publisher.publish(topic, str(number), qos=1)
        message = peers[-1].receive()
        # What the takeover kept from being acknowledged comes again, marked.
        while message.dup:
            message = peers[-1].receive()
        assert message.payload == b"%d" % number


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_is_published_when_a_client_dies(connect, topic, qos):
    watcher = connect()
    watcher.subscribe(topic, qos=2)
    client = connect(will={"topic": topic, "payload": b"gone", "qos": qos, "retain": True})
    client.die()
    message = watcher.receive()
    assert (message.payload, message.qos) == (b"gone", qos)
    late = connect()
    late.subscribe(topic, qos=2)
    assert late.receive().retain


def test_a_will_is_published_at_a_takeover(connect, topic):
    watcher = connect()
    watcher.subscribe(topic)
    client = connect(will={"topic": topic, "payload": b"taken over"})
    connect(client.client_id)
    assert watcher.receive().payload == b"taken over"


def test_no_will_after_a_disconnect(connect, topic):
    watcher, publisher = connect(), connect()
    watcher.subscribe(topic, topic + "/marker")
    connect(will={"topic": topic, "payload": b"gone"}).disconnect()
    publisher.publish(topic + "/marker", qos=1)
    assert watcher.receive().topic == topic + "/marker"
