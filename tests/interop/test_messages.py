"""Messages from one client to others, in every version of the protocol."""

import queue

import pytest

from conftest import DEADLINE_S


def test_every_qos_to_every_qos(connect, topic):
    publisher, subscribers = connect(), [connect() for _ in range(3)]
    for granted, subscriber in enumerate(subscribers):
        assert subscriber.subscribe(topic, qos=granted) == [granted]
    for qos in range(3):
        publisher.publish(topic, b"at %d" % qos, qos=qos)
        for granted, subscriber in enumerate(subscribers):
            message = subscriber.receive()
            assert (message.topic, message.payload) == (topic, b"at %d" % qos)
            assert message.qos == min(qos, granted)
            assert not message.retain


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_thousand_messages_arrive_once_and_in_order(connect, topic, qos):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, qos=qos)
    for number in range(1000):
        publisher.send(topic, str(number), qos=qos)
    received = [int(message.payload) for message in subscriber.receive_many(1000)]
    assert received == list(range(1000))


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 1024 * 1024])
def test_payloads_of_all_sizes(connect, topic, size):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, qos=2)
    payload = bytes(number % 251 for number in range(size))
    for qos in range(3):
        publisher.publish(topic, payload, qos=qos)
        assert subscriber.receive().payload == payload


def test_wildcards(connect, topic):
    publisher, subscriber = connect(), connect()
    table = [
        (f"{topic}/+", f"{topic}/a", True),
        (f"{topic}/+", f"{topic}/a/b", False),
        (f"{topic}/+", f"{topic}", False),
        (f"{topic}/#", f"{topic}", True),
        (f"{topic}/#", f"{topic}/a/b/c", True),
        (f"{topic}/+/c", f"{topic}/b/c", True),
        (f"{topic}/+/c", f"{topic}//c", True),
        (f"{topic}/+/c", f"{topic}/b/d", False),
        (f"+/{topic[2:]}/x", f"{topic}/x", True),
    ]
    # Comes after whatever a filter let through, for one publisher's messages keep their order.
    marker = f"marker/{topic}"
    subscriber.subscribe(marker)
    for wanted, name, matches in table:
        subscriber.subscribe(wanted)
        publisher.send(name, b"x")
        publisher.send(marker)
        expect = [name, marker] if matches else [marker]
        assert [subscriber.receive().topic for _ in expect] == expect, (wanted, name)
        subscriber.unsubscribe(wanted)


def test_dollar_topics_hide_from_leading_wildcards(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe("+/" + topic, "#")
    publisher.send("$hidden/" + topic, b"x")
    publisher.send("seen/" + topic, b"x")
    # Overlapping subscriptions may or may not give two copies.
    assert subscriber.receive().topic == "seen/" + topic


def test_many_filters_in_one_subscribe(connect, topic):
    publisher, subscriber = connect(), connect()
    names = [f"{topic}/{number}" for number in range(50)]
    assert subscriber.subscribe(*names, qos=1) == [1] * 50
    for name in names:
        publisher.send(name, qos=1)
    assert [message.topic for message in subscriber.receive_many(50)] == names


def test_nothing_comes_after_an_unsubscribe(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, topic + "/marker")
    subscriber.unsubscribe(topic)
    publisher.send(topic, b"unwanted")
    publisher.send(topic + "/marker")
    assert subscriber.receive().topic == topic + "/marker"


def test_retained_messages_wait_for_late_subscribers(connect, topic):
    publisher = connect()
    publisher.publish(topic, b"first", qos=1, retain=True)
    publisher.publish(topic, b"second", qos=1, retain=True)
    early = connect()
    early.subscribe(topic, qos=1)
    message = early.receive()
    assert (message.payload, message.retain, message.qos) == (b"second", True, 1)
    # What is published to a subscription that exists is not marked.
    publisher.publish(topic, b"third", qos=1, retain=True)
    assert not early.receive().retain
    # An empty payload clears it.
    publisher.publish(topic, b"", qos=1, retain=True)
    late = connect()
    late.subscribe(topic, topic + "/marker", qos=1)
    publisher.publish(topic + "/marker", qos=1)
    assert late.receive().topic == topic + "/marker"


def test_a_hundred_retained_messages_match_a_wildcard(connect, topic):
    publisher, subscriber = connect(), connect()
    for number in range(100):
        publisher.publish(f"{topic}/{number}/x", str(number), qos=1, retain=True)
    subscriber.subscribe(f"{topic}/+/x", qos=1)
    received = sorted(int(message.payload) for message in subscriber.receive_many(100))
    assert received == list(range(100))


def test_versions_mix(connect, broker, topic):
    subscribers = [connect(version=version) for version in ("3.1", "3.1.1", "5")]
    for subscriber in subscribers:
        subscriber.subscribe(topic, qos=1)
    connect().publish(topic, b"to all", qos=1)
    assert [subscriber.receive().payload for subscriber in subscribers] == [b"to all"] * 3


def test_shared_subscriptions_divide_the_messages(connect, topic):
    publisher, members, witness = connect(), [connect() for _ in range(4)], connect()
    inbox = queue.Queue()
    for number, member in enumerate(members):
        member.client.on_message = lambda c, u, message, number=number: inbox.put((number, message))
        member.subscribe(f"$share/group/{topic}/#", qos=1)
    witness.subscribe(f"{topic}/#", qos=1)
    for number in range(200):
        publisher.publish(f"{topic}/{number % 7}", str(number), qos=1)
    assert [int(message.payload) for message in witness.receive_many(200)] == list(range(200))
    received = [inbox.get(timeout=DEADLINE_S) for _ in range(200)]
    assert sorted(int(message.payload) for _, message in received) == list(range(200))
    assert {member for member, _ in received} == set(range(4))
