// What one tenant, or a stranger without a key, does to take all there is of something. Each runs until it is told to stop.

import { once } from "node:events";
import { randomBytes, randomUUID } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { setTimeout } from "node:timers/promises";
import WebSocket from "ws";

const id = () => `t${randomBytes(16).toString("hex")}`;
const ids = count => Array.from({ length: count }, id);
const STRANGER = { from: "127.5.0.1" };

/** Calls again and again, so many at a time. */
async function flood(attack, width, call) {
  const one = async () => {
    while (!attack.isOver()) attack.count((await call()).status);
  };
  await Promise.all(Array.from({ length: width }, one));
}

/** Holds so many connections that say `text`: one that is closed is renewed. Answers are read, or never. */
async function hold(attack, count, text, { isRead = true } = {}) {
  const stranger = attack.caller(undefined, isRead ? STRANGER : {});
  const open = new Set();
  while (!attack.isOver()) {
    for (let left = 200; left > 0 && open.size < count; left -= 1) {
      const socket = stranger.socket(text);
      open.add(socket);
      attack.count("sockets");
      socket.on("close", () => open.delete(socket));
      if (isRead) socket.resume();
    }
    await setTimeout(20);
  }
  for (const socket of open) socket.destroy();
}

/** Opens tunnels of the loud tenant, whose events go to these URLs, and says something on each. */
async function speak(attack, urls, request = {}) {
  const loud = attack.caller(attack.loud);
  const clients = [];
  for (const webhookUrl of urls) {
    if (attack.isOver()) break;
    const { status, body } = await loud.call("POST", "/v1/tunnels", { webhookUrl, ...request });
    attack.count(status);
    if (status !== 201) continue;
    const client = new WebSocket(JSON.parse(body).connectUrl);
    client.on("error", () => {});
    clients.push(client);
  }
  while (!attack.isOver()) {
    for (const client of clients) if (client.readyState === WebSocket.OPEN) client.send("loud");
    await setTimeout(200);
  }
  for (const client of clients) client.terminate();
}

/** Has tunnels of the loud tenant say something again and again; what they say is answered with so many of this action. */
async function act(attack, count, action) {
  const body = JSON.stringify({ actions: Array.from({ length: attack.smoke ? 5 : 100 }, () => action) });
  const server = createHttpServer((request, response) => {
    request.resume().on("end", () => { attack.count("events"); response.end(body); });
  });
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await speak(attack, Array.from({ length: count }, () => `http://127.0.0.1:${port}/`), { groups: ["all"] });
  server.close().closeAllConnections();
}

/** Pushes to a group of one tunnel with as long an `except` as a call may have. */
async function pushWithLongExcept(attack, width) {
  const loud = attack.caller(attack.loud, { sockets: width });
  const except = ids(attack.smoke ? 1_000 : 9_999);
  const { body } = await loud.call("POST", "/v1/tunnels", { groups: ["all"] });
  const client = new WebSocket(JSON.parse(body).connectUrl);
  client.on("error", () => {});
  await once(client, "open");
  await flood(attack, width, () => loud.call("POST", "/v1/push", { to: { group: "all" }, except, content: "x" }));
  client.terminate();
}

