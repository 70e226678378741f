// A chat business server for wafergate: Node 20 and the published standardwebhooks package, nothing else.
//
//   npm install && GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 node chat.mjs
//
// A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
// Requests are signed, so the key itself never travels: a bearer key would be shorter, but only TLS or loopback may carry one.
import { createHash, createHmac, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const { GATEWAY = "http://127.0.0.1:8080", TENANT = "shop", KEY, PORT = "3000" } = process.env;
const { WEBHOOK_URL = `http://127.0.0.1:${PORT}/events` } = process.env;
const webhook = new Webhook(KEY);

// Posts to the gateway, signed by RFC 9421.
async function post(path, value) {
    const body = JSON.stringify(value);
    const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
    const created = Math.floor(Date.now() / 1000);
    const params = `("@method" "@path" "content-digest");created=${created};keyid="${TENANT}";nonce="${randomUUID()}";alg="hmac-sha256"`;
    const base = `"@method": POST\n"@path": ${path}\n"content-digest": ${digest}\n"@signature-params": ${params}`;
    const secret = Buffer.from(KEY.slice("whsec_".length), "base64");
    const signature = createHmac("sha256", secret).update(base).digest("base64");
    const headers = { "content-digest": digest, "signature-input": `s=${params}`, signature: `s=:${signature}:` };
    const answer = await fetch(GATEWAY + path, { method: "POST", headers, body });
    return [answer.status, await answer.json()];
}

const toChat = (type, content) => ({ actions: [{ push: { to: { group: "chat" }, type, content } }] });

// What an event is answered with: the gateway does what the answer asks for, so we need no request of our own.
function answerTo({ type, userid: user, data }) {
    switch (type) {
        case "wafergate.tunnel.connected":
            return toChat("joined", { user });
        case "wafergate.tunnel.message":
            return toChat("said", { user, text: data });
        case "wafergate.tunnel.closed":
            return toChat("left", { user, reason: data.reason });
    }
}

async function handle(request) {
    const { pathname, searchParams } = new URL(request.url, WEBHOOK_URL);
    if (request.method === "GET" && pathname === "/tunnel") {
        return post("/v1/tunnels", { user: searchParams.get("user"), groups: ["chat"], webhookUrl: WEBHOOK_URL });
    }
    if (request.method === "POST" && pathname === "/events") {
        try {
            return [200, answerTo(webhook.verify(await text(request), request.headers))];
        } catch (error) {
            return [400, { error: error.message }];
        }
    }
    return [404, { error: "not found" }];
}

createServer(async (request, response) => {
    const [status, value] = await handle(request).catch(error => [502, { error: error.message }]);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}).listen(Number(PORT), "127.0.0.1", () => console.log(`chat on http://127.0.0.1:${PORT}`));
