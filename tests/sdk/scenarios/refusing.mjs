// A business server with a wrong key: it is told why, and no key shows up in the gateway's logs.

import assert from "node:assert/strict";

export const refusing = [
  {
    name: "with a wrong key no tunnel is issued, and the client is told",
    async run({ business, gateway, client, trust }) {
      const wrongKey = "wrong-5e7c1f-kéy";
      gateway.secrets.push(wrongKey);
      trust(gateway, wrongKey);
      const guest = client();

      guest.tunnel.open();
      const { content } = await guest.events.until({ type: "error" });
      const [{ data }] = guest.phone.answers.entries;
      trust(gateway);

      assert.equal(content.code, 1001);
      assert.match(data.error, business.refusal);
    },
  },
  {
    name: "with a wrong key pushes and closes are refused, and nothing reaches the client",
    async run({ business, gateway, join, trust }) {
      const wrongKey = "wrong-90b2d4-kéy";
      gateway.secrets.push(wrongKey);
      const guest = await join();
      trust(gateway, wrongKey);

      const refused = { message: business.refusal };
      await assert.rejects(business.emit(guest.id, "news", "wrong"), refused);
      await assert.rejects(business.closeTunnel(guest.id), refused);
      trust(gateway);
      await business.emit(guest.id, "news", "right");
      await guest.events.until({ type: "news", content: "right" });

      assert.equal(guest.events.all({ type: "news" }).length, 1);
    },
  },
];
