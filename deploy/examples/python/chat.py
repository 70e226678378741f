"""A chat business server for wafergate: Python 3.9 and the published standardwebhooks package, nothing else.

    pip install -r requirements.txt && GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 python chat.py

A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
Requests are signed, so the key itself never travels: a bearer key would be shorter, but only TLS or loopback may carry one.
"""
import base64, hashlib, hmac, json, os, secrets, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlparse
from urllib.request import Request, urlopen

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

GATEWAY, TENANT = os.environ.get("GATEWAY", "http://127.0.0.1:8080"), os.environ.get("TENANT", "shop")
KEY, PORT = os.environ["KEY"], int(os.environ.get("PORT", "3000"))
WEBHOOK_URL = os.environ.get("WEBHOOK_URL", f"http://127.0.0.1:{PORT}/events")


def base64_of(data):
    return base64.b64encode(data).decode()


def post(path, value):
    """Posts to the gateway, signed by RFC 9421."""
    body = json.dumps(value).encode()
    digest = f"sha-256=:{base64_of(hashlib.sha256(body).digest())}:"
    params = (f'("@method" "@path" "content-digest");created={int(time.time())};keyid="{TENANT}"'
              f';nonce="{secrets.token_hex(16)}";alg="hmac-sha256"')
    base = f'"@method": POST\n"@path": {path}\n"content-digest": {digest}\n"@signature-params": {params}'
    signature = hmac.digest(base64.b64decode(KEY[len("whsec_"):]), base.encode(), "sha256")
    headers = {"Content-Digest": digest, "Signature-Input": f"s={params}", "Signature": f"s=:{base64_of(signature)}:"}
    try:
        with urlopen(Request(GATEWAY + path, body, headers)) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refusal:
        return refusal.code, json.load(refusal)


def answer_to(event):
    """What an event is answered with: the gateway does what the answer asks for, so we need no request of our own."""
    content = {"user": event.get("userid")}
    if event["type"] == "wafergate.tunnel.connected":
        kind = "joined"
    elif event["type"] == "wafergate.tunnel.message":
        kind, content["text"] = "said", event.get("data")
    else:
        kind, content["reason"] = "left", event["data"]["reason"]
    return {"actions": [{"push": {"to": {"group": "chat"}, "type": kind, "content": content}}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlparse(self.path)
        if url.path != "/tunnel":
            return self.answer(404, {"error": "not found"})
        user = parse_qs(url.query).get("user", ["somebody"])[0]
        self.answer(*post("/v1/tunnels", {"user": user, "groups": ["chat"], "webhookUrl": WEBHOOK_URL}))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = Webhook(KEY).verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError as error:
            return self.answer(400, {"error": str(error)})
        self.answer(200, answer_to(event))

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print(f"chat on http://127.0.0.1:{PORT}", flush=True)
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
