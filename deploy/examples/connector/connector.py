"""A business server that dials out to wafergate: Python 3.9, nothing else. It repeats what a client says.
    GATEWAY=https://ws.example.com TENANT=shop KEY=whsec_... NAME=shop python connector.py"""
import base64, json, os, random, secrets, socket, ssl, struct, time
from urllib.parse import urlparse

GATEWAY, INSTANCE, session = urlparse(os.environ.get("GATEWAY", "http://127.0.0.1:8080")), secrets.token_hex(16), None
TENANT, KEY, NAME, IS_TLS = os.environ.get("TENANT", "shop"), os.environ["KEY"], os.environ.get("NAME", "shop"), GATEWAY.scheme == "https"

def answer_to(event):
    said = event["type"] == "wafergate.tunnel.message"
    return {"actions": [{"push": {"content": f"you said: {event.get('data')}"}}] if said else []}

def send(connection, opcode, payload):
    length, mask = len(payload), secrets.token_bytes(4)
    size = bytes([128 | length]) if length < 126 else struct.pack(">BH", 254, length) if length < 65536 else struct.pack(">BQ", 255, length)
    connection.sendall(bytes([128 | opcode]) + size + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload)))

def messages(connection, stream):
    parts = b""
    while len(start := stream.read(2)) == 2:
        long = {126: ">H", 127: ">Q"}.get(start[1] & 127)
        payload = stream.read(struct.unpack(long, stream.read(struct.calcsize(long)))[0] if long else start[1] & 127)
        if start[0] & 15 == 9:
            send(connection, 10, payload)
        elif start[0] & 15 < 3:
            parts += payload
            if start[0] & 128:
                yield parts.decode().partition("\n")
                parts = b""

def serve(connection):
    global session
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    connection.sendall(f"GET /v1/connector HTTP/1.1\r\nHost: {GATEWAY.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: wafergate.connector.v1\r\nAuthorization: Bearer {TENANT}:{KEY}\r\n\r\n".encode())
    stream = connection.makefile("rb")
    if b" 101 " not in (status := list(iter(lambda: stream.readline().strip(), b""))[0]):
        raise OSError(status.decode())
    send(connection, 1, json.dumps({"type": "hello", "v": 1, "name": NAME, "instance": INSTANCE, "session": session, "purpose": "serve", "take": {"named": True}, "window": {"events": 256, "bytes": 4 << 20}, "agent": "connector.py"}).encode())
    for line, _, body in messages(connection, stream):
        head = json.loads(line)
        if head["type"] == "welcome":
            print("ready", session := head["session"], flush=True)
        elif head["type"] == "event":
            answer = {"type": "answer", "id": head["id"], "attempt": head["attempt"], "status": 200, "ms": 0}
            send(connection, 1, f"{json.dumps(answer)}\n{json.dumps(answer_to(json.loads(body)))}".encode())

while True:
    try:
        plain = socket.create_connection((GATEWAY.hostname, GATEWAY.port or (443 if IS_TLS else 80)), timeout=45)
        serve(ssl.create_default_context().wrap_socket(plain, server_hostname=GATEWAY.hostname) if IS_TLS else plain)
    except (OSError, ValueError, IndexError, struct.error) as error:
        print(error, flush=True)
    time.sleep(random.uniform(0.2, 1))
