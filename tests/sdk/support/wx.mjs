// The part of the mini-program's global `wx` that the client SDKs call, on top of fetch and ws, with hooks for tests.

import { WebSocket } from "ws";

import { Journal } from "./journal.mjs";

/** One phone: its storage, its only socket, and what a test can do to its network. */
export class Phone {
  /** Raw text frames: `{ way: "in" | "out", text }`. */
  frames = new Journal("frames");
  /** Answers to `wx.request`: `{ status, data }`. */
  answers = new Journal("answers");
  /** What the SDK's handlers threw: `{ error }`. A mini-program prints such errors and goes on. */
  errors = new Journal("errors");
  /** How sockets ended: `{ code, reason }`. */
  ends = new Journal("ends");

  #storage = new Map();
  #handlers = {};
  #socket = null;
  #online = true;
  #stranded = [];

  /** The global object that the SDK sees. */
  wx = {
    getStorageSync: key => this.#storage.get(key) ?? "",
    setStorageSync: (key, value) => void this.#storage.set(key, value),
    removeStorageSync: key => void this.#storage.delete(key),

    request: options => void this.#request(options),

    connectSocket: ({ url }) => this.#connect(url),
    onSocketOpen: handler => void (this.#handlers.open = handler),
    onSocketMessage: handler => void (this.#handlers.message = handler),
    onSocketClose: handler => void (this.#handlers.close = handler),
    onSocketError: handler => void (this.#handlers.error = handler),
    sendSocketMessage: options => this.#send(options),
    closeSocket: () => this.#close(),
  };

  /** Test hook: the TCP connection ends without a WebSocket close, by FIN or, with `reset`, by RST. */
  drop({ reset = false } = {}) {
    const { tcp } = this.#socket;
    if (reset) tcp.resetAndDestroy();
    else tcp.destroy();
  }

  /** Test hook: the network is gone. Nothing is read or sent any more, and the other side hears of nothing. */
  goOffline() {
    this.#online = false;
    this.#socket?.tcp.pause();
  }

  /** Test hook: the network is back; connections lost meanwhile are forgotten. */
  goOnline() {
    this.#online = true;
    for (const socket of this.#stranded.splice(0)) socket.terminate();
  }

  /** Switches the phone off. */
  destroy() {
    this.goOnline();
    this.#handlers = {};
    this.#socket?.terminate();
  }

  async #request({ url, method = "GET", header, success, fail }) {
    try {
      if (!this.#online) throw new Error("offline");
      const response = await fetch(url, { method, headers: header });
      const text = await response.text();
      const answer = { status: response.status, data: parsed(text) };
      this.answers.add(answer);
      this.#run(success, { statusCode: answer.status, data: answer.data });
    } catch (error) {
      this.#run(fail, { errMsg: `request:fail ${error.message}` });
    }
  }

  // The SDKs ask for wss whatever the gateway speaks; like a TLS terminator in front of it, we go on in the clear.
  #connect(url) {
    this.#close();
    const socket = new WebSocket(url.replace(/^wss:/, "ws:"));
    this.#socket = socket;
    socket.on("upgrade", response => void (socket.tcp = response.socket));
    socket.on("open", () => this.#run(this.#handlers.open, {}));
    socket.on("message", data => this.#receive(data.toString()));
    socket.on("error", error => this.#run(this.#handlers.error, { errMsg: error.message }));
    socket.on("close", (code, reason) => this.#ended(socket, code, reason.toString()));
  }

  #receive(text) {
    this.frames.add({ way: "in", text });
    this.#run(this.#handlers.message, { data: text });
  }

  #send({ data, success, fail }) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      this.#run(fail, { errMsg: "sendSocketMessage:fail" });
      return;
    }
    if (this.#online) {
      this.frames.add({ way: "out", text: data });
      this.#socket.send(data);
    }
    this.#run(success, {});
  }

  #close() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket || this.#online) {
      socket?.close();
      return;
    }
    socket.removeAllListeners();
    socket.on("error", () => {});
    this.#stranded.push(socket);
    queueMicrotask(() => this.#ended(socket, 1006, "offline"));
  }

  // The API has one global socket, so the end of an old one reaches whoever listens now.
  #ended(socket, code, reason) {
    if (this.#socket === socket) this.#socket = null;
    this.ends.add({ code, reason });
    this.#run(this.#handlers.close, { code, reason });
  }

  #run(handler, argument) {
    try {
      handler?.(argument);
    } catch (error) {
      this.errors.add({ error });
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
