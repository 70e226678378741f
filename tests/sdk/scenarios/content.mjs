// Content is opaque: whatever it is, it arrives unchanged, in order, and large.

import assert from "node:assert/strict";

/** Texts that a gateway which parses, trims, escapes, splits or joins would change. */
const TEXTS = [
  "a:b::c:",
  "two\nlines\r\nand\ttabs\u0000",
  " \ufeff leading and trailing \u2028 ",
  "信道 é 😀 \u{10ffff}",
  '{"n":1e400,"big":12345678901234567890123,"z":1.0,"a":-0,"a":2}',
  '{ "type" : "spaced",  "content":"\\ud800 \\/ \\u4e2d" }',
  '{"type":"no content"}',
  '{"type":"x","content":null}',
  "not json {",
  "[]",
  "close",
  "message:ping",
  "%3A+&amp;\\n",
];

/** Values that SDKs wrap themselves. */
const VALUES = ["", "a:b\nc", "信道 😀", "\ud800", 12345678901234567000, 0, null, true, [], {}, { content: { type: "close" } }];

/** Text that needs one, two, three and four bytes for a character, at least `bytes` long. */
function large(bytes) {
  return "aé信😀".repeat(Math.ceil(bytes / 10));
}

export const content = [
  {
    name: "text from the client reaches the business server unchanged",
    async run({ business, join }) {
      const guest = await join();

      for (const text of ["", ...TEXTS]) guest.sendRaw(`message:${text}`);
      guest.sendRaw("message");
      guest.sendRaw("message:last");
      await business.webhooks.until({ type: "message", tunnelId: guest.id, content: "last" });

      const received = business.webhooks.all({ type: "message", tunnelId: guest.id }).map(webhook => webhook.content);
      assert.deepEqual(received, ["", ...TEXTS, "", "last"]);
    },
  },
  {
    name: "text from the business server reaches the client unchanged",
    async run({ business, join }) {
      const guest = await join();
      await guest.events.until({ type: "people" });
      const earlier = pushed(guest).length;

      for (const text of TEXTS) await business.pushRaw(guest.id, text);
      await guest.phone.frames.until({ way: "in", text: `message:${TEXTS.at(-1)}` });

      assert.deepEqual(pushed(guest).slice(earlier), TEXTS.map(text => `message:${text}`));
    },
  },
  {
    name: "values survive both SDKs, both ways",
    async run({ business, join }) {
      const guest = await join();

      for (const value of VALUES) guest.tunnel.emit("value", value);
      await business.events.until({ event: "message", tunnelId: guest.id, type: "value" }, VALUES.length);
      for (const value of VALUES) await business.emit(guest.id, "value", value);
      await guest.events.until({ type: "value" }, VALUES.length);

      const received = business.events.all({ event: "message", tunnelId: guest.id });
      assert.deepEqual(received.map(e => e.content), VALUES);
      assert.deepEqual(guest.events.all({ type: "value" }).map(e => e.content), VALUES);
    },
  },
  {
    name: "types that the client SDK reserves arrive with an @",
    async run({ business, join }) {
      const guest = await join();
      const reserved = ["connect", "close", "reconnecting", "reconnect", "error"];

      for (const type of reserved) await business.emit(guest.id, type, type);
      await guest.events.until({ type: "@error" });

      const received = guest.events.all({ type: type => type.startsWith("@") });
      assert.deepEqual(received.map(e => e.type), reserved.map(type => `@${type}`));
    },
  },
  {
    name: "a message on which the server SDK throws is delivered, and so are the next",
    async run({ business, join }) {
      const guest = await join();

      for (const text of ["5", "1e400", '"s"', "null", '{"type":"after"}']) guest.sendRaw(`message:${text}`);
      await business.events.until({ event: "message", tunnelId: guest.id, type: "after" });

      const received = business.webhooks.all({ type: "message", tunnelId: guest.id }).map(webhook => webhook.content);
      assert.deepEqual(received, ["5", "1e400", '"s"', "null", '{"type":"after"}']);
    },
  },
  {
    name: "frames of unknown meaning are ignored",
    async run({ business, join }) {
      const guest = await join();

      for (const text of ["", ":", "shout:hi", "pong", "timeout:1", "connect", "PING", "closed", "\n"]) guest.sendRaw(text);
      guest.tunnel.emit("after", 1);
      await business.events.until({ event: "message", tunnelId: guest.id, type: "after" });

      assert.equal(business.webhooks.all({ type: "message", tunnelId: guest.id }).length, 1);
      assert.ok(guest.tunnel.isActive());
    },
  },
  {
    name: "messages of 64 KiB pass both ways",
    async run({ business, join }) {
      const guest = await join();
      const text = large(64 * 1024);

      guest.tunnel.emit("large", text);
      const up = await business.events.until({ event: "message", tunnelId: guest.id, type: "large" });
      await business.emit(guest.id, "large", text);
      const down = await guest.events.until({ type: "large" });

      assert.ok(up.content === text, "changed on the way up");
      assert.ok(down.content === text, "changed on the way down");
    },
  },
  {
    name: "200 messages each way keep their order",
    async run({ business, join }) {
      const guest = await join();
      const numbers = Array.from({ length: 200 }, (_, n) => n);

      for (const n of numbers) guest.tunnel.emit("up", n);
      for (const n of numbers) await business.emit(guest.id, "down", n);
      await business.events.until({ event: "message", tunnelId: guest.id, type: "up" }, 200);
      await guest.events.until({ type: "down" }, 200);

      const up = business.events.all({ event: "message", tunnelId: guest.id, type: "up" });
      assert.deepEqual(up.map(e => e.content), numbers);
      assert.deepEqual(guest.events.all({ type: "down" }).map(e => e.content), numbers);
    },
  },
];

/** Message frames that came in. */
function pushed(guest) {
  return guest.phone.frames.all({ way: "in", text: text => text.startsWith("message") }).map(frame => frame.text);
}
