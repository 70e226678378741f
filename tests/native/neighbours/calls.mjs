// Calls of the native API, as tenants and strangers make them: with a bearer key or signed, from any address of this machine.

import { createHash, createHmac, randomUUID } from "node:crypto";
import http from "node:http";
import https from "node:https";
import net from "node:net";

const REQUEST_TIMEOUT_MS = 20_000;

/** A caller: a tenant with its key, at one address, with connections of its own. */
export class Caller {
  constructor(url, tenant, { from = "127.0.0.1", sockets = 64 } = {}) {
    Object.assign(this, { url: new URL(url), tenant, from });
    this.http = this.url.protocol === "https:" ? https : http;
    this.agent = new this.http.Agent({ keepAlive: true, maxSockets: sockets, localAddress: from });
  }

  /** One call; its status and body. `extra` may have headers, and `signed` in place of a bearer key. */
  call(method, path, value, extra = {}) {
    const body = value === undefined ? "" : JSON.stringify(value);
    const headers = { "content-length": Buffer.byteLength(body), ...this.#proof(method, path, body, extra), ...extra.headers };
    return this.send(method, path, headers, body);
  }

  #proof(method, path, body, { signed = false, nonce = randomUUID() }) {
    if (this.tenant === undefined) return {};
    if (!signed) return { authorization: `Bearer ${this.tenant.id}:${this.tenant.key}` };
    const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
    const parameters =
      `("@method" "@path" "content-digest");created=${Math.floor(Date.now() / 1000)};keyid="${this.tenant.id}";nonce="${nonce}";alg="hmac-sha256"`;
    const base = `"@method": ${method}\n"@path": ${path}\n"content-digest": ${digest}\n"@signature-params": ${parameters}`;
    const signature = createHmac("sha256", this.tenant.key).update(base).digest("base64");
    return { "content-digest": digest, "signature-input": `s=${parameters}`, signature: `s=:${signature}:` };
  }

  /** Any request; an error counts as an answer with its code in place of a status. */
  send(method, path, headers, body = "") {
    return new Promise(resolve => {
      const { hostname, port } = this.url;
      const failed = error => resolve({ status: error.code ?? "failed", body: "" });
      const sent = this.http.request({ hostname, port, method, path, headers, agent: this.agent, timeout: REQUEST_TIMEOUT_MS }, answer => {
        const pieces = [];
        answer.on("data", piece => pieces.push(piece)).on("error", failed);
        answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(pieces).toString() }));
      });
      sent.on("error", failed).on("timeout", () => sent.destroy(Object.assign(new Error("late"), { code: "late" })));
      sent.end(body);
    });
  }

  /** A bare connection that says `text` when it is there. */
  socket(text) {
    const { hostname: host, port } = this.url;
    const socket = net.connect({ host, port: Number(port), localAddress: this.from });
    socket.on("error", () => {}).on("connect", () => socket.write(text));
    return socket;
  }
}
