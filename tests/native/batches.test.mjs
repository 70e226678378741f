// Batches at a real Express app as most are: its body parser takes 100 kB, and one event that it refuses is no reason to refuse others.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { Client, KEY, TENANT, startGateway } from "./support/gateway.mjs";

// It is in the lock file of the other tests.
const express = createRequire(new URL("../sdk/package.json", import.meta.url))("express");

let gateway, server, release;
/** Requests as they were answered, and the events that were taken. */
const answers = [];
const taken = [];

/** The events of a request. */
const listed = body => [body].flat();

before(async () => {
  const app = express();
  const held = new Promise(resolve => { release = resolve; });
  app.use(express.json({ type: ["application/cloudevents+json", "application/cloudevents-batch+json"] }));
  app.use(async (request, response) => {
    const events = listed(request.body);
    if (events[0].type === "wafergate.tunnel.connected") await held;
    const isPoisoned = events.some(event => event.data === "poison");
    answers.push({ id: request.get("webhook-id"), count: events.length, status: isPoisoned ? 400 : 204 });
    if (!isPoisoned) taken.push(...events.map(event => ({ ...event, webhook: request.get("webhook-id") })));
    response.sendStatus(isPoisoned ? 400 : 204);
    server.emit("taken");
  });
  app.use((error, request, response, next) => {
    answers.push({ id: request.get("webhook-id"), count: 0, status: error.status });
    response.sendStatus(error.status);
  });
  server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  gateway = await startGateway(`http://127.0.0.1:${server.address().port}/events`, { WAFERGATE__TENANTS__0__WEBHOOK_BATCH: "true" });
});

after(async () => {
  await gateway?.stop();
  server?.closeAllConnections();
  server?.close();
});

/** Calls the gateway. */
async function call(method, path) {
  const answer = await fetch(new URL(path, gateway.url), { method, headers: { authorization: `Bearer ${TENANT}:${KEY}` } });
  return answer.json();
}

test("what is refused with others is sent again alone: too much at once, one that is poison, and the close behind them", { timeout: 20_000 }, async () => {
  const opened = await call("POST", "/v1/tunnels");
  const client = await Client.dial(opened.connectUrl);
  // In JSON each of its characters is two; two of them are too much for Express.
  const long = '"'.repeat(30_000);
  const messages = [long, long, long, "a", "poison", "b", "c"];
  messages.forEach(message => client.send(message));
  while ((await call("GET", `/v1/tunnels/${opened.tunnelId}`)).queues.events <= messages.length) { /* They are on their way. */ }
  await client.close();
  release();

  while (taken.at(-1)?.type !== "wafergate.tunnel.closed") await once(server, "taken");

  const said = taken.filter(event => event.type === "wafergate.tunnel.message").map(event => event.data);
  assert.deepEqual(said, messages.filter(message => message !== "poison"), "each once, in order");
  assert.ok(answers.some(({ status }) => status === 413), "together they were too much");
  assert.equal(answers.filter(({ count, status }) => count === 1 && status === 400).length, 1, "poison is refused alone, once");
  assert.equal(taken.at(-1).webhook, taken.at(-1).id, "a close travels alone");
  assert.equal(new Set(taken.map(event => event.id)).size, taken.length);
});
