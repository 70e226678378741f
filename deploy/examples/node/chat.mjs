// A chat business server for wafergate: Node 20 and the published standardwebhooks package, nothing else.
//
//   npm install && GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 node chat.mjs
//
// A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
import { createHash, createHmac, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const { GATEWAY = "http://127.0.0.1:8080", TENANT = "shop", KEY, PORT = "3000" } = process.env;
const webhookUrl = process.env.WEBHOOK_URL ?? `http://127.0.0.1:${PORT}/events`;
const webhook = new Webhook(KEY);

// Calls the gateway, signed by RFC 9421.
async function call(method, path, value) {
    const body = JSON.stringify(value);
    const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
    const created = Math.floor(Date.now() / 1000);
    const params = `("@method" "@path" "content-digest");created=${created};keyid="${TENANT}";nonce="${randomUUID()}";alg="hmac-sha256"`;
    const base = `"@method": ${method}\n"@path": ${path}\n"content-digest": ${digest}\n"@signature-params": ${params}`;
    const signature = createHmac("sha256", Buffer.from(KEY.slice("whsec_".length), "base64")).update(base).digest("base64");
    const headers = { "content-digest": digest, "signature-input": `s=${params}`, signature: `s=:${signature}:` };
    const answer = await fetch(GATEWAY + path, { method, headers, body });
    return { status: answer.status, body: await answer.json() };
}

const toChat = (type, content) => ({ to: { group: "chat" }, type, content });

// What an event is answered with: actions save a request of our own.
async function answerTo(event) {
    switch (event.type) {
        case "wafergate.tunnel.connected":
            return { actions: [{ push: toChat("joined", { user: event.userid }) }] };
        case "wafergate.tunnel.message":
            return { actions: [{ push: toChat("said", { user: event.userid, text: event.data }) }] };
        case "wafergate.tunnel.closed": // The last one leaves an empty group behind: 404 group_unknown is fine.
            await call("POST", "/v1/push", toChat("left", { user: event.userid, reason: event.data.reason }));
    }
    return {};
}

async function handle(request, body) {
    const url = new URL(request.url, "http://localhost");
    if (request.method === "GET" && url.pathname === "/tunnel") {
        const opened = await call("POST", "/v1/tunnels", { user: url.searchParams.get("user"), groups: ["chat"], webhookUrl });
        return [opened.status, opened.body];
    }
    if (request.method === "POST" && url.pathname === "/events") {
        try {
            return [200, await answerTo(webhook.verify(body, request.headers))];
        } catch (error) {
            return [400, { error: error.message }];
        }
    }
    return [404, {}];
}

createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const [status, value] = await handle(request, Buffer.concat(chunks).toString());
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}).listen(Number(PORT), "127.0.0.1", () => console.log(`chat on http://127.0.0.1:${PORT}`));
