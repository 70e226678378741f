// The old demo on wafer-node-sdk 1.4.5 (Wafer2) and Koa. The SDK looks up logins in MySQL through knex: a stub answers.

import { createRequire } from "node:module";

import Koa from "koa";
import bodyParser from "koa-bodyparser";

import { Business } from "./business.mjs";

const require = createRequire(import.meta.url);
const sdkFile = require.resolve("wafer-node-sdk");
const knexFile = createRequire(sdkFile).resolve("knex");

/** knex, as far as the login check uses it: the session key is the user's name. */
const knex = () => () => ({ select: () => ({ where: async ({ skey }) => [session(skey)] }) });
require.cache[knexFile] = { id: knexFile, filename: knexFile, loaded: true, exports: knex };

/** Settings that the SDK insists on and the tunnel part never uses. */
const UNUSED = {
  rootPathname: "",
  useQcloudLogin: false,
  mysql: { host: "", port: 0, user: "", db: "", pass: "" },
  cos: { region: "", fileBucket: "", uploadFolder: "" },
  qcloudAppId: "",
  qcloudSecretId: "",
  qcloudSecretKey: "",
  wxMessageToken: "",
};

/** A business server on the unmodified node2, which keeps its first receive URL for ever: one for each process. */
export class Node2 extends Business {
  /** Sends `type` and `content` to several tunnels. */
  broadcast = (tunnelIds, type, content) => this.sdk.tunnel.broadcast(tunnelIds, type, content);
  /** Sends `type` and `content` to one tunnel; the SDK has no call of its own for this. */
  emit = (tunnelId, type, content) => this.sdk.tunnel.broadcast([tunnelId], type, content);
  /** Closes one tunnel. */
  closeTunnel = tunnelId => this.sdk.tunnel.closeTunnel(tunnelId);
  /** Sends text that need not be what `broadcast` makes; the SDK's own inner call. */
  pushRaw = (tunnelId, content) => require("wafer-node-sdk/lib/tunnel/api").emitPacket([tunnelId], "message", content);
  /** How the SDK words a refusal by the gateway; code and message are lost, but for an unreadable answer it has another word. */
  refusal = /^ERR_UNKNOWN_TUNNEL_ERROR$/;

  /** Points the SDK to a gateway. */
  configure({ gatewayUrl, key }) {
    this.sdk = require(sdkFile)({
      ...UNUSED,
      serverHost: this.host,
      serverPort: this.port,
      tunnelServerUrl: gatewayUrl,
      tunnelSignatureKey: key,
      wxLoginExpires: 1e9,
    });
  }

  /** Starts the server on `port`. */
  async start(port = 0) {
    const app = new Koa();
    app.use(wrapped);
    app.use(bodyParser());
    app.use(ctx => (ctx.method === "GET" ? this.#open(ctx) : this.#deliver(ctx)));
    await this.listen(app.callback(), port);
  }

  async #open(ctx) {
    const { tunnel, userinfo } = await this.sdk.tunnel.getTunnelUrl(ctx.req);
    this.chat.onRequest(tunnel.tunnelId, userinfo);
    ctx.state.data = tunnel;
    // Wafer1 clients, which send X-WX-Id, look for the URL here.
    if (ctx.get("X-WX-Id")) ctx.body = { url: tunnel.connectUrl };
  }

  async #deliver(ctx) {
    await this.arrived(ctx, ctx.request.body);
    const { type, tunnelId, content } = await this.sdk.tunnel.onTunnelMessage(ctx.request.body);
    if (type === "connect") this.chat.onConnect(tunnelId);
    if (type === "message") this.chat.onMessage(tunnelId, content.messageType, content.messageContent);
    if (type === "close") this.chat.onClose(tunnelId);
  }
}

/** The demo's outermost middleware: every answer is 200 with a code. */
async function wrapped(ctx, next) {
  try {
    await next();
    ctx.body ??= { code: 0, data: ctx.state.data ?? {} };
  } catch (error) {
    ctx.status = 200;
    ctx.body = { code: -1, error: error.message };
  }
}

function session(skey) {
  return { last_visit_time: "2018-01-01 00:00:00", user_info: JSON.stringify({ name: skey }) };
}
