// The end of a gateway, and what must be true of all tunnels then.

import assert from "node:assert/strict";

export const ending = [
  {
    name: "clients of a gateway that stops move on to its successor",
    async run(world) {
      const { business, gateway, join } = world;
      const guests = [await join(), await join()];
      const successor = await world.startGateway();
      world.gateway = successor;
      world.trust(successor);

      await gateway.stop();
      await Promise.all(guests.map(guest => guest.events.until({ type: "reconnect" })));

      for (const guest of guests) {
        const newId = await guest.connected(2);
        const oldClosed = { type: "close", tunnelId: guest.id };
        assert.equal(business.webhooks.all(oldClosed).length, 1, "the old tunnel's close came before the gateway ended");
        assert.deepEqual(guest.phone.frames.all({ way: "in", text: "close" }), []);
        guest.tunnel.emit("after", 1);
        await business.events.until({ event: "message", tunnelId: newId, type: "after" });
      }
    },
  },
  {
    name: "every tunnel of this run had one connect first, one close last, and every event once",
    async run(world) {
      await world.empty();
      await world.stop();

      const { webhooks, events } = world.business;
      const handled = webhooks.entries.filter(webhook => !webhooks.entries.some(other => replaces(other, webhook)));
      const tunnels = new Set(handled.map(webhook => webhook.tunnelId));
      assert.ok(tunnels.size >= 25, `only ${tunnels.size} tunnels`);
      for (const tunnelId of tunnels) {
        const types = handled.filter(webhook => webhook.tunnelId === tunnelId).map(webhook => webhook.type);
        const messages = Array(types.length - 2).fill("message");
        assert.deepEqual(types, ["connect", ...messages, "close"], `tunnel ${tunnelId}`);
      }
      const ids = handled.map(webhook => webhook.webhookId);
      assert.ok(ids.every(Boolean), "an event without webhook-id");
      assert.equal(new Set(ids).size, ids.length, "an event came twice");
      assert.deepEqual(events.all({ event: "failed" }), []);
    },
  },
];

/** Whether `other` is the event of `webhook` again, with another signature: the SDK had refused the first one, see replacing.mjs. */
function replaces(other, webhook) {
  return other.at > webhook.at && other.webhookId === webhook.webhookId && other.signature !== webhook.signature;
}
