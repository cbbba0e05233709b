//! Requests on the control socket with a proof that their sender knows the cookie, made as
//! `docs/control-api.md` describes it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ring::{digest, hmac};

use super::text;

/// The challenges of a handshake, and what came with the daemon's.
pub struct Handshake {
    pub challenge: String,
    pub answer: serde_json::Value,
    pub body: Vec<u8>,
    /// The daemon's proof.
    pub proof: Option<String>,
}

impl Handshake {
    fn challenges(&self) -> String {
        let of_daemon = self.answer["challenge"].as_str().unwrap_or_default();
        format!("{}\n{of_daemon}", self.challenge)
    }

    /// Returns the header value that proves a request.
    pub fn prove(&self, cookie: &str, method: &str, path: &str, body: &str) -> String {
        let statement = format!("rekeyd request\n{method} {path}");
        prove(cookie, &statement, &self.challenges(), body.as_bytes())
    }

    /// Returns the header value that proves the response to a request.
    pub fn prove_response(&self, cookie: &str, of: &str, status: u16, body: &[u8]) -> String {
        let statement = format!("rekeyd response\n{of} {status}");
        prove(cookie, &statement, &self.challenges(), body)
    }
}

fn prove(cookie: &str, statement: &str, challenges: &str, body: &[u8]) -> String {
    let body = hex(digest::digest(&digest::SHA256, body).as_ref());
    let key = hmac::Key::new(hmac::HMAC_SHA256, cookie.as_bytes());
    let tag = hmac::sign(
        &key,
        format!("{statement}\n{challenges}\n{body}").as_bytes(),
    );
    format!("{body} {}", hex(tag.as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the cookie of the daemon with this ledger; none if it is away.
pub fn read_cookie(ledger: &Path) -> Option<String> {
    let mut path = ledger.as_os_str().to_owned();
    path.push(".cookie");
    let cookie = std::fs::read_to_string(path).ok()?;
    Some(cookie.trim().to_owned())
}

/// Exchanges challenges on a new connection.
pub fn shake_hands(stream: &mut UnixStream) -> Option<Handshake> {
    let challenge = format!("{:064x}", u128::from(std::process::id()));
    let request =
        format!("GET /handshake HTTP/1.1\r\nhost: rekeyd\r\nrekeyd-challenge: {challenge}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let head = read_head(stream)?;
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(Handshake {
        challenge,
        answer: serde_json::from_slice(&body).ok()?,
        body,
        proof: header("rekeyd-proof"),
    })
}

/// Reads a head byte by byte: what follows it is left.
fn read_head(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(text(&head))
}

/// Connects, and returns the header lines that prove a request, if there is a cookie.
pub fn connect(
    socket: &Path,
    cookie: Option<&str>,
    [method, path, body]: [&str; 3],
) -> Option<(UnixStream, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    // A test that waits for an answer fails instead of hanging.
    let limit = Some(Duration::from_secs(120));
    stream.set_read_timeout(limit).ok()?;
    let Some(cookie) = cookie else {
        return Some((stream, String::new()));
    };
    let proof = shake_hands(&mut stream)?.prove(cookie, method, path, body);
    Some((stream, format!("rekeyd-proof: {proof}\r\n")))
}

/// Sends a whole request, proven with the cookie if there is one, and returns the status and
/// the rest of the answer.
pub fn ask(socket: &Path, cookie: Option<&str>, request: [&str; 3]) -> (u16, String) {
    let (mut stream, proof) = connect(socket, cookie, request).unwrap();
    let [method, path, body] = request;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: rekeyd\r\n{proof}content-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    // A refusal comes before the whole request, and ends the connection.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}
