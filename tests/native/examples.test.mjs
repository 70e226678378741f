// The examples, as they stand in deploy/examples: their clients chat with each other through one gateway.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Client, KEY, TENANT, run, startGateway } from "./support/gateway.mjs";

const path = file => fileURLToPath(new URL(`../../deploy/examples/${file}`, import.meta.url));
const scratch = mkdtempSync(`${tmpdir()}/examples-`);

/** Builds the Go example from what is on this machine, and says why it could not: its one module may not be there. */
function buildGo() {
  const env = { ...process.env, GOPROXY: "off", GOTOOLCHAIN: "local" };
  const { error, status, stderr } = spawnSync("go", ["build", "-o", `${scratch}/chat`, "."], { cwd: path("go"), env, encoding: "utf8" });
  return error?.message ?? (status === 0 ? undefined : stderr.trim());
}

const goIsMissing = buildGo();
const EXAMPLES = {
  node: port => ["node", [path("node/chat.mjs")], {}, /chat on/],
  python: port => [process.env.PYTHON ?? "python3", [path("python/chat.py")], {}, /chat on/],
  php: port => ["php", ["-S", `127.0.0.1:${port}`, path("php/chat.php")], { PHP_CLI_SERVER_WORKERS: "4" }, /Development Server/],
  ...(goIsMissing ? {} : { go: () => [`${scratch}/chat`, [], {}, /chat on/] }),
};
const wanted = (process.env.EXAMPLES ?? Object.keys(EXAMPLES).join(",")).split(",");

let gateway;
const servers = [];

/** A port that is free now. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

before(async () => {
  gateway = await startGateway();
  for (const name of wanted) {
    const port = await freePort();
    const [command, args, env, ready] = EXAMPLES[name](port);
    const settings = { GATEWAY: gateway.url, TENANT, KEY, PORT: String(port), ...env };
    servers.push({ name, port, ...(await run(command, args, settings, ready)) });
  }
});

after(async () => {
  await gateway?.stop();
  await Promise.all(servers.map(server => server.stop()));
  rmSync(scratch, { recursive: true });
});

test("the Go example is among them", { skip: goIsMissing }, () => assert.ok(wanted.includes("go")));

test("the Go example is formatted Go", t => {
  const { error, status, stdout, stderr } = spawnSync("gofmt", ["-l", path("go")], { encoding: "utf8" });
  if (error) return t.skip(error.message);
  assert.deepEqual([status, stdout, stderr], [0, "", ""]);
});

test("users of all examples chat with each other", async () => {
  const join = async (port, user) => {
    const answer = await fetch(`http://127.0.0.1:${port}/tunnel?user=${encodeURIComponent(user)}`);
    const opened = await answer.json();
    assert.equal(answer.status, 201, JSON.stringify(opened));
    const client = await Client.dial(opened.connectUrl);
    await client.until(message => message.includes("joined") && JSON.parse(message).content.user === user);
    return client;
  };
  const clients = [];
  for (const { name, port } of servers) clients.push(await join(port, `${name} 中`));
  const last = await join(servers[0].port, "the last one");
  const has = (type, content) => message => {
    const said = JSON.parse(message);
    return said.type === type && Object.entries(content).every(([name, value]) => said.content[name] === value);
  };
  for (const [index, { name }] of servers.entries()) {
    const text = `"hello" from ${name} 😀`;
    clients[index].send(text);
    for (const client of clients) await client.until(has("said", { user: `${name} 中`, text }));
  }
  for (const [index, { name }] of servers.entries()) {
    await clients[index].close();
    for (const client of [...clients.slice(index + 1), last]) await client.until(has("left", { user: `${name} 中` }));
  }
  await last.close();
});

test("an unsigned event is refused by every example", async () => {
  for (const { name, port } of servers) {
    const headers = { "webhook-id": "m", "webhook-timestamp": String(Math.floor(Date.now() / 1000)), "webhook-signature": "v1,AAAA" };
    const answer = await fetch(`http://127.0.0.1:${port}/events`, { method: "POST", headers, body: "{}" });
    assert.equal(answer.status, 400, name);
  }
});
