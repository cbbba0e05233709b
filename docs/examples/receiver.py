"""Receives one key from rekeyd: receiver.py SIGNING_SECRET_FILE KEY_FILE PORT"""
import base64, hmac, json, os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

secret_file, key_file, port = sys.argv[1:]
state_file = key_file + ".state"

def replace(path, text):
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)  # A reader sees the old or the new text, never a part.

def answer(message_id, timestamp, signatures, body):
    signed = f"{message_id}.{timestamp}.".encode() + body
    for line in open(secret_file).read().split():  # Two lines while the secret changes.
        tag = hmac.digest(base64.b64decode(line.removeprefix("whsec_") + "=="), signed, "sha256")
        if any(hmac.compare_digest(b"v1," + base64.b64encode(tag), s.encode()) for s in signatures):
            break
    else:
        return 401  # Forged.
    if abs(time.time() - int(timestamp)) > 300:
        return 401  # Recorded and sent again later.
    data = json.loads(body)["data"]
    last = json.load(open(state_file)) if os.path.exists(state_file) else {"id": "", "sequence": 0}
    if message_id == last["id"]:
        return 200  # A repeat: the answer to the first one was lost.
    if data["sequence"] < last["sequence"]:
        return 409  # Late: a newer secret is in place.
    replace(key_file, data["value"] + "\n")
    replace(state_file, json.dumps({"id": message_id, "sequence": data["sequence"]}))
    return 200

class Receiver(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        message_id, timestamp, signatures = (self.headers.get(name, "") for name in names)
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 65536))
        self.send_response(answer(message_id, timestamp, signatures.split(), body))
        self.send_header("content-length", "0")
        self.end_headers()

server = HTTPServer(("127.0.0.1", int(port)), Receiver)
print("listening on port", server.server_port, flush=True)
server.serve_forever()
