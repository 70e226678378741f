// config/development.toml as written, but for its port numbers: both Node SDKs chat through it, neither on port 80.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { describe, it } from "node:test";

import { Node1 } from "./support/business-node1.mjs";
import { Node2 } from "./support/business-node2.mjs";
import { Client } from "./support/client.mjs";
import { Gateway } from "./support/gateway.mjs";

const FILE = readFileSync(new URL("../../config/development.toml", import.meta.url), "utf8");
const HOST = "127.0.0.1";
const KEY = "development-only-key";

describe("config/development.toml", () => {
  for (const [Sdk, clientSdk] of [[Node1, "wafer1"], [Node2, "wafer2"]]) {
    it(`carries a chat of ${Sdk.name} with ServerHost "${HOST}"`, { timeout: 60_000 }, () => chat(new Sdk(), clientSdk));
  }
});

/** Two clients of `business` meet, talk and part. */
async function chat(business, clientSdk) {
  const [port, listen, admin] = await freePorts(3);
  business.host = HOST;
  await business.start(port);
  const text = FILE.replaceAll("127.0.0.1:3000", `${HOST}:${port}`).replaceAll("127.0.0.1:8080", `${HOST}:${listen}`);
  const addresses = `[server]\nlisten = "${HOST}:${listen}"\nadmin_listen = "${HOST}:${admin}"`;
  const gateway = await Gateway.with(text.replace("[server]", addresses), [KEY]);
  try {
    business.configure({ gatewayUrl: gateway.url, key: KEY });
    const [one, other] = ["one", "other"].map(name => new Client(clientSdk, name, business));
    await one.connect();
    await other.connect();
    await one.events.until({ type: "people", content: { total: 2, enter: "other" } });

    other.tunnel.emit("speak", { word: "hello" });
    await one.events.until({ type: "speak", content: { who: "other", word: "hello" } });
    await other.leave();
    await one.events.until({ type: "people", content: { total: 1, leave: "other" } });
    await one.leave();

    assert.notEqual(business.port, 80);
    assert.deepEqual(business.events.all({ event: "failed" }), []);
  } finally {
    await gateway.stop();
    business.stop();
  }
}

/** Ports that nothing listens on, below those that the system gives to connections. */
async function freePorts(count) {
  const found = [];
  for (let port = 20_000 + (process.pid % 10_000); found.length < count; port += 1) {
    const server = createServer();
    const isFree = await new Promise(resolve => server.once("error", () => resolve(false)).listen(port, HOST, () => resolve(true)));
    if (isFree) {
      found.push(port);
      await new Promise(resolve => server.close(resolve));
    }
  }
  return found;
}
