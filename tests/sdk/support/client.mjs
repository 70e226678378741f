// A mini-program user: one phone with its own copy of an unmodified client SDK.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { compileFunction } from "node:vm";

import { Journal } from "./journal.mjs";
import { Phone } from "./wx.mjs";

/** npm names of the client SDKs. */
const PACKAGES = { wafer1: "wafer-client-sdk", wafer2: "wafer2-client-sdk" };

/** Where both SDKs keep their login session. */
const SESSION_KEY = "weapp_session_F2C224D4-2BCE-4C64-AF9F-A6D872000D1A";

/** A user of the chat, logged in under `name`. */
export class Client {
  /** What the SDK told the mini-program: `{ type, content }`. */
  events = new Journal("client events");
  phone = new Phone();

  constructor(sdk, name, business) {
    this.name = name;
    this.business = business;
    this.phone.wx.setStorageSync(SESSION_KEY, { id: `id-${name}`, skey: name });
    const { Tunnel } = load(PACKAGES[sdk], this.phone.wx);
    this.tunnel = new Tunnel(business.pageUrl);
    this.tunnel.on("*", (type, content) => this.events.add({ type, content }));
  }

  /** Opens the tunnel and resolves once both sides know; the tunnel's id is returned. */
  async connect() {
    this.tunnel.open();
    await this.events.until({ type: "connect" });
    return this.connected();
  }

  /** The id of this user's `count`-th connected tunnel, as the business server was told. */
  async connected(count = 1) {
    const { tunnelId } = await this.business.events.until({ event: "connect", user: this.name }, count);
    return tunnelId;
  }

  /** Sends a frame past the SDK, which can only send objects. */
  sendRaw(text) {
    this.phone.wx.sendSocketMessage({ data: text });
  }

  /** Closes every tunnel of this user and waits until the business server knows. */
  async leave() {
    if (!this.tunnel.isClosed()) this.tunnel.close();
    for (const { tunnelId } of this.business.events.all({ event: "connect", user: this.name })) {
      await this.business.events.until({ event: "close", tunnelId });
    }
    this.phone.destroy();
  }
}

/** Loads a package as Node would, but with a `wx` and a module cache of its own; timers do not keep the process up. */
export function load(packageName, wx) {
  const cache = new Map();
  const later = (run, ms) => setTimeout(run, ms).unref();
  const loadFile = file => {
    if (!cache.has(file)) {
      const module = { exports: {} };
      cache.set(file, module);
      const require = createRequire(file);
      const parameters = ["exports", "require", "module", "wx", "setTimeout"];
      const run = compileFunction(readFileSync(file, "utf8"), parameters, { filename: file });
      run(module.exports, name => loadFile(require.resolve(name)), module, wx, later);
    }
    return cache.get(file).exports;
  };
  return loadFile(createRequire(import.meta.url).resolve(packageName));
}
