// The old demo on qcloud-weapp-server-sdk (Wafer1) and express. Its receive URL cannot carry a port, so it needs port 80 or a tenant
// with `forward_to`.

import { once } from "node:events";
import { createServer } from "node:http";

import express from "express";
import sdk from "qcloud-weapp-server-sdk";
import tunnelApi from "qcloud-weapp-server-sdk/lib/tunnel/tunnel-api.js";

import { Business, PAGE } from "./business.mjs";

const { TunnelService, config } = sdk;

/** A business server on the unmodified node1. */
export class Node1 extends Business {
  /** Sends `type` and `content` to several tunnels. */
  broadcast = (tunnelIds, type, content) => TunnelService.broadcast(tunnelIds, type, content);
  /** Sends `type` and `content` to one tunnel. */
  emit = (tunnelId, type, content) => TunnelService.emit(tunnelId, type, content);
  /** Closes one tunnel. */
  closeTunnel = tunnelId => TunnelService.closeTunnel(tunnelId);
  /** Sends text that need not be what `emit` makes; the SDK's own inner call. */
  pushRaw = (tunnelId, content) => tunnelApi.emitPacket([tunnelId], "message", content);
  /** How the SDK words a refusal by the gateway, with the gateway's code and message. */
  refusal = /^信道服务调用失败：[1-9]\d* - (?!undefined)[ -~]+$/;

  /** Points the SDK to a gateway. */
  configure({ gatewayUrl, key }) {
    config({ ServerHost: this.host, TunnelServerUrl: gatewayUrl, TunnelSignatureKey: key });
  }

  /** Starts the server on `port`, which receive URLs cannot carry, and the login service that the SDK asks about every client. */
  async start(port = 80) {
    this.auth = createServer(answerLogin).listen(0, this.host);
    await once(this.auth, "listening");
    config({ AuthServerUrl: `http://${this.host}:${this.auth.address().port}/` });

    const app = express();
    app.use(express.json());
    app.get(PAGE, welcomeWafer2);
    app.post(PAGE, (request, _response, next) => this.arrived(request, request.body).then(() => next()));
    app.all(PAGE, (request, response) => TunnelService.create(request, response).handle(this.chat, { checkLogin: true }));
    app.use(quietly);
    await this.listen(app, port);
  }

  stop() {
    super.stop();
    this.auth.close();
    this.auth.closeAllConnections();
  }
}

/** Tencent's login service, as far as `checkLogin` uses it: the session key is the user's name. */
async function answerLogin(request, response) {
  const body = JSON.parse(Buffer.concat(await request.toArray()));
  const { skey } = body.interface.para;
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ returnCode: 0, returnMessage: "OK", returnData: { user_info: { name: skey } } }));
}

/** Wafer2 clients send no X-WX-Id and expect another envelope; the SDK writes its answer itself, so both are bridged here. */
function welcomeWafer2(request, response, next) {
  if (!request.headers["x-wx-id"]) {
    request.headers["x-wx-id"] = "wafer2";
    const { end } = response;
    response.end = body => {
      const { url, ...rest } = JSON.parse(body);
      end.call(response, JSON.stringify({ ...rest, data: { connectUrl: url } }));
    };
  }
  next();
}

/** Express's own handling of an error (the SDK throws on some messages, after its answer), without printing it. */
function quietly(_error, request, response, _next) {
  if (response.headersSent) request.socket.destroy();
  else response.status(500).end();
}
