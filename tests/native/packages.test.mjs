// Packages that know nothing of wafergate: Standard Webhooks verifies our webhooks, RFC 9421 signs requests to us.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { createSigner, httpbis } from "http-message-signatures";
import { Webhook } from "standardwebhooks";

import { Client, KEY, TENANT, startGateway } from "./support/gateway.mjs";

let gateway, server;
const events = [];
const failures = [];

before(async () => {
  const webhook = new Webhook(KEY);
  server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    try {
      const event = webhook.verify(body, request.headers);
      assert.throws(() => webhook.verify(body.replace("wafergate", "wafergatf"), request.headers), /signature/i);
      events.push(event);
      server.emit("event");
      const isMessage = event.type === "wafergate.tunnel.message";
      const actions = [{ push: { content: { heard: event.data ?? event.data_base64 } } }];
      response.writeHead(isMessage ? 200 : 204).end(isMessage ? JSON.stringify({ actions }) : "");
    } catch (error) {
      failures.push(error);
      response.writeHead(400).end();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  gateway = await startGateway(`http://127.0.0.1:${server.address().port}/events`);
});

after(async () => {
  await gateway?.stop();
  server?.closeAllConnections();
  server?.close();
});

/** Signs a request with the package, as a business server would that has never heard of this gateway. */
async function signed(method, path, value, change = request => request) {
  const body = value === undefined ? "" : JSON.stringify(value);
  const url = new URL(path, gateway.url);
  const digest = createHash("sha256").update(body).digest("base64");
  const key = createSigner(Buffer.from(KEY.slice("whsec_".length), "base64"), "hmac-sha256", TENANT);
  const request = await httpbis.signMessage({
    key,
    fields: ["@method", "@path", "@authority", "content-digest", "content-type", ...(url.search ? ["@query"] : [])],
    params: ["created", "keyid", "nonce", "alg", "expires"],
    paramValues: { nonce: randomUUID(), expires: new Date(Date.now() + 60_000) },
  }, {
    method, url: url.href,
    headers: { host: url.host, "content-type": "application/json", "content-digest": `sha-256=:${digest}:` },
  });
  const { url: target, headers } = change(request);
  delete headers.host;
  const answer = await fetch(target, { method, headers, body: body || undefined });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : undefined };
}

test("requests signed by http-message-signatures are taken, and webhooks verify with standardwebhooks", async () => {
  const opened = await signed("POST", "/v1/tunnels", { user: "ann", groups: ["room"] });
  assert.equal(opened.status, 201, JSON.stringify(opened));
  const client = await Client.dial(opened.body.connectUrl);
  client.send("héllo 中😀");
  client.send(Buffer.from([0, 255]));
  await client.until(text => text === '{"heard":"héllo 中😀"}');
  await client.until(text => text === '{"heard":"AP8="}');

  const page = await signed("GET", "/v1/groups/room?limit=10");
  const { tunnelId } = opened.body;
  assert.deepEqual(page, { status: 200, body: { count: 1, tunnels: [tunnelId], members: [{ tunnelId, user: "ann" }] } });
  const pushed = await signed("POST", "/v1/push", { to: { user: "ann" }, content: "signed" });
  assert.equal(pushed.body.accepted, 1);
  await client.until(text => text === "signed");

  await client.close();
  while (events.length < 4) await once(server, "event");
  assert.deepEqual(failures, []);
  assert.deepEqual(events.map(event => event.type.split(".").pop()), ["connected", "message", "message", "closed"]);
});

test("a request for another path than the signed one is refused, with the lines to compare", async () => {
  const refused = await signed("POST", "/v1/close", { to: { user: "ann" } }, request => ({
    ...request, url: request.url.replace("close", "push"),
  }));
  assert.equal(refused.status, 401);
  assert.equal(refused.body.code, "signature_wrong");
  assert.match(refused.body.detail, /"@path": \/v1\/push/);
});
