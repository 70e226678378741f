// The way to replace a key that docs/operate.md describes, with the real SDK on both sides of each change.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

export const replacing = [replaced("behind the old one", (old, fresh) => [old, fresh]), replaced("before the old one", (old, fresh) => [fresh, old])];

/** A key is replaced while clients talk; meanwhile the new one stands `where` in the gateway's list. */
function replaced(where, both) {
  return {
    name: `a key is replaced, the new one ${where}, and no event is lost`,
    async run({ business, gateway, key: old, join, trust }) {
      const fresh = `${randomUUID()} näch-ster +/=`;
      const [leaver, speaker] = [await join(), await join()];
      const says = async (guest, type) => {
        guest.tunnel.emit(type, 1);
        await business.events.until({ event: "message", tunnelId: guest.id, type });
      };
      await says(speaker, "old key everywhere");

      await gateway.reload(both(old, fresh));
      await says(speaker, "gateway knows both");
      trust(gateway, fresh);
      await says(speaker, "business server has the new one");
      await says(speaker, "again");
      const newcomer = await join();
      await says(newcomer, "with the new one");
      leaver.tunnel.close();
      await business.events.until({ event: "close", tunnelId: leaver.id });
      const { data } = await business.broadcast([speaker.id, newcomer.id], "news", 1);
      assert.deepEqual(data.invalidTunnelIds, []);

      await gateway.reload([fresh]);
      await says(speaker, "old key gone");
      speaker.tunnel.close();
      await business.events.until({ event: "close", tunnelId: speaker.id });

      // Each event was handled once, however often it was sent.
      const handled = business.events.all({ event: "message", tunnelId: speaker.id });
      assert.equal(handled.length, 5);
      const sent = business.webhooks.all({ type: "message", tunnelId: speaker.id });
      assert.equal(new Set(sent.map(webhook => webhook.webhookId)).size, 5);
      assert.equal(sent.length, 6, "one webhook more: the first that the new key refused");

      // As it was.
      await gateway.reload([fresh, old]);
      trust(gateway, old);
      newcomer.tunnel.close();
      await business.events.until({ event: "close", tunnelId: newcomer.id });
      await gateway.reload([old]);
    },
  };
}
