// What one tenant, or a stranger without a key, does to take all there is of something. Each runs until it is told to stop.

import { once } from "node:events";
import { randomBytes, randomUUID } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer } from "node:net";
import { setTimeout } from "node:timers/promises";
import tls from "node:tls";
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
async function hold(attack, count, text, { isRead = true, open = () => attack.caller(undefined, STRANGER).socket(text) } = {}) {
  const held = new Set();
  while (!attack.isOver()) {
    for (let left = 200; left > 0 && held.size < count; left -= 1) {
      const socket = open();
      held.add(socket);
      attack.count("sockets");
      socket.on("error", () => {}).on("close", () => held.delete(socket));
      if (isRead) socket.resume();
    }
    await setTimeout(20);
  }
  for (const socket of held) socket.destroy();
}

/** A connection to the admin listener, which says `text`. */
function visit(attack, text) {
  const { hostname: host, port } = new URL(attack.admin);
  const socket = connect({ host, port: Number(port), localAddress: STRANGER.from });
  return socket.on("connect", () => socket.write(text));
}

/** What a TLS client says first. */
async function clientHello() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = tls.connect({ port: server.address().port, host: "127.0.0.1", rejectUnauthorized: false }).on("error", () => {});
  const [socket] = await once(server, "connection");
  const [hello] = await once(socket, "data");
  client.destroy();
  socket.destroy();
  server.close();
  return hello;
}

/** Connects as fast as it can, so many at a time; `meet` makes a connection and ends it. */
async function churn(attack, width, meet) {
  const one = async () => {
    while (!attack.isOver()) {
      const socket = meet().on("error", () => {});
      await Promise.race([once(socket, "close").catch(() => {}), setTimeout(2_000)]);
      socket.destroy();
      attack.count("sockets");
    }
  };
  await Promise.all(Array.from({ length: width }, one));
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

/** A business server on this machine; `answer` has request and response. */
async function business(answer) {
  const server = createHttpServer((request, response) => request.resume().on("end", () => answer(response)));
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, stop: () => server.close().closeAllConnections() };
}

/** Opens tunnels of the loud tenant whose clients say this, without pause, and read what comes. */
async function shout(attack, count, say) {
  const loud = attack.caller(attack.loud);
  const clients = [];
  for (let left = count; left > 0 && !attack.isOver(); left -= 1) {
    const { body } = await loud.call("POST", "/v1/tunnels", {});
    const client = new WebSocket(JSON.parse(body).connectUrl);
    client.on("error", () => {});
    clients.push(client);
  }
  while (!attack.isOver()) {
    for (const client of clients) {
      if (client.readyState === WebSocket.OPEN && client.bufferedAmount < 100_000) for (let left = 200; left > 0; left -= 1) { say(client); attack.count("frames"); }
    }
    await setTimeout(1);
  }
  for (const client of clients) client.terminate();
}

