// One pair of SDKs with a business server, a gateway and the clients of the scenario that is running.

import { randomUUID } from "node:crypto";

import { Node1 } from "./business-node1.mjs";
import { Client } from "./client.mjs";
import { Gateway } from "./gateway.mjs";

const SERVERS = {
  node1: async () => new Node1(),
  node2: async () => new (await import("./business-node2.mjs")).Node2(),
};

/** What every scenario gets. Its functions are arrows, so that scenarios can pick what they use. */
export class World {
  /** The gateway's `heartbeat_secs`. */
  heartbeatSecs = 2;
  /** The tenant's key: unique, so that a leak can be found, and of letters that need care. */
  key = `${randomUUID()} kéy-密钥 +/=`;

  #clientSdk;
  #clients = [];
  #named = 0;

  /** Starts a business server on `serverSdk` and a gateway for it; clients will use `clientSdk`. */
  static async start(serverSdk, clientSdk) {
    const world = new World();
    world.#clientSdk = clientSdk;
    world.business = await SERVERS[serverSdk]();
    await world.business.start();
    try {
      world.gateway = await world.startGateway();
    } catch (error) {
      world.business.stop();
      throw error;
    }
    world.trust(world.gateway);
    return world;
  }

  /** Starts one more gateway like the first. */
  startGateway = () => {
    const { key, heartbeatSecs } = this;
    return Gateway.start({ serverHost: this.business.host, key, heartbeatSecs });
  };

  /** Points the business server to `gateway`, with the right key unless another is given. */
  trust = (gateway, key = this.key) => {
    this.business.configure({ gatewayUrl: gateway.url, key });
  };

  /** A client that has not connected yet. */
  client = (kind = "guest") => {
    this.#named += 1;
    const client = new Client(this.#clientSdk, `${kind}-${this.#named}`, this.business);
    this.#clients.push(client);
    return client;
  };

  /** A connected client; its tunnel's id is in `id`. */
  join = async () => {
    const client = this.client();
    client.id = await client.connect();
    return client;
  };

  /** Between scenarios: everybody leaves, and the business server is as it was. */
  async empty() {
    this.business.beforeSdk = async () => {};
    this.trust(this.gateway);
    const clients = this.#clients.splice(0);
    await Promise.all(clients.map(client => client.leave()));
    await this.business.chat.idle();
  }

  /** Ends it all; more than once does no harm. */
  async stop() {
    try {
      await this.gateway.stop();
    } finally {
      this.business.stop();
    }
  }
}
