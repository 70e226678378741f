// The chat room of the old demos: what a business server does with tunnels, whichever SDK carries it.

/** Who is here, and what they say. */
export class Chat {
  #users = new Map();
  #present = [];
  #calls = new Set();

  /** `tunnels` has the SDK's `broadcast` and `closeTunnel`; `events` records what the SDK told us. */
  constructor(tunnels, events) {
    this.tunnels = tunnels;
    this.events = events;
  }

  /** A client asked for a tunnel. */
  onRequest(tunnelId, user) {
    this.#users.set(tunnelId, user.name);
    this.events.add({ event: "request", tunnelId, user: user.name });
  }

  /** A tunnel was connected: tell everybody, the newcomer included. Strangers are thrown out. */
  onConnect(tunnelId) {
    const user = this.#users.get(tunnelId);
    this.events.add({ event: "connect", tunnelId, user });
    if (user === undefined || user.startsWith("stranger")) {
      this.#users.delete(tunnelId);
      this.#close(tunnelId);
      return;
    }
    this.#present.push(tunnelId);
    this.#broadcast("people", { total: this.#present.length, enter: user });
  }

  /** Somebody said something. */
  onMessage(tunnelId, type, content) {
    const user = this.#users.get(tunnelId);
    this.events.add({ event: "message", tunnelId, user, type, content });
    if (type !== "speak") return;
    if (user === undefined) this.#close(tunnelId);
    else this.#broadcast("speak", { who: user, word: content.word });
  }

  /** A tunnel ended. Like the demos, an unknown one is closed once more. */
  onClose(tunnelId) {
    const user = this.#users.get(tunnelId);
    this.events.add({ event: "close", tunnelId, user });
    if (user === undefined) {
      this.#close(tunnelId);
      return;
    }
    this.#remove(tunnelId);
    if (this.#present.length > 0) this.#broadcast("people", { total: this.#present.length, leave: user });
  }

  /** Resolves when none of its calls to the gateway is under way. */
  async idle() {
    await Promise.all(this.#calls);
  }

  #remove(tunnelId) {
    this.#users.delete(tunnelId);
    this.#present = this.#present.filter(id => id !== tunnelId);
  }

  #broadcast(type, content) {
    this.#call("broadcast", async () => {
      const { data } = await this.tunnels.broadcast(this.#present, type, content);
      for (const tunnelId of data.invalidTunnelIds) this.#remove(tunnelId);
    });
  }

  #close(tunnelId) {
    this.#call("closeTunnel", async () => {
      await this.tunnels.closeTunnel(tunnelId);
      this.events.add({ event: "thrown out", tunnelId });
    });
  }

  // Like the demos, the chat does not wait for its calls; a failed one is recorded.
  #call(name, run) {
    const failed = error => this.events.add({ event: "failed", call: name, message: error.message });
    const call = run().catch(failed).finally(() => this.#calls.delete(call));
    this.#calls.add(call);
  }
}
