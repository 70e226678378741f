// Deliberate ends: by the business server, by the client. The other side is told, exactly once.

import assert from "node:assert/strict";

export const closing = [
  {
    name: "the business server closes a tunnel: the client is told and stays away",
    async run({ business, join }) {
      const [guest, other] = [await join(), await join()];
      await guest.events.until({ type: "people", content: { total: 2, enter: other.name } });

      const answer = await business.closeTunnel(guest.id);
      await guest.events.until({ type: "close" });
      await business.events.until({ event: "close", tunnelId: guest.id });
      await other.events.until({ type: "people", content: { total: 1, leave: guest.name } });
      await guest.phone.ends.until({});

      assert.equal(answer.code, 0);
      assert.equal(guest.phone.frames.all({ way: "in" }).at(-1).text, "close");
      assert.equal(guest.phone.frames.all({ way: "out" }).at(-1).text, "close");
      assert.ok(guest.tunnel.isClosed());
      assert.deepEqual(guest.events.all({ type: "reconnecting" }), []);
      assert.equal(guest.phone.answers.entries.length, 1);
      assert.equal(business.webhooks.all({ type: "close", tunnelId: guest.id }).length, 1);
    },
  },
  {
    name: "what was pushed before a close still arrives",
    async run({ business, join }) {
      const guest = await join();

      for (let n = 1; n <= 20; n += 1) await business.emit(guest.id, "news", n);
      await business.closeTunnel(guest.id);
      await guest.events.until({ type: "close" });

      assert.equal(guest.events.all({ type: "news" }).length, 20);
    },
  },
  {
    name: "a stranger's tunnel is closed from its connect webhook",
    async run({ business, client }) {
      const stranger = client("stranger");

      const id = await stranger.connect();
      await stranger.events.until({ type: "close" });
      await business.events.until({ event: "close", tunnelId: id });
      // Once for the connect, once more for the close of a tunnel that is unknown by then.
      await business.events.until({ event: "thrown out", tunnelId: id }, 2);

      assert.deepEqual(stranger.events.all({ type: "reconnecting" }), []);
      assert.equal(business.webhooks.all({ type: "close", tunnelId: id }).length, 1);
    },
  },
  {
    name: "inside the close webhook the tunnel is already invalid",
    async run({ business, join }) {
      const guest = await join();
      let answer;
      business.beforeSdk = async ({ type, tunnelId }) => {
        if (type === "close") answer = await business.emit(tunnelId, "late", 1);
      };

      guest.tunnel.close();
      await business.events.until({ event: "close", tunnelId: guest.id });

      assert.deepEqual(answer.data.invalidTunnelIds, [guest.id]);
    },
  },
  {
    name: "the client closes its tunnel, after its last words",
    async run({ business, join }) {
      const guest = await join();

      for (let n = 1; n <= 20; n += 1) guest.tunnel.emit("last words", n);
      guest.tunnel.close();
      await business.events.until({ event: "close", tunnelId: guest.id });
      const { code } = await guest.phone.ends.until({});

      const heard = business.webhooks.all({ tunnelId: guest.id }).map(webhook => webhook.type);
      assert.deepEqual(heard, ["connect", ...Array(20).fill("message"), "close"]);
      assert.deepEqual(guest.events.all({ type: "close" }).length, 1);
      assert.notEqual(code, 1006, "the gateway did not answer the close frame");
    },
  },
];
