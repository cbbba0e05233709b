// Receives one key from rekeyd: node receiver.mjs SIGNING_SECRET_FILE KEY_FILE PORT
import { createHmac, timingSafeEqual } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

const [secretFile, keyFile, port] = process.argv.slice(2);
const stateFile = keyFile + ".state";

function replace(path, text) {
  writeFileSync(path + ".new", text, { mode: 0o600, flush: true });
  renameSync(path + ".new", path); // A reader sees the old or the new text, never a part.
}

function isSigned(signed, signatures) {
  const lines = readFileSync(secretFile, "utf8").split(/\s+/).filter(Boolean); // Two while the secret changes.
  return lines.some((line) => {
    const key = Buffer.from(line.replace(/^whsec_/, ""), "base64");
    const expected = Buffer.from("v1," + createHmac("sha256", key).update(signed).digest("base64"));
    return signatures.map((text) => Buffer.from(text))
      .some((given) => given.length === expected.length && timingSafeEqual(given, expected));
  });
}

function answer(headers, body) {
  const id = headers["webhook-id"] ?? "", timestamp = headers["webhook-timestamp"] ?? "";
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  if (!isSigned(signed, (headers["webhook-signature"] ?? "").split(" "))) return 401; // Forged.
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) return 401; // Recorded and sent again later.
  const { sequence, value } = JSON.parse(body).data;
  const last = existsSync(stateFile) ? JSON.parse(readFileSync(stateFile)) : { id: "", sequence: 0 };
  if (id === last.id) return 200; // A repeat: the answer to the first one was lost.
  if (sequence < last.sequence) return 409; // Late: a newer secret is in place.
  replace(keyFile, value + "\n");
  replace(stateFile, JSON.stringify({ id, sequence }));
  return 200;
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    let status = 500; // Not certain: rekeyd sends it again.
    try { status = answer(request.headers, Buffer.concat(chunks)); } catch (error) { console.error(error.message); }
    response.writeHead(status).end();
  });
});
server.listen(Number(port), "127.0.0.1", () => console.log("listening on port", server.address().port));
