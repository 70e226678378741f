// The client code of docs/clients.md, as it stands there: it connects, comes back with a new connect URL, and stays away when it is told to.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import WebSocket from "ws";

import { KEY, TENANT, startGateway } from "./support/gateway.mjs";
import { blocks } from "./support/pages.mjs";

const [TALK, BROWSER, MINI_PROGRAM] = blocks("clients.md", "js");

let gateway, server, base;
const events = [];
/** How many requests for a tunnel fail from now on. */
let failing = 0;

const v1 = async (path, value) => {
  const headers = { authorization: `Bearer ${TENANT}:${KEY}` };
  const answer = await fetch(`${gateway.url}/v1/${path}`, { method: value ? "POST" : "GET", headers, body: value && JSON.stringify(value) });
  return answer.json();
};

before(async () => {
  server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, base);
    if (pathname === "/tunnel") {
      if (failing-- > 0) return response.writeHead(500).end();
      const opened = await v1("tunnels", { user: searchParams.get("user") });
      return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(opened));
    }
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    events.push(JSON.parse(Buffer.concat(chunks).toString()));
    server.emit("event");
    response.writeHead(204).end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  base = `http://127.0.0.1:${server.address().port}`;
  gateway = await startGateway(`${base}/events`);
});

after(async () => {
  await gateway?.stop();
  server?.closeAllConnections();
  server?.close();
});

/** What the page or the mini-program around the code has seen and can do. */
class Surroundings {
  lines = [];
  sockets = [];
  #waiting = [];

  console = {
    log: (...words) => {
      this.lines.push(words.filter(word => word !== undefined).join(" ").trim());
      this.#waiting.splice(0).forEach(wake => wake());
    },
  };

  /** The lines, once their last one is `line`. */
  async until(line) {
    const deadline = AbortSignal.timeout(10_000);
    while (!this.lines.at(-1)?.startsWith(line)) {
      await new Promise((resolve, reject) => {
        this.#waiting.push(resolve);
        deadline.addEventListener("abort", () => reject(new Error(`no ${line} behind ${this.lines.join("; ")}`)), { once: true });
      });
    }
    return this.lines.splice(0);
  }

  socket(url) {
    const socket = new WebSocket(url);
    this.sockets.push(socket);
    return socket;
  }
}

function inBrowser() {
  const page = new Surroundings();
  const addEventListener = (name, handler) => { assert.equal(name, "online"); page.online = handler; };
  const socket = function (url) { return page.socket(url); };
  const code = `${TALK}\n${BROWSER}\nreturn chat`;
  const run = new Function("WebSocket", "fetch", "addEventListener", "console", code);
  page.chat = run(socket, path => fetch(base + path), addEventListener, page.console);
  return page;
}

function inMiniProgram() {
  const phone = new Surroundings();
  const wx = {
    onNetworkStatusChange: handler => { phone.online = () => handler({ isConnected: true }); },
    onAppHide: handler => { phone.hide = handler; },
    onAppShow: handler => { phone.show = handler; },
    request: ({ url, success, fail }) => {
      const { pathname, search } = new URL(url);
      fetch(base + pathname + search)
        .then(async answer => success({ statusCode: answer.status, data: answer.ok ? await answer.json() : "" }))
        .catch(error => fail({ errMsg: error.message }));
    },
    connectSocket: ({ url, fail }) => {
      if (phone.isSuspended) {
        queueMicrotask(() => fail({ errMsg: "connectSocket:fail interrupted" }));
        return { onOpen() {}, onMessage() {}, onClose() {}, onError() {}, close() {} };
      }
      const socket = phone.socket(url);
      return {
        onOpen: handler => socket.on("open", handler),
        onMessage: handler => socket.on("message", (data, isBinary) => handler({ data: isBinary ? data : data.toString() })),
        onClose: handler => {
          phone.interrupt = () => { socket.removeAllListeners("close"); socket.terminate(); handler({ code: 1000, reason: "interrupted" }); };
          socket.on("close", (code, reason) => handler({ code, reason: reason.toString() }));
        },
        onError: handler => socket.on("error", error => handler({ errMsg: error.message })),
        send: ({ data }) => socket.send(data),
        close: ({ code }) => socket.close(code),
      };
    },
  };
  const clock = { now: () => Date.now() + phone.later };
  phone.later = 0;
  phone.chat = new Function("wx", "console", "Date", `${TALK}\n${MINI_PROGRAM}\nreturn chat`)(wx, phone.console, clock);
  return phone;
}

for (const [name, start] of Object.entries({ "in a browser": inBrowser, "in a mini-program": inMiniProgram })) {
  test(`the client code ${name} talks, comes back, and stays away`, async () => {
    const around = start();
    assert.equal(around.chat.send("too early"), false);
    assert.deepEqual(await around.until("open"), ["connecting", "open"]);

    await v1("push", { to: { user: "ann" }, content: "hello" });
    assert.deepEqual(await around.until("hello"), ["hello"]);
    const said = `said ${name}`;
    assert.equal(around.chat.send(said), true);
    while (!events.some(event => event.data === said)) await once(server, "event");

    failing = 1;
    around.sockets.at(-1).terminate();
    const states = (await around.until("open")).map(line => line.split(" ")[0]);
    assert.deepEqual(states, ["waiting", "connecting", "waiting", "connecting", "open"]);
    assert.equal(around.sockets.length, 2, "a request for a tunnel that failed opens none");

    around.online();
    assert.deepEqual(await around.until("open"), ["connecting", "open"]);
    while ((await v1("users/ann")).count !== 1);

    await v1("close", { to: { user: "ann" }, reason: "good bye" });
    assert.deepEqual(await around.until("closed"), ["closed good bye"]);
    assert.equal(around.chat.send("too late"), false);
    around.online();
    around.chat.stop();
    assert.deepEqual(around.lines, ["closed"], "what was closed stays closed");
  });
}

test("a mini-program that was suspended comes back", async () => {
  const phone = inMiniProgram();
  await phone.until("open");
  phone.hide();
  phone.isSuspended = true;
  phone.interrupt();
  await phone.until("waiting connectSocket:fail");
  phone.isSuspended = false;
  assert.deepEqual((await phone.until("open")).slice(-2), ["connecting", "open"]);

  phone.show();
  assert.deepEqual(phone.lines, [], "it was away for a moment only");
  phone.hide();
  phone.later = 6_000;
  phone.show();
  assert.deepEqual(await phone.until("open"), ["connecting", "open"]);
  phone.chat.stop();
});
