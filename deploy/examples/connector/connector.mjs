// A business server that dials out to wafergate: Node 20, nothing else. It repeats what a client says.
//   GATEWAY=https://ws.example.com TENANT=shop KEY=whsec_... NAME=shop node connector.mjs
import { randomBytes } from "node:crypto";
import http from "node:http";
import https from "node:https";
let { GATEWAY = "http://127.0.0.1:8080", TENANT = "shop", KEY, NAME = "shop" } = process.env, instance = randomBytes(16).toString("hex"), session;
const answerTo = event => ({ actions: event.type === "wafergate.tunnel.message" ? [{ push: { content: `you said: ${event.data}` } }] : [] });
function dial() {
    const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": randomBytes(16).toString("base64"), "sec-websocket-protocol": "wafergate.connector.v1", authorization: `Bearer ${TENANT}:${KEY}` };
    const request = (GATEWAY.startsWith("https") ? https : http).get(`${GATEWAY}/v1/connector`, { headers }), again = () => setTimeout(dial, 200 + 800 * Math.random());
    request.on("error", again).on("response", async response => again(console.error(response.statusCode, (await response.toArray().catch(() => [])).join("")))).on("upgrade", (_, socket, data) => {
        const send = (opcode, payload, mask = randomBytes(4)) => {
            const length = payload.length < 126 ? [payload.length] : payload.length < 65536 ? [126, payload.length >> 8, payload.length & 255] : [127, 0, 0, 0, 0, ...[24, 16, 8, 0].map(bits => (payload.length >>> bits) & 255)];
            socket.write(Buffer.concat([Buffer.from([128 | opcode, 128 | length[0], ...length.slice(1)]), mask, payload.map((byte, at) => byte ^ mask[at & 3])]));
        }, say = (head, body = "") => send(1, Buffer.from(`${JSON.stringify(head)}\n${body}`));
        say({ type: "hello", v: 1, name: NAME, instance, session, purpose: "serve", take: { named: true }, window: { events: 256, bytes: 4 << 20 }, agent: "connector.mjs" });
        let rest = Buffer.alloc(0), parts = [];
        socket.setTimeout(45_000, () => socket.destroy()).on("error", console.error).on("close", again).unshift(data);
        socket.on("data", chunk => { for (rest = Buffer.concat([rest, chunk]); rest.length > 1;) {
            const kind = rest[1] & 127, start = kind < 126 ? 2 : kind === 126 ? 4 : 10, length = kind < 126 ? kind : rest.length < start ? NaN : kind === 126 ? rest.readUInt16BE(2) : rest.readUInt32BE(6);
            if (!(rest.length >= start + length)) break; // NaN: its length is not there yet
            const [first, payload] = [rest[0], rest.subarray(start, start + length)];
            rest = rest.subarray(start + length);
            if ((first & 15) === 9) send(10, payload); // a ping
            else if ((first & 15) < 3 && parts.push(payload) && first & 128) message(Buffer.concat(parts.splice(0)).toString(), say);
        } });
    });
}
function message(text, say, [head, body] = [/^.*/, /(?<=\n)[^]*/].map(part => text.match(part)?.[0] ?? ""), { type, id, attempt, session: own } = JSON.parse(head)) {
    if (type === "welcome") console.log("ready", (session = own));
    if (type === "event") say({ type: "answer", id, attempt, status: 200, ms: 0 }, JSON.stringify(answerTo(JSON.parse(body))));
}
dial();
