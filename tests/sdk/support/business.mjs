// What the two business servers have in common: their journals, the raw view of webhooks, and an HTTP server.

import { once } from "node:events";
import { createServer } from "node:http";

import { Chat } from "./chat.mjs";
import { Journal } from "./journal.mjs";
import { ownAddress } from "./loopback.mjs";

/** The page where clients ask for tunnels and the gateway delivers webhooks. */
export const PAGE = "/tunnel";

// node2's HTTP client would send even loopback requests to a proxy.
for (const name of ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"]) delete process.env[name];

/** A business server; the subclass brings the SDK. */
export class Business {
  /** Loopback address, which is also the SDK's ServerHost. */
  host = ownAddress(0);
  /** What the SDK told the chat: `{ event, tunnelId, user, ... }`. */
  events = new Journal("business events");
  /** Webhooks as they arrived, before the SDK saw them: `{ type, tunnelId, content, webhookId, signature }`. */
  webhooks = new Journal("webhooks");
  /** What this server is for. */
  chat = new Chat(this, this.events);
  /** Test hook: awaited with each webhook before the SDK gets it. */
  beforeSdk = async () => {};

  /** Listens on `port` of our own address. */
  async listen(handler, port) {
    this.server = createServer(handler).listen(port, this.host);
    await once(this.server, "listening");
    this.port = this.server.address().port;
    this.pageUrl = `http://${this.host}:${this.port}${PAGE}`;
  }

  /** Records one webhook; resolves when the SDK may have it. */
  async arrived(request, body) {
    const { type, tunnelId, content } = JSON.parse(body.data);
    const webhook = { type, tunnelId, content, webhookId: request.headers["webhook-id"], signature: body.signature };
    this.webhooks.add(webhook);
    await this.beforeSdk(webhook);
  }

  /** Stops listening. */
  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
