//! A server whose responses a function computes, and which closes each connection.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// One request.
pub(crate) struct ServedRequest {
    pub(crate) method: String,
    /// The path, with the query.
    pub(crate) path: String,
    head: String,
    pub(crate) body: String,
}

impl ServedRequest {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Returns every header, in the order of the request.
    #[allow(dead_code, reason = "only the golden files need all of them")]
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().filter_map(|line| line.split_once(": "))
    }

    /// Reads a request; none if the peer closed the connection before its end.
    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut words = head.split(' ').map(str::to_owned);
            let request = Self {
                method: words.next()?,
                path: words.next()?,
                head: head.to_owned(),
                body: body.to_owned(),
            };
            if body.len() >= request.header("content-length").parse().unwrap_or(0) {
                return Some(request);
            }
        }
    }
}

/// Serves until the process ends, with a thread for each connection. Returns the URL
/// without a final slash.
pub(crate) fn serve_with(
    answer: impl Fn(&ServedRequest) -> (u16, String) + Send + Sync + 'static,
    date: impl Fn() -> String + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::new((answer, date));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, shared) = (stream.unwrap(), Arc::clone(&shared));
            std::thread::spawn(move || {
                if let Some(request) = ServedRequest::read(&mut stream) {
                    let (status, body) = (shared.0)(&request);
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ndate: {}\r\ncontent-length: {}\r\n\
                         content-type: application/json\r\nconnection: close\r\n\r\n",
                        (shared.1)(),
                        body.len()
                    );
                    // The client may close the connection early.
                    let _ = stream.write_all(format!("{head}{body}").as_bytes());
                }
            });
        }
    });
    url
}
