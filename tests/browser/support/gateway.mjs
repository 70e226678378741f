// A real gateway with a console, a business server, and clients on raw sockets: thousands of tunnels in this process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import { createInterface } from "node:readline";

const BINARY = process.env.WAFERGATE_BIN ?? "target/debug/wafergate";

export const TOKEN = "a token of the browser's tests";
export const TENANT = "shop";
export const KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** Starts a gateway on these addresses and waits until it accepts. */
export async function startGateway(settings = {}, listen = "127.0.0.1:0", admin = "127.0.0.1:0") {
  const env = {
    WAFERGATE__SERVER__LISTEN: listen,
    WAFERGATE__SERVER__ADMIN_LISTEN: admin,
    WAFERGATE__SERVER__NODE_NAME: "gw-1",
    WAFERGATE__WEBHOOK__ALLOW_NETWORKS: "127.0.0.0/8",
    WAFERGATE__DRAIN__WINDOW_SECS: "0",
    WAFERGATE__LOG__LEVEL: "warn",
    WAFERGATE__CONSOLE__TOKEN: TOKEN,
    WAFERGATE__TENANTS__0__ID: TENANT,
    WAFERGATE__TENANTS__0__KEYS: KEY,
    WAFERGATE__TENANTS__0__RECEIVE_HOSTS: "127.0.0.1",
    ...settings,
  };
  const child = spawn(BINARY, ["serve"], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "ignore"] });
  const exited = once(child, "exit");
  const urls = new Promise((resolve) => {
    const found = {};
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [name, url] = line.split(" ");
      found[name] = url;
      if (found.listen && found.admin) resolve(found);
    });
  });
  const started = await Promise.race([urls, exited.then(([code]) => assert.fail(`the gateway ended with ${code}`))]);
  return { child, exited, url: started.listen, admin: started.admin };
}

/** A business server: `answer` gives status and text for each path. */
export async function startBusiness(answer) {
  const server = createServer((incoming, response) => {
    incoming.resume();
    incoming.on("end", () => {
      const [status, text, delayMs] = answer(incoming.url);
      setTimeout(() => response.writeHead(status, { "Content-Type": "application/json" }).end(text), delayMs ?? 0);
    });
  });
  server.keepAliveTimeout = 60_000;
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

const agent = new Agent({ keepAlive: true, maxSockets: 16 });

/** A native call, which must succeed. */
export function call(url, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { Authorization: `Bearer ${TENANT}:${KEY}`, "Content-Type": "application/json" };
    const sent = request(`${url}${path}`, { method: "POST", headers, agent }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => (text += chunk)).on("end", () => {
        if (response.statusCode >= 300) reject(new Error(`${path}: ${response.statusCode} ${text}`));
        else resolve(text === "" ? null : JSON.parse(text));
      });
    });
    sent.on("error", reject).end(JSON.stringify(body));
  });
}

/** Opens a tunnel; `say` sends a text of at most 125 bytes, `end` hangs up. */
export async function open(url, wish) {
  const { tunnelId, connectUrl } = await call(url, "/v1/tunnels", wish);
  const headers = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" };
  const sent = request(connectUrl.replace(/^ws/, "http"), { headers, agent: false });
  const upgraded = once(sent, "upgrade");
  sent.end();
  const [, socket] = await upgraded;
  socket.on("error", () => {}).resume();
  const say = (text) => {
    const bytes = Buffer.from(text);
    socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]));
  };
  return { tunnelId, socket, say, end: () => socket.destroy() };
}

/** Opens many tunnels, some at a time. */
export async function openMany(url, count, wish) {
  const tunnels = [];
  const worker = async () => {
    while (tunnels.length < count) {
      const at = tunnels.push(null) - 1;
      tunnels[at] = await open(url, wish(at));
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  return tunnels;
}
