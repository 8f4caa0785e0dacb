"""Who breaks the rules of TLS or WebSocket is turned away, told so, and counted; others are served on."""

import base64
import os
import socket
import ssl
import struct
import warnings

import pytest


# CONNECT of MQTT 3.1.1, clean, Keep Alive 60, client id "raw"; and what answers it.
CONNECT = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03raw"
CONNACK = b"\x20\x02\x00\x00"

UPGRADE = (
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
BINARY, TEXT, CLOSE, PING, PONG = 2, 1, 8, 9, 10


def read_to_end(wire):
    """All that comes until the broker ends the connection, which it must."""
    received = b""
    while True:
        try:
            piece = wire.recv(65536)
        except ConnectionResetError:
            # What it had not read is no reason to wait for more.
            return received
        if not piece:
            return received
        received += piece


def read_exactly(wire, count):
    received = b""
    while len(received) < count:
        piece = wire.recv(count - len(received))
        assert piece, f"the end after {received!r}"
        received += piece
    return received


def upgrade(wire, more="Sec-WebSocket-Protocol: mqtt\r\n"):
    """Asks for WebSocket; the head of the answer."""
    wire.sendall(UPGRADE.format(key=base64.b64encode(os.urandom(16)).decode(), more=more).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(wire, 1)
    return head.decode()


def frame(opcode, payload, fin=True, masked=True, length=None):
    """A client's frame, which may claim to be longer than it is."""
    length = len(payload) if length is None else length
    head = bytes([opcode | (0x80 if fin else 0)])
    bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += struct.pack("!BH", bit | 126, length)
    else:
        head += struct.pack("!BQ", bit | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read_frame(wire):
    """The broker's next frame: its opcode and payload."""
    first, length = read_exactly(wire, 2)
    assert first & 0x80 and length < 126, "short frames are all that is asked for here"
    return first & 0x0F, read_exactly(wire, length)


def close_code(wire):
    """The code that the broker closes with."""
    opcode, payload = read_frame(wire)
    assert opcode == CLOSE
    return struct.unpack("!H", payload[:2])[0]


@pytest.fixture
def serves(transports, topic):
    """Checks after the test that the broker goes on serving."""
    yield
    for kind in ("tcp", "tls", "ws", "wss", "unix"):
        peer = transports.via[kind].peer("5").connect()
        peer.subscribe(topic, qos=1)
        peer.publish(topic, kind.encode(), qos=1)
        assert peer.receive().payload == kind.encode()
        peer.disconnect()


pytestmark = pytest.mark.usefixtures("serves")


@pytest.mark.parametrize("kind", ["tls", "wss", "mtls"])
def test_a_plain_client_on_a_port_with_tls(transports, kind):
    with transports.via[kind].wire() as wire:
        wire.sendall(CONNECT)
        # An alert of TLS, or nothing; no CONNACK.
        assert CONNACK not in read_to_end(wire)
    transports.expect_end("not_tls")


def test_http_on_a_port_with_tls(transports):
    with transports.via["wss"].wire() as wire:
        wire.sendall(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_to_end(wire)
    assert b"HTTP/1.1 400" in answer and b"wss://" in answer
    transports.expect_end("not_tls")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_client_with_tls_on_a_plain_port(transports, kind):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with transports.via[kind].wire() as wire, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(wire)
    transports.expect("clients/violations")


@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_a_client_without_websocket(transports, kind):
    via = transports.via[kind]
    wire = via.wire()
    if via.context:
        wire = via.context.wrap_socket(wire, server_hostname="localhost")
    with wire:
        wire.sendall(CONNECT)
        # Whoever does not speak HTTP is not answered in HTTP.
        assert read_to_end(wire) == b""
    transports.expect_end("not_websocket")


def hello(via):
    """The first bytes of a client's TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = via.pki.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("kind", ["tls", "wss"])
@pytest.mark.parametrize("part", ["none", "half", "hello"])
def test_silence_amid_a_handshake(transports, kind, part):
    via = transports.via[kind]
    with via.wire() as wire:
        greeting = hello(via)
        wire.sendall(greeting[: {"none": 0, "half": len(greeting) // 2, "hello": len(greeting)}[part]])
        # Ended by the broker, after a second.
        read_to_end(wire)
    transports.expect_end("timed_out")


@pytest.mark.parametrize("kind", ["tls", "wss"])
def test_a_cut_amid_a_handshake(transports, kind):
    via = transports.via[kind]
    with via.wire() as wire:
        wire.sendall(hello(via)[:50])
    transports.expect_end("gone")


def test_a_head_without_an_end(transports):
    with transports.via["ws"].wire() as wire:
        wire.sendall(b"GET /mqtt HTTP/1.1\r\n" + b"Cookie: x\r\n" * 1000)
        assert read_to_end(wire)[:12] in (b"HTTP/1.1 431", b"")
    transports.expect_end("not_websocket")


def test_silence_amid_an_upgrade(transports):
    with transports.via["ws"].wire() as wire:
        wire.sendall(b"GET /mqtt HTTP/1.1\r\nHost: loc")
        read_to_end(wire)
    transports.expect_end("timed_out")


def test_a_version_of_tls_that_is_too_old(transports):
    via = transports.via["tls"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # OpenSSL offers it at this level of security only.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with via.wire() as wire, pytest.raises(ssl.SSLError):
        context.wrap_socket(wire)
    transports.expect_end("tls_handshake")


def tls_over(wire, context):
    """A TLS session over a socket whose bytes can be seen and added to."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            wire.sendall(outgoing.read())
            return tls, incoming, outgoing
        except ssl.SSLWantReadError:
            wire.sendall(outgoing.read())
            incoming.write(wire.recv(65536))


def test_bytes_that_are_no_record_after_the_handshake(transports):
    via = transports.via["tls"]
    with via.wire() as wire:
        tls, incoming, outgoing = tls_over(wire, via.context)
        tls.write(CONNECT)
        wire.sendall(outgoing.read())
        received = b""
        while not received:
            incoming.write(wire.recv(65536))
            try:
                received = tls.read()
            except ssl.SSLWantReadError:
                pass
        assert received == CONNACK
        wire.sendall(CONNECT)
        read_to_end(wire)
    transports.expect_end("tls_record")


def test_a_record_that_was_tampered_with(transports):
    via = transports.via["tls"]
    with via.wire() as wire:
        tls, _, outgoing = tls_over(wire, via.context)
        tls.write(CONNECT)
        record = bytearray(outgoing.read())
        record[-1] ^= 1
        wire.sendall(record)
        read_to_end(wire)
    transports.expect_end("tls_record")


@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "POST /mqtt HTTP/1.1", "GET /mqtt HTTP/1.0"])
def test_http_that_asks_for_no_websocket(transports, request_line):
    with transports.via["ws"].wire() as wire:
        wire.sendall(f"{request_line}\r\nHost: localhost\r\n\r\n".encode())
        assert read_to_end(wire).startswith(b"HTTP/1.1 4")
    transports.expect_end("not_websocket")


@pytest.mark.parametrize("more", ["", "Sec-WebSocket-Protocol: chat, soap\r\n"])
def test_an_upgrade_without_the_subprotocol(transports, more):
    with transports.via["ws"].wire() as wire:
        assert upgrade(wire, more).startswith("HTTP/1.1 400")
        read_to_end(wire)
    transports.expect_end("subprotocol")


def connected(wire):
    """Upgrades and connects."""
    head = upgrade(wire)
    assert head.startswith("HTTP/1.1 101") and "mqtt" in head.lower()
    wire.sendall(frame(BINARY, CONNECT))
    assert read_frame(wire) == (BINARY, CONNACK)


# The beginning of a PUBLISH of 3 MiB at QoS 0.
LONG_PUBLISH = b"\x30\x80\x80\xc0\x01\x00\x01t" + bytes(1024 * 1024)

FRAMES = {
    "text": (frame(TEXT, CONNECT), 1003, "frame_text"),
    "too large": (frame(BINARY, b"", length=2 * 1024 * 1024 + 1), 1009, "frame_too_large"),
    "too large to be": (frame(BINARY, b"", length=1 << 62), 1009, "frame_too_large"),
    "parts too large": (
        frame(BINARY, LONG_PUBLISH, fin=False) + frame(0, b"", length=1024 * 1024 + 1),
        1009,
        "frame_too_large",
    ),
    "unmasked": (frame(BINARY, CONNECT, masked=False), 1002, "websocket_frame"),
    "unknown": (frame(3, CONNECT), 1002, "websocket_frame"),
    "reserved bit": (frame(BINARY | 0x40, CONNECT), 1002, "websocket_frame"),
    "nothing to continue": (frame(0, CONNECT), 1002, "websocket_frame"),
    "cut control": (frame(PING, b"x", fin=False), 1002, "websocket_frame"),
    "long control": (frame(PING, bytes(126)), 1002, "websocket_frame"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_break_the_rules(transports, name):
    """[MQTT-6.0.0-1]: what is no binary frame ends the connection."""
    bad, code, reason = FRAMES[name]
    with transports.via["ws"].wire() as wire:
        connected(wire)
        wire.sendall(bad)
        assert close_code(wire) == code
        read_to_end(wire)
    transports.expect_end(reason)


def test_frames_cut_packets_as_they_like(transports):
    """[MQTT-6.0.0-2]: packets do not begin and end with frames."""
    subscribe = b"\x82\x06\x00\x01\x00\x01t\x00"
    with transports.via["ws"].wire() as wire:
        upgrade(wire)
        # One byte a frame, a packet over parts of a message, and two packets in one frame.
        for byte in CONNECT:
            wire.sendall(frame(BINARY, bytes([byte])))
        assert read_frame(wire) == (BINARY, CONNACK)
        wire.sendall(frame(BINARY, subscribe[:3], fin=False) + frame(PING, b"hi") + frame(0, subscribe[3:]))
        assert sorted(read_frame(wire) for _ in range(2)) == [(BINARY, b"\x90\x03\x00\x01\x00"), (PONG, b"hi")]
        wire.sendall(frame(BINARY, subscribe + b"\xc0\x00"))
        received = b""
        while len(received) < 7:
            received += read_frame(wire)[1]
        # A PINGRESP need not wait for a SUBACK.
        suback, pingresp = b"\x90\x03\x00\x01\x00", b"\xd0\x00"
        assert received in (suback + pingresp, pingresp + suback)
        wire.sendall(frame(CLOSE, struct.pack("!H", 1000)))
        assert close_code(wire) == 1000
        assert read_to_end(wire) == b""


def test_a_storm_of_bad_clients(transports):
    """A hundred at a time, of all kinds, and one good client that does not notice."""
    via = transports.via
    good = via["wss"].peer("5").connect()
    good.subscribe("storm")
    bad = []
    for number in range(100):
        wire = via[("tls", "wss")[number % 2]].wire()
        wire.sendall(CONNECT)
        bad.append(wire)
    for number in range(100):
        good.publish("storm", str(number), qos=1)
    assert [int(message.payload) for message in good.receive_many(100)] == list(range(100))
    for wire in bad:
        read_to_end(wire)
        wire.close()
    good.disconnect()
    transports.expect_end("not_tls", 100)


def test_a_close_notify_ends_a_connection_in_peace(transports):
    """Which is no fault, but no DISCONNECT either: the will is published."""
    via = transports.via["tls"]
    watcher = transports.via["tcp"].peer("5").connect()
    watcher.subscribe("peace")
    body = b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x05peace\x00\x05peace\x00\x02ok"
    with via.wire() as wire:
        tls, _, outgoing = tls_over(wire, via.context)
        tls.write(b"\x10" + bytes([len(body)]) + body)
        wire.sendall(outgoing.read())
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        wire.sendall(outgoing.read())
        wire.shutdown(socket.SHUT_WR)
        read_to_end(wire)
    assert watcher.receive().payload == b"ok"
    watcher.disconnect()