/** Has tunnels of the loud tenant say something again and again; what they say is answered with so many of this action. */
async function act(attack, count, action) {
  const body = JSON.stringify({ actions: Array.from({ length: attack.smoke ? 5 : 100 }, () => action) });
  const { url, stop } = await business(response => { attack.count("events"); response.end(body); });
  await speak(attack, Array.from({ length: count }, () => url), { groups: ["all"] });
  stop();
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
    pot: "time of tasks: actions for few", by: "tenant", share: "turns among tenants", probe: {},
    run: attack => act(attack, attack.smoke ? 2 : 60, { push: { to: { tunnels: ids(8) }, content: "x" } }),
  },
  {
    pot: "time of tasks: long answers", by: "tenant", share: "turns among tenants", probe: {},
    run: attack => act(attack, attack.smoke ? 2 : 60, { push: { to: { tunnels: [] }, content: "x".repeat(550) } }),
  },
  {
    pot: "time of tasks: small pushes", by: "tenant", share: "the sockets of all are looked at after a few tasks", probe: {},
    run: async attack => {
      const loud = attack.caller(attack.loud);
      await flood(attack, 64, () => loud.call("POST", "/v1/push", { to: { tunnels: [] }, content: "x" }));
    },
  },
  {
    pot: "time of tasks: pings", by: "tenant", share: "a tunnel gives way after each read", probe: {},
    run: attack => shout(attack, attack.smoke ? 2 : 20, client => client.ping("x")),
  },
  {
    pot: "time of tasks: fragments", by: "tenant", share: "a tunnel gives way after each read", probe: {},
    run: attack => shout(attack, attack.smoke ? 2 : 20, client => client.send("x", { fin: false })),
  },
  {
    pot: "time of tasks: connections that come and go", by: "stranger", share: "the sockets of all are looked at after a few tasks", probe: { fresh: true },
    run: attack => churn(attack, 64, () => attack.caller(undefined, STRANGER).socket("GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").resume()),
  },
  {
    pot: "handshakes: half of TLS", by: "stranger", share: "turns among addresses", probe: { fresh: true }, tls: true,
    run: async attack => {
      const hello = await clientHello();
      const { hostname: host, port } = new URL(attack.urls[0]);
      await churn(attack, attack.smoke ? 4 : 200, () => {
        const socket = connect({ host, port: Number(port), localAddress: STRANGER.from });
        return socket.on("connect", () => socket.write(hello)).on("data", () => socket.destroy());
      });
    },
  },
  {
    pot: "connections: half bodies", by: "stranger", share: "the largest address goes first", probe: { fresh: true, tunnels: true }, descriptors: 1_024,
    run: attack => hold(attack, attack.smoke ? 50 : 2_000, "POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"),
  },
  {
    pot: "connections: half bodies from many addresses", by: "strangers", share: "the longest wait ends first", probe: { fresh: true, tunnels: true }, descriptors: 1_024,
    run: attack => {
      let number = 0;
      const open = () => {
        number += 1;
        return attack.caller(undefined, { from: `127.6.${number >> 8 & 255}.${number & 255}` }).socket("POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx");
      };
      return hold(attack, attack.smoke ? 50 : 2_000, "", { open });
    },
  },
  {
    pot: "connections: HTTP/2", by: "stranger", share: "the largest address goes first", probe: { fresh: true, tunnels: true }, descriptors: 1_024,
    run: attack => hold(attack, attack.smoke ? 50 : 2_000, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
  },
  {
    pot: "admin listener: metrics", by: "its network", share: "turns among addresses", probe: {},
    run: attack => hold(attack, attack.smoke ? 2 : 64, "", { open: () => visit(attack, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000)) }),
  },
  {
    pot: "admin listener: connections", by: "its network", share: "a quarter of the reserve", probe: { fresh: true, tunnels: true }, descriptors: 1_024,
    run: attack => hold(attack, attack.smoke ? 50 : 2_000, "", { open: () => visit(attack, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n") }),
  },
  {
    pot: "hanging answers", by: "tenant", share: "of 256 MiB no more than is left", probe: { events: true },
    run: async attack => {
      const { url, stop } = await business(response => { attack.count("events"); response.writeHead(200, { "content-length": 65_536 }).write("x".repeat(65_000)); });
      await speak(attack, Array.from({ length: attack.smoke ? 5 : 1_000 }, (_, number) => `${url}${number}`));
      stop();
    },
  },
  {
    pot: "actions that wait", by: "tenant", share: "of 128 MiB no more than is left", probe: {},
    run: attack => act(attack, attack.smoke ? 5 : 500, { push: { to: { group: "all" }, content: "x".repeat(500) } }),
  },
  {
    pot: "calls given up", by: "tenant", share: "of 256 MiB no more than is left", probe: {},
    run: attack => {
      const { id: tenant, key } = attack.loud;
      const body = JSON.stringify({ to: { group: "all" }, except: ids(attack.smoke ? 100 : 9_999), content: "x".repeat(500_000) });
      const call = () => `POST /v1/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant}:${key}\r\nIdempotency-Key: ${randomUUID()}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      return churn(attack, attack.smoke ? 2 : 60, () => {
        const socket = attack.caller(undefined).socket("");
        // The call is whole, and its caller gone.
        return socket.on("connect", () => socket.end(call(), () => socket.destroy()));
      });
    },
  },
  {
    pot: "unread lists", by: "tenant", share: "of 256 MiB no more than is left", probe: {},
    run: async attack => {
      const { id: tenant, key } = attack.loud;
      const loud = attack.caller(attack.loud);
      const clients = [];
      for (let left = attack.smoke ? 5 : 1_000; left > 0 && !attack.isOver(); left -= 1) {
        const { body } = await loud.call("POST", "/v1/tunnels", { groups: ["all"] });
        clients.push(new WebSocket(JSON.parse(body).connectUrl).on("error", () => {}));
      }
      const call = `GET /v1/groups/all?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant}:${key}\r\n\r\n`;
      await hold(attack, attack.smoke ? 2 : 3_000, call.repeat(100), { isRead: false });
      for (const client of clients) client.terminate();
    },
  },
  {
    pot: "names of groups", by: "tenant", share: "1 KiB for each tunnel that it may have", probe: {}, nodes: 1,
    run: async attack => {
      const loud = attack.caller(attack.loud);
      const open = async () => {
        const groups = Array.from({ length: 16 }, () => randomUUID().padEnd(128, "房"));
        const { status, body } = await loud.call("POST", "/v1/tunnels", { groups: groups.slice(0, 6) });
        if (status !== 201) return { status };
        const client = new WebSocket(JSON.parse(body).connectUrl).on("error", () => {});
        const call = ({ subject }) => loud.call("PUT", `/v1/groups/${encodeURIComponent(randomUUID().padEnd(128, "房"))}/tunnels/${subject}`);
        await once(client, "open").catch(() => {});
        for (let left = 50; left > 0 && !attack.isOver(); left -= 1) attack.count((await call({ subject: JSON.parse(body).tunnelId })).status);
        return { status };
      };
      await flood(attack, attack.smoke ? 1 : 16, open);
    },
  },
  {
    pot: "time on the bus: repeats of one call", by: "tenant", share: "turns among tenants", probe: {}, nodes: 2,
    run: async attack => {
      const loud = attack.caller(attack.loud);
      const tunnels = Array.from({ length: attack.smoke ? 10 : 9_900 }, (_, number) => `${number}`.padEnd(attack.smoke ? 10 : 400));
      const repeat = caller => caller.call("POST", "/v1/push", { to: { tunnels }, content: "x" }, { headers: { "idempotency-key": "one" } });
      const there = Object.assign(attack.caller(attack.loud), { url: new URL(attack.urls[1]) });
      attack.count((await repeat(there)).status);
      await flood(attack, 8, () => repeat(loud));
    },
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
    pot: "sessions: checks of unknown tokens", by: "tenant", share: "of 256 questions to the store no more than is left", probe: {}, sessions: true,
    run: async attack => {
      const loud = attack.caller(attack.loud);
      const token = () => `wgs_${randomBytes(32).toString("base64url")}`;
      await flood(attack, 64, () => loud.call("POST", "/v1/sessions/verify", { sessionToken: token() }));
    },
  },
  {
    pot: "sessions: logins that hang", by: "tenant", share: "of 512 places at WeChat no more than is left", probe: {}, sessions: true,
    run: async attack => {
      const loud = attack.caller(attack.loud, { sockets: 1_000 });
      await flood(attack, attack.smoke ? 10 : 1_000, () => loud.call("POST", "/v1/sessions", { code: randomUUID() }));
    },
  },
  {
    pot: "documents", by: "stranger", share: "the sockets of all are looked at after a few tasks", probe: {},
    run: attack => hold(attack, attack.smoke ? 2 : 30, "GET /v1/docs HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(attack.smoke ? 5 : 1_000)),
  },
  {
    pot: "log lines", by: "stranger", share: "repeated lines are counted", probe: {},
    run: attack => {
      const stranger = attack.caller(undefined, STRANGER);
      return flood(attack, 64, () => stranger.send("GET", `/${randomUUID()}`, {}));
    },
  },
];
