"""What only MQTT 5 has."""

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions


@pytest.fixture
def version():
    return "5"


def publish_properties(**values):
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def test_properties_reach_the_subscriber_unaltered(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, qos=1)
    sent = publish_properties(
        PayloadFormatIndicator=1,
        ContentType="text/plain",
        ResponseTopic="answers/" + topic,
        CorrelationData=b"\x00\x01\x02",
        UserProperty=[("a", "1"), ("b", "2"), ("a", "3")],
        MessageExpiryInterval=100,
    )
    publisher.publish(topic, b"x", qos=1, properties=sent)
    got = subscriber.receive().properties
    for name in ("PayloadFormatIndicator", "ContentType", "ResponseTopic", "CorrelationData", "UserProperty"):
        assert getattr(got, name) == getattr(sent, name), name
    assert 98 <= got.MessageExpiryInterval <= 100


def test_subscription_identifiers_come_back(connect, topic):
    publisher, subscriber = connect(), connect()
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = 4711
    subscriber.subscribe(topic, properties=properties)
    publisher.publish(topic, b"x")
    assert subscriber.receive().properties.SubscriptionIdentifier == [4711]


def test_no_local(connect, topic):
    peer, other = connect(), connect()
    peer.subscribe(topic, options=SubscribeOptions(qos=1, noLocal=True))
    peer.publish(topic, b"own", qos=1)
    other.publish(topic, b"other's", qos=1)
    assert peer.receive().payload == b"other's"


@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published(connect, topic, as_published):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic, options=SubscribeOptions(retainAsPublished=as_published))
    publisher.publish(topic, b"x", retain=True)
    assert subscriber.receive().retain == as_published


@pytest.mark.parametrize("handling, expect", [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
def test_retain_handling(connect, topic, handling, expect):
    publisher, subscriber = connect(), connect()
    publisher.publish(topic, b"kept", qos=1, retain=True)
    subscriber.subscribe(topic + "/marker", qos=1)
    for times in expect:
        subscriber.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=handling))
        # A retained message is on its way once the SUBACK is; the marker follows both.
        subscriber.publish(topic + "/marker", qos=1)
        received = [subscriber.receive().topic for _ in range(times + 1)]
        assert sorted(received) == sorted([topic] * times + [topic + "/marker"])


def test_limits_are_announced(connect):
    properties = connect().properties
    assert properties.ReceiveMaximum == 1024
    assert properties.MaximumPacketSize == 16 * 1024 * 1024
    assert properties.TopicAliasMaximum == 256


def test_an_empty_client_id_is_assigned(connect):
    from conftest import Peer

    first = connect()
    peer = Peer(first.port, "5")
    peer.client._client_id = b""
    peer.connect()
    assert peer.properties.AssignedClientIdentifier
    peer.disconnect()


def test_topic_aliases_towards_the_broker(connect, topic):
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(topic)
    publisher.send(topic, b"1", properties=publish_properties(TopicAlias=7))
    publisher.send("", b"2", properties=publish_properties(TopicAlias=7))
    assert [(message.topic, message.payload) for message in subscriber.receive_many(2)] == [
        (topic, b"1"),
        (topic, b"2"),
    ]


def test_topic_aliases_towards_the_client(connect, topic):
    publisher = connect()
    subscriber = connect(options={"TopicAliasMaximum": 4})
    subscriber.subscribe(topic + "/#")
    # paho does not resolve aliases, so a topic that is known by its alias comes empty.
    for number in range(3):
        publisher.publish(f"{topic}/{number % 2}", str(number))
    messages = subscriber.receive_many(3)
    assert [message.payload for message in messages] == [b"0", b"1", b"2"]
    assert messages[2].topic == "" and messages[2].properties.TopicAlias == messages[0].properties.TopicAlias


def test_a_slow_acknowledger_gets_its_receive_maximum_only(connect, topic):
    publisher = connect()
    subscriber = connect(options={"ReceiveMaximum": 2})
    subscriber.client.manual_ack_set(True)
    subscriber.subscribe(topic, qos=1)
    for number in range(5):
        publisher.publish(topic, str(number), qos=1)
    held = subscriber.receive_many(2)
    # QoS 0 is not bounded, so it passes: three messages are held back.
    publisher.publish(topic, b"passes", qos=0)
    assert subscriber.receive().payload == b"passes"
    while held:
        message = held.pop(0)
        subscriber.client.ack(message.mid, message.qos)
        if int(message.payload) + 2 < 5:
            held.append(subscriber.receive())
            assert int(held[-1].payload) == int(message.payload) + 2


def test_message_expiry_while_away(connect, topic):
    publisher, subscriber = connect(), connect(clean=False)
    subscriber.subscribe(topic, qos=1)
    subscriber.disconnect()
    publisher.publish(topic, b"kept", qos=1, properties=publish_properties(MessageExpiryInterval=1000))
    publisher.publish(topic, b"ever", qos=1)
    back = connect(subscriber.client_id, clean=False)
    message = back.receive()
    assert message.payload == b"kept" and message.properties.MessageExpiryInterval <= 1000
    assert not hasattr(back.receive().properties, "MessageExpiryInterval")


def test_a_session_may_end_with_its_connection(connect):
    peer = connect(clean=False, expiry_s=0)
    peer.disconnect()
    assert not connect(peer.client_id, clean=False).flags.session_present


def test_reason_codes_of_acknowledgements(connect, topic):
    publisher, subscriber = connect(), connect()
    publisher.publish(topic, b"x", qos=1)
    assert publisher.acked.get(timeout=30)[1].value == 0x10
    subscriber.subscribe(topic)
    publisher.publish(topic, b"x", qos=1)
    assert publisher.acked.get(timeout=30)[1].value == 0
    subscriber.unsubscribe(topic)
    result, mid = subscriber.client.unsubscribe(topic)
    assert subscriber.unsubacks.get(timeout=30)[1][0].value == 0x11


def test_a_will_that_is_delayed_is_cancelled_by_coming_back(connect, topic):
    watcher, publisher = connect(), connect()
    watcher.subscribe(topic, topic + "/marker")
    properties = Properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = 3600
    will = {"topic": topic, "payload": b"gone", "properties": properties}
    client = connect(clean=False, will=will)
    client.die()
    connect(client.client_id, clean=False)
    publisher.publish(topic + "/marker", qos=1)
    assert watcher.receive().topic == topic + "/marker"
