"""A chat business server for wafergate: Python 3.9 and the published standardwebhooks package, nothing else.

    pip install -r requirements.txt && GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 python chat.py

A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
"""
import base64, hashlib, hmac, json, os, secrets, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlparse
from urllib.request import Request, urlopen

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8080")
TENANT, KEY, PORT = os.environ.get("TENANT", "shop"), os.environ["KEY"], int(os.environ.get("PORT", "3000"))
WEBHOOK_URL = os.environ.get("WEBHOOK_URL", f"http://127.0.0.1:{PORT}/events")


def b64(data):
    return base64.b64encode(data).decode()


def call(method, path, value):
    """Calls the gateway, signed by RFC 9421."""
    body = json.dumps(value).encode()
    digest = f"sha-256=:{b64(hashlib.sha256(body).digest())}:"
    params = f'("@method" "@path" "content-digest");created={int(time.time())};keyid="{TENANT}"'
    params += f';nonce="{secrets.token_hex(16)}";alg="hmac-sha256"'
    base = f'"@method": {method}\n"@path": {path}\n"content-digest": {digest}\n"@signature-params": {params}'
    signature = hmac.digest(base64.b64decode(KEY[len("whsec_"):]), base.encode(), "sha256")
    headers = {"Content-Digest": digest, "Signature-Input": f"s={params}", "Signature": f"s=:{b64(signature)}:"}
    try:
        with urlopen(Request(GATEWAY + path, body, headers, method=method)) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def to_chat(kind, **content):
    return {"to": {"group": "chat"}, "type": kind, "content": content}


def answer_to(event):
    """What an event is answered with: actions save a request of our own."""
    kind, user = event["type"], event.get("userid")
    if kind == "wafergate.tunnel.connected":
        return {"actions": [{"push": to_chat("joined", user=user)}]}
    if kind == "wafergate.tunnel.message":
        return {"actions": [{"push": to_chat("said", user=user, text=event.get("data"))}]}
    # The last one leaves an empty group behind: 404 group_unknown is fine.
    call("POST", "/v1/push", to_chat("left", user=user, reason=event["data"]["reason"]))
    return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlparse(self.path)
        if url.path != "/tunnel":
            return self.answer(404, {})
        wish = {"user": parse_qs(url.query)["user"][0], "groups": ["chat"], "webhookUrl": WEBHOOK_URL}
        self.answer(*call("POST", "/v1/tunnels", wish))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.answer(200, answer_to(Webhook(KEY).verify(body, {k.lower(): v for k, v in self.headers.items()})))
        except WebhookVerificationError as error:
            self.answer(400, {"error": str(error)})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print(f"chat on http://127.0.0.1:{PORT}", flush=True)
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
