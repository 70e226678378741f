// Tunnels at work: connecting, talking both ways, broadcasting.

import assert from "node:assert/strict";

export const talking = [
  {
    name: "a client connects and both sides are told",
    async run({ business, gateway, client, heartbeatSecs }) {
      const guest = client();
      const id = await guest.connect();

      assert.deepEqual(business.events.all({ tunnelId: id }).map(e => e.event), ["request", "connect"]);
      assert.match(guest.tunnel.socketUrl, new RegExp(`^wss://${new URL(gateway.url).host}/`));
      assert.match(id, /^(?!\d+$)[\w.~-]{1,64}$/);
      await guest.phone.frames.until({ way: "in", text: "pong" });
      assert.equal(guest.phone.frames.all({ way: "in" })[0].text, `timeout:${heartbeatSecs}`);
      assert.equal(guest.phone.frames.all({ text: text => text.startsWith("timeout") }).length, 1);
    },
  },
  {
    name: "a newcomer receives what is broadcast while its connect is handled",
    async run({ join }) {
      const guest = await join();

      const people = await guest.events.until({ type: "people" });

      assert.deepEqual(people.content, { total: 1, enter: guest.name });
    },
  },
  {
    name: "client and business server talk",
    async run({ business, join }) {
      const guest = await join();

      guest.tunnel.emit("question", { word: "在吗?" });
      const { type, content } = await business.events.until({ event: "message", tunnelId: guest.id });
      await business.emit(guest.id, "answer", ["在", 1, null]);
      const answer = await guest.events.until({ type: "answer" });

      assert.deepEqual([type, content], ["question", { word: "在吗?" }]);
      assert.deepEqual(answer.content, ["在", 1, null]);
    },
  },
  {
    name: "what one says everybody hears, once",
    async run({ join }) {
      const guests = [await join(), await join(), await join()];

      const words = ["大家好", "再见"];
      for (const word of words) {
        guests[1].tunnel.emit("speak", { word });
        await Promise.all(guests.map(guest => guest.events.until({ type: "speak", content: { who: guests[1].name, word } })));
      }

      for (const guest of guests) assert.equal(guest.events.all({ type: "speak" }).length, words.length);
    },
  },
  {
    name: "a push answers which tunnels are not open, and reaches the others",
    async run({ business, client, join }) {
      const [guest, gone] = [await join(), await join()];
      gone.tunnel.close();
      await business.events.until({ event: "close", tunnelId: gone.id });
      const late = client();
      late.phone.wx.connectSocket = () => {};
      late.tunnel.open();
      const { tunnelId: unused } = await business.events.until({ event: "request", user: late.name });

      const ids = ["made-up", guest.id, gone.id, "", unused, "made-up", guest.id];
      const answer = await business.broadcast(ids, "news", 1);
      const nobody = await business.broadcast([], "news", 2);
      await business.emit(guest.id, "news", 3);
      await guest.events.until({ type: "news", content: 3 });

      assert.equal(answer.code, 0);
      assert.deepEqual(answer.data, { invalidTunnelIds: ["made-up", gone.id, "", unused] });
      assert.deepEqual(nobody.data, { invalidTunnelIds: [] });
      assert.deepEqual(guest.events.all({ type: "news" }).map(e => e.content), [1, 3]);
    },
  },
  {
    name: "a push to 10,000 tunnels, of which one is open, is answered within the 3 s that php2 waits",
    async run({ business, join }) {
      const guest = await join();
      const unknown = Array.from({ length: 9_999 }, (_, n) => `made-up-${n}-0123456789abcdef0123456789`);

      const askedAt = performance.now();
      const { data } = await business.broadcast([...unknown, guest.id], "news", 1);
      const tookMs = performance.now() - askedAt;
      await guest.events.until({ type: "news" });

      assert.deepEqual(data.invalidTunnelIds, unknown);
      assert.ok(tookMs < 3000, `took ${tookMs} ms`);
    },
  },
  {
    name: "while a webhook is unanswered the tunnel takes pushes and pings, and its next webhook waits",
    async run({ business, client }) {
      const guest = client();
      let release;
      const held = new Promise(resolve => (release = resolve));
      business.beforeSdk = webhook => (webhook.type === "connect" ? held : undefined);
      guest.tunnel.open();
      const { tunnelId } = await business.webhooks.until({ type: "connect", tunnelId: isOf(business, guest) });
      guest.tunnel.emit("early", 1);

      const { data } = await business.emit(tunnelId, "news", 1);
      await guest.events.until({ type: "news" });
      await guest.phone.frames.until({ way: "in", text: "pong" }, 2);
      const arrived = business.webhooks.all({ tunnelId }).map(webhook => webhook.type);
      release();
      await business.events.until({ event: "message", tunnelId, type: "early" });

      assert.deepEqual(data.invalidTunnelIds, []);
      assert.deepEqual(arrived, ["connect"]);
    },
  },
  {
    name: "a healthy client stays connected for more than twice the heartbeat",
    async run({ business, join }) {
      const guest = await join();

      await guest.phone.frames.until({ way: "in", text: "pong" }, 4);

      assert.deepEqual(guest.events.all({ type: "reconnecting" }), []);
      assert.deepEqual((await business.emit(guest.id, "news", 1)).data.invalidTunnelIds, []);
    },
  },
];

/** Whether a tunnel was requested by `guest`. */
function isOf(business, guest) {
  return tunnelId => business.events.all({ event: "request", tunnelId, user: guest.name }).length > 0;
}