/** Each pot: who takes from it and how, what its share is, and what the gateway needs to have it. */
export const ATTACKS = [
  {
    pot: "kept answers", by: "tenant", share: "of 256 MiB no more than is left", probe: { idempotent: true },
    run: attack => {
      const loud = attack.caller(attack.loud);
      const targets = ids(attack.smoke ? 100 : 10_000);
      const call = () => loud.call("POST", "/v1/push", { to: { tunnels: targets }, content: "x" }, { headers: { "idempotency-key": randomUUID() } });
      return flood(attack, 8, call);
    },
  },
  {
    pot: "nonces", by: "tenant", share: "of 256 MiB no more than is left", probe: { signed: true },
    run: attack => {
      const loud = attack.caller(attack.loud);
      return flood(attack, 32, () => loud.call("POST", "/v1/push", { to: { tunnels: [] }, content: "x" }, { signed: true, nonce: randomUUID() + "n".repeat(200) }));
    },
  },
  {
    pot: "request memory: except", by: "tenant", share: "of 256 MiB no more than is left", probe: {},
    run: attack => pushWithLongExcept(attack, 60),
  },
  {
    pot: "request memory: dataEncode", by: "stranger", share: "of 256 MiB no more than is left", probe: {},
    run: attack => {
      const stranger = attack.caller(undefined, STRANGER);
      const body = `{"data":"[]","tcId":"x","signature":"y","dataEncode":[${"0,".repeat(attack.smoke ? 1_000 : 1_900_000)}0]}`;
      return flood(attack, 60, () => stranger.send("POST", "/ws/push", { "content-length": body.length }, body));
    },
  },
  {
    pot: "stalled bodies", by: "stranger", share: "of 256 MiB no more than is left", probe: {},
    run: attack => hold(attack, attack.smoke ? 10 : 65, `POST /ws/push HTTP/1.1\r\nHost: x\r\nContent-Length: 4190000\r\n\r\n${"x".repeat(4_180_000)}`),
  },
  {
    pot: "small bodies", by: "stranger", share: "of 256 MiB no more than is left", probe: {},
    run: attack => hold(attack, attack.smoke ? 50 : 4_000, `POST /get/wsurl HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n${"x".repeat(64_000)}`),
  },
  {
    pot: "unread answers", by: "tenant", share: "of 256 MiB no more than is left", probe: {},
    run: attack => {
      const tunnels = Array.from({ length: attack.smoke ? 10 : 9_900 }, (_, number) => `${number}`.padEnd(400));
      const body = JSON.stringify({ to: { tunnels }, content: "x" });
      const { id: tenant, key } = attack.loud;
      const call = `POST /v1/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant}:${key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      return hold(attack, attack.smoke ? 2 : 200, call + call, { isRead: false });
    },
  },
  {
    pot: "time of tasks: actions", by: "tenant", share: "turns among tenants", probe: {},
    run: attack => act(attack, attack.smoke ? 2 : 60, { push: { to: { group: "all" }, content: "x" } }),
  },
  {
    pot: "time of tasks: requests in a row", by: "stranger", share: "the sockets of all are looked at after a few tasks", probe: {},
    run: attack => hold(attack, attack.smoke ? 2 : 30, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(attack.smoke ? 10 : 100_000)),
  },
  {
    pot: "idle connections", by: "stranger", share: "the largest address goes first", probe: { fresh: true }, descriptors: 1_024,
    run: attack => hold(attack, attack.smoke ? 50 : 2_000, "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"),
  },
  {
    pot: "look-ups: 200 dead names", by: "tenant", share: "a share of the look-ups at a time", probe: { events: true }, deadNames: true,
    run: attack => speak(attack, Array.from({ length: attack.smoke ? 10 : 200 }, (_, number) => `http://dead${number}.example.com/`)),
  },
  {
    pot: "requests in flight: 400 ports", by: "tenant", share: "a sixteenth of the descriptors", probe: { events: true, fresh: true }, descriptors: 1_024,
    run: async attack => {
      const servers = Array.from({ length: attack.smoke ? 10 : 400 }, () => createServer(socket => socket.on("error", () => {}).resume()));
      const listen = server => new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}/`)));
      await speak(attack, await Promise.all(servers.map(listen)));
    },
  },
  {
    pot: "time on the bus: except", by: "tenant", share: "turns among tenants", probe: {}, nodes: 2,
    run: attack => pushWithLongExcept(attack, 8),
  },
  {
    pot: "log lines", by: "stranger", share: "repeated lines are counted", probe: {},
    run: attack => {
      const stranger = attack.caller(undefined, STRANGER);
      return flood(attack, 64, () => stranger.send("GET", `/${randomUUID()}`, {}));
    },
  },
];
