//! A connection through a proxy, which sends the target nothing.

use std::error::Error;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::http::{HeaderValue, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use crate::net::error_text;
use crate::net::proxy::ProxyAddress;

/// Asks the proxy at the other end of `stream` for a connection to `host` and `port`, as a
/// request to `target` does. Where that request is sent to the proxy itself, and behind a
/// proxy that itself needs TLS, there is nothing to ask.
///
/// # Errors
/// The refusal, in words.
pub(super) async fn open_tunnel(
    stream: TcpStream,
    proxy: &ProxyAddress,
    target: &Url,
    host: &str,
    port: u16,
) -> Result<(), String> {
    let uri = |text: String| text.parse::<Uri>().map_err(|error| error.to_string());
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let target_uri = uri(format!("{}://{host}:{port}", target.scheme()))?;
    let proxy_uri = uri(format!("http://{}:{}", proxy.host, proxy.port))?;
    let connected = Connected(Some(stream));
    let user = decode(proxy.url.username());
    let password = decode(proxy.url.password().unwrap_or_default());
    match proxy.url.scheme() {
        "http" if target.scheme() == "https" => {
            let mut tunnel = Tunnel::new(proxy_uri, connected);
            if !user.is_empty() {
                let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
                let basic = HeaderValue::from_str(&basic).map_err(|error| error.to_string())?;
                tunnel = tunnel.with_auth(basic);
            }
            tunnel.call(target_uri).await.map(drop).map_err(describe)
        }
        scheme @ ("socks5" | "socks5h") => {
            let mut socks = SocksV5::new(proxy_uri, connected).local_dns(scheme == "socks5");
            if !user.is_empty() {
                socks = socks.with_auth(user, password);
            }
            socks.call(target_uri).await.map(drop).map_err(describe)
        }
        scheme @ ("socks4" | "socks4a") => {
            let mut socks = SocksV4::new(proxy_uri, connected).local_dns(scheme == "socks4");
            socks.call(target_uri).await.map(drop).map_err(describe)
        }
        _ => Ok(()),
    }
}

fn describe(error: impl Error + 'static) -> String {
    error_text::explain_causes(&error)
}

/// Decodes percent-encoded text of a URL.
fn decode(text: &str) -> String {
    let plain = text
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace('=', "%3D");
    let mut pairs = url::form_urlencoded::parse(plain.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}

/// A connector that returns the one connection that it has.
struct Connected(Option<TcpStream>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take().map(TokioIo::new);
        ready(stream.ok_or_else(|| std::io::ErrorKind::NotConnected.into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns what a proxy with this scheme, which answers so, was sent, and the outcome.
    async fn ask(scheme: &str, answers: &'static [&'static [u8]]) -> (Vec<u8>, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url: Url = format!("{scheme}://us%40er:p%2Bw@127.0.0.1:{port}")
            .parse()
            .unwrap();
        let proxy = ProxyAddress {
            url,
            host: "127.0.0.1".to_owned(),
            port,
        };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sent = Vec::new();
            for answer in answers {
                let mut part = [0; 1024];
                let length = stream.read(&mut part).await.unwrap();
                sent.extend_from_slice(&part[..length]);
                stream.write_all(answer).await.unwrap();
            }
            sent
        };
        let target: Url = "https://hooks.example.com/path?token=x".parse().unwrap();
        let asked = async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            open_tunnel(stream, &proxy, &target, "hooks.example.com", 443).await
        };
        tokio::join!(serve, asked)
    }

    #[tokio::test]
    async fn refusal_of_a_proxy_is_found_and_nothing_but_the_host_is_sent() {
        for (answer, is_open) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], true),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", false),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", false),
            (b"", false),
        ] {
            let answers: &'static [&'static [u8]] = Box::leak(Box::new([answer]));
            let (sent, opened) = ask("http", answers).await;
            assert_eq!(opened.is_ok(), is_open, "{opened:?}");
            let sent = String::from_utf8(sent).unwrap();
            assert!(
                sent.starts_with("CONNECT hooks.example.com:443 HTTP/1.1\r\n"),
                "{sent}"
            );
            let basic = STANDARD.encode("us@er:p+w");
            assert!(sent.contains(&format!("Basic {basic}")), "{sent}");
            assert!(!sent.contains("token"), "{sent}");
        }
        let bound: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50";
        let refused: &[u8] = b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00";
        for (last, is_open) in [(bound, true), (refused, false)] {
            let answers: &'static [&'static [u8]] =
                Box::leak(Box::new([&b"\x05\x02"[..], b"\x01\x00", last]));
            let (_, opened) = ask("socks5h", answers).await;
            assert_eq!(opened.is_ok(), is_open, "{opened:?}");
        }
    }
}
