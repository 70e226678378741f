// The real gateway binary as a child process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { Journal } from "./journal.mjs";

/** The binary under test. */
const BINARY = process.env.WAFERGATE_BIN ?? fileURLToPath(new URL("../../../target/debug/wafergate", import.meta.url));

/** How long a stopping gateway may take, in milliseconds. */
const STOP_MS = 20_000;

/** One running gateway. */
export class Gateway {
  /** Its output, line by line: `{ from: "stdout" | "stderr", text }`. */
  lines = new Journal("gateway output");
  /** What must never be in its logs. */
  secrets = [];

  /** Starts a gateway for one tenant and resolves once it accepts. */
  static async start({ serverHost, key, heartbeatSecs }) {
    const gateway = await Gateway.with(configuration({ serverHost, keys: [key], heartbeatSecs }), [key]);
    gateway.settings = { serverHost, heartbeatSecs };
    return gateway;
  }

  /** Starts a gateway with the text of a configuration file, whose `keys` must never be in its logs. */
  static async with(text, keys) {
    const gateway = new Gateway();
    gateway.secrets.push(...keys);
    gateway.folder = await mkdtemp(join(tmpdir(), "wafergate-sdk-"));
    gateway.file = join(gateway.folder, "wafergate.toml");
    await writeFile(gateway.file, text);

    gateway.child = spawn(BINARY, ["serve", "--config", gateway.file], { stdio: ["ignore", "pipe", "pipe"] });
    gateway.#read("stdout");
    gateway.#read("stderr");
    gateway.ended = once(gateway.child, "close");
    process.once("exit", () => {
      gateway.child.kill("SIGKILL");
      rmSync(gateway.folder, { recursive: true, force: true });
    });
    const listening = gateway.lines.until({ from: "stdout", text: line => line.startsWith("listen http") });
    const line = await Promise.race([listening, gateway.ended.then(() => gateway.#fail("did not start"))]);
    gateway.url = line.text.split(" ")[1];
    return gateway;
  }

  /** Gives its tenant these keys, as an operator would: the file is written beside the old one and renamed, then SIGHUP. */
  async reload(keys) {
    this.secrets.push(...keys);
    await writeFile(`${this.file}.new`, configuration({ ...this.settings, keys }));
    await rename(`${this.file}.new`, this.file);
    const reloaded = { from: "stderr", text: line => line.includes("reloaded") && line.includes(" INFO ") };
    const before = this.lines.all(reloaded).length;
    this.child.kill("SIGHUP");
    await this.lines.until(reloaded, before + 1);
  }

  /** Stops it as a service manager would, and judges how it behaved; once. */
  stop() {
    this.stopped ??= this.#stop();
    return this.stopped;
  }

  async #stop() {
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
    const [code] = await this.ended;
    clearTimeout(timer);
    if (code !== 0) this.#fail(`ended with ${code ?? "no exit code"}`);
    if (this.#output().includes("panicked")) this.#fail("panicked");
    for (const secret of this.secrets) assert.ok(!this.#output().includes(secret), "a key is in the gateway's output");
  }

  #read(from) {
    createInterface({ input: this.child[from] }).on("line", text => this.lines.add({ from, text }));
  }

  #output() {
    return this.lines.entries.map(line => line.text).join("\n");
  }

  #fail(what) {
    throw new Error(`the gateway ${what}:\n${this.#output()}`);
  }
}

/** A gateway on free ports, which may reach business servers on this machine and limits no message rate. */
function configuration({ serverHost, keys, heartbeatSecs }) {
  return `
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"

[tunnel]
heartbeat_secs = ${heartbeatSecs}

[webhook]
allow_networks = ["127.0.0.0/8"]

[drain]
window_secs = 2
flush_secs = 10

[limits]
messages_per_sec_per_connection = 0

[[tenants]]
server_host = ${JSON.stringify(serverHost)}
keys = ${JSON.stringify(keys)}

[log]
level = "debug"
`;
}
