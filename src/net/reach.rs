//! Stand-in with the shape that the sinks are written against.

use std::path::Path;
use std::time::Duration;

/// Whether a connection can be made.
///
/// # Errors
/// Why not, in words.
pub async fn reach(
    url: &url::Url,
    _ca_file: Option<&Path>,
    timeout: Duration,
) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    match tokio::time::timeout(timeout, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timed out".to_owned()),
    }
}
