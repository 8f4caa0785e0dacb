// What MQTT.js does with a broker: `node mqttjs.cjs URL VERSION TOPIC [CA]`. Ends with 0 if all is as it
// should be, and with a sentence otherwise. NODE_PATH leads to the module `mqtt`.
"use strict";

const fs = require("node:fs");
const { once } = require("node:events");
const assert = require("node:assert");
const mqtt = require("mqtt");

const [url, version, topic, ca] = process.argv.slice(2);
const PAYLOAD_BYTES = 1024 * 1024;
const DEADLINE_MS = 30_000;

function options(more) {
  return {
    protocolVersion: Number(version),
    reconnectPeriod: 0,
    connectTimeout: DEADLINE_MS,
    ...(ca ? { ca: fs.readFileSync(ca) } : {}),
    ...more,
  };
}

// A client, with its messages as they come.
async function connect(more) {
  const client = await mqtt.connectAsync(url, options(more));
  client.inbox = [];
  client.on("message", (name, payload, packet) => {
    client.inbox.push({ name, payload, qos: packet.qos });
    client.emit("kept");
  });
  return client;
}

async function receive(client) {
  while (client.inbox.length === 0) await once(client, "kept");
  return client.inbox.shift();
}

async function main() {
  const subscriber = await connect();
  const publisher = await connect();
  const granted = await subscriber.subscribeAsync(topic, { qos: 2 });
  assert.strictEqual(granted[0].qos, 2);

  for (const qos of [0, 1, 2]) {
    await publisher.publishAsync(topic, `at ${qos}`, { qos });
    const got = await receive(subscriber);
    assert.deepStrictEqual([got.name, got.payload.toString(), got.qos], [topic, `at ${qos}`, qos]);
  }

  const large = Buffer.alloc(PAYLOAD_BYTES);
  for (let at = 0; at < PAYLOAD_BYTES; at++) large[at] = at % 251;
  for (const qos of [0, 1, 2]) {
    await publisher.publishAsync(topic, large, { qos });
    const got = await receive(subscriber);
    assert.ok(got.payload.equals(large), `${PAYLOAD_BYTES} bytes arrive as they were sent`);
  }

  for (let number = 0; number < 1000; number++) publisher.publish(topic, String(number), { qos: 1 });
  for (let number = 0; number < 1000; number++) {
    assert.strictEqual((await receive(subscriber)).payload.toString(), String(number));
  }

  const dying = await connect({ will: { topic, payload: Buffer.from("gone"), qos: 1, retain: false } });
  dying.stream.destroy();
  assert.strictEqual((await receive(subscriber)).payload.toString(), "gone");

  await publisher.endAsync();
  await subscriber.endAsync();
}

const late = setTimeout(() => {
  console.error("not done in time");
  process.exit(1);
}, DEADLINE_MS);

main().then(
  () => clearTimeout(late),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
