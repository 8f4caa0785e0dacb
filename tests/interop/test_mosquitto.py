"""mosquitto_pub and mosquitto_sub."""

import shutil
import subprocess
import uuid

import pytest

from conftest import DEADLINE_S

IS_MISSING = shutil.which("mosquitto_sub") is None
pytestmark = pytest.mark.skipif(IS_MISSING, reason="mosquitto-clients is not installed")

FLAGS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv5"}


def tool(name, broker, version, *args, **kwargs):
    command = [name, "-h", "127.0.0.1", "-p", str(broker.port), "-V", FLAGS[version], *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True, **kwargs)
    return done.stdout


@pytest.mark.parametrize("qos", "012")
def test_messages_wait_for_a_subscriber(broker, version, topic, qos):
    # What is retained waits at any QoS.
    tool("mosquitto_pub", broker, version, "-t", topic, "-m", "kept", "-q", qos, "-r")
    out = tool("mosquitto_sub", broker, version, "-t", topic, "-q", qos, "-C", "1", "-F", "%t %p %q %r")
    assert out == f"{topic} kept {qos} 1\n"


@pytest.mark.parametrize("qos", "12")
def test_a_session_queues(broker, version, topic, qos):
    # Short, for MQTT 3.1.
    session = ["-i", uuid.uuid4().hex[:20], "-c", "-q", qos, "-t", topic]
    if version == "5":
        session += ["-x", "3600"]
    # Leaves once it is subscribed.
    tool("mosquitto_sub", broker, version, *session, "-E")
    lines = "".join(f"{number}\n" for number in range(100))
    tool("mosquitto_pub", broker, version, "-t", topic, "-q", qos, "-l", input=lines)
    assert tool("mosquitto_sub", broker, version, *session, "-C", "100") == lines


def test_a_live_subscriber(broker, version, topic):
    command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-h", "127.0.0.1", "-p", str(broker.port)]
    command += ["-V", FLAGS[version], "-t", topic + "/#", "-C", "3", "-F", "got %p", "-W", str(DEADLINE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as subscriber:
        lines = iter(subscriber.stdout.readline, "")
        assert any(line.startswith("Subscribed") for line in lines)
        for number in range(3):
            tool("mosquitto_pub", broker, version, "-t", f"{topic}/{number}", "-m", str(number), "-q", "1")
        got = [line.strip() for line in lines if line.startswith("got ")]
        assert got == ["got 0", "got 1", "got 2"]
        assert subscriber.wait(DEADLINE_S) == 0
