// Connections that are lost: noticed at once or by silence, reported once, and replaced by the client SDK.

import assert from "node:assert/strict";

/** What delivery and a busy machine may add to a bound, in seconds. */
const SLACK_SECS = 1;

export const losing = [dropped("FIN", { reset: false }), dropped("RST", { reset: true }), {
  name: "a silent client is closed after twice the heartbeat, and comes back when it can",
  async run({ business, heartbeatSecs, join }) {
    const guest = await join();
    await guest.phone.frames.until({ way: "out", text: "ping" });

    guest.phone.goOffline();
    const lastHeard = guest.phone.frames.all({ way: "out" }).at(-1).at;
    const { at } = await business.events.until({ event: "close", tunnelId: guest.id });
    guest.phone.goOnline();
    await guest.events.until({ type: "reconnect" });
    const newId = await guest.connected(2);
    await business.emit(newId, "news", 1);
    await guest.events.until({ type: "news" });

    const silenceSecs = (at - lastHeard) / 1000;
    assert.ok(silenceSecs >= 2 * heartbeatSecs, `closed after ${silenceSecs} s`);
    assert.ok(silenceSecs <= 2 * heartbeatSecs + 1 + SLACK_SECS, `closed after ${silenceSecs} s`);
    assert.notEqual(newId, guest.id);
    assert.equal(business.webhooks.all({ type: "close", tunnelId: guest.id }).length, 1);
  },
}];

/** A connection is cut by `how`: the business server hears of it at once, the client SDK reconnects. */
function dropped(how, options) {
  return {
    name: `a connection cut by ${how} is reported at once, and the client reconnects with a new tunnel`,
    async run({ business, heartbeatSecs, join }) {
      const guest = await join();
      guest.tunnel.emit("before", 1);
      await business.events.until({ event: "message", tunnelId: guest.id, type: "before" });

      const cutAt = performance.now();
      guest.phone.drop(options);
      const { at } = await business.events.until({ event: "close", tunnelId: guest.id });
      await guest.events.until({ type: "reconnecting" });
      guest.tunnel.emit("meanwhile", 1);
      await guest.events.until({ type: "reconnect" });
      const newId = await guest.connected(2);
      await business.events.until({ event: "message", tunnelId: newId, type: "meanwhile" });
      const { data } = await business.broadcast([guest.id, newId], "news", 1);
      await guest.events.until({ type: "news" });

      assert.ok(at - cutAt < heartbeatSecs * 1000, `reported after ${at - cutAt} ms`);
      assert.notEqual(newId, guest.id);
      assert.deepEqual(data.invalidTunnelIds, [guest.id]);
      assert.equal(business.webhooks.all({ type: "close", tunnelId: guest.id }).length, 1);
    },
  };
}
