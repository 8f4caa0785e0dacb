"""MQTT.js over TCP, TLS and WebSocket, in mqttjs.cjs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import DEADLINE_S, ROOT

MODULES = Path(os.environ.get("RINGMQ_NODE_MODULES", ROOT / "target/interop-node/node_modules"))
IS_MISSING = shutil.which("node") is None or not (MODULES / "mqtt").exists()
pytestmark = pytest.mark.skipif(IS_MISSING, reason="node or MQTT.js is not installed; .ci/run installs both")


@pytest.mark.parametrize("version", ["4", "5"], ids=["3.1.1", "5"])
@pytest.mark.parametrize("kind", ["tcp", "tls", "ws", "wss"])
def test_everything_that_a_client_does(transports, topic, kind, version):
    via = transports.via[kind]
    command = ["node", str(Path(__file__).with_name("mqttjs.cjs")), via.url, version, topic]
    if via.context:
        command.append(via.pki.path("ca.pem"))
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
        env={**os.environ, "NODE_PATH": str(MODULES)},
    )
    assert (done.returncode, done.stderr) == (0, "")
