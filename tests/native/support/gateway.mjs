// The real gateway binary with one native tenant, and clients on its sockets.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";

const BINARY = process.env.WAFERGATE_BIN ?? fileURLToPath(new URL("../../../target/debug/wafergate", import.meta.url));

export const TENANT = "shop";
export const KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** A process that prints a line with its URL when it is ready; `stop` ends it. */
export async function run(command, args, env, ready, cwd) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"], detached: true });
  // With its children: PHP's server has workers, which would keep its output open.
  const kill = signal => { try { process.kill(-child.pid, signal); } catch { /* It has ended. */ } };
  process.once("exit", () => kill("SIGKILL"));
  const output = [];
  const ended = once(child, "close").then(() => { throw new Error(`${command} ended:\n${output.join("\n")}`); });
  ended.catch(() => {});
  const started = new Promise(resolve => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", line => {
        output.push(line);
        const found = ready.exec(line);
        if (found) resolve(found[0]);
      });
    }
  });
  const url = await Promise.race([started, ended]);
  return { url, output, stop: () => { kill("SIGTERM"); return ended.catch(() => {}); } };
}

/** A gateway on free ports, which may reach business servers on this machine, with further settings. */
export function startGateway(webhookUrl = "", settings = {}) {
  const env = {
    WAFERGATE__SERVER__LISTEN: "127.0.0.1:0",
    WAFERGATE__SERVER__ADMIN_LISTEN: "127.0.0.1:0",
    WAFERGATE__WEBHOOK__ALLOW_NETWORKS: "127.0.0.0/8",
    WAFERGATE__DRAIN__WINDOW_SECS: "0",
    WAFERGATE__LIMITS__MESSAGES_PER_SEC_PER_CONNECTION: "0",
    WAFERGATE__TENANTS__0__ID: TENANT,
    WAFERGATE__TENANTS__0__KEYS: KEY,
    WAFERGATE__TENANTS__0__RECEIVE_HOSTS: "127.0.0.1",
    WAFERGATE__TENANTS__0__WEBHOOK_URL: webhookUrl,
    ...settings,
  };
  return run(BINARY, ["serve"], env, /(?<=^listen )http:\S+/);
}

/** A client on a tunnel, with everything that it has received. */
export class Client {
  received = [];
  #waiting = [];

  static async dial(url) {
    const client = new Client();
    client.socket = new WebSocket(url);
    client.socket.on("message", (data, isBinary) => {
      client.received.push(isBinary ? data : data.toString());
      client.#waiting.splice(0).forEach(wake => wake());
    });
    await once(client.socket, "open");
    return client;
  }

  send(data) {
    this.socket.send(data);
  }

  /** The first message so far, or to come, that `wanted` takes. */
  async until(wanted) {
    const deadline = AbortSignal.timeout(10_000);
    for (;;) {
      const found = this.received.find(wanted);
      if (found !== undefined) return found;
      await new Promise((resolve, reject) => {
        this.#waiting.push(resolve);
        deadline.addEventListener("abort", () => reject(new Error(`not received, only ${this.received}`)), { once: true });
      });
    }
  }

  async close() {
    this.socket.close(1000);
    await once(this.socket, "close");
  }
}
