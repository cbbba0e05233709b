//! Bodies of responses, with a limit on their length.

use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;
use secrecy::zeroize::Zeroizing;

use crate::core::redact::sanitize_bytes;
use crate::net::error_text;

/// The longest body that is read, in bytes. A page of 100 credentials is about
/// 60 KiB; no expected response is longer than this.
pub const MAX_BODY_SIZE: usize = 1024 * 1024;

/// A capacity for responses that carry a secret, so that the buffer does not
/// reallocate and leave a copy behind.
const INITIAL_CAPACITY: usize = 16 * 1024;

/// What some servers put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The failure to read a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than [`MAX_BODY_SIZE`].
    #[error("the response is longer than {} KiB", MAX_BODY_SIZE / 1024)]
    TooLong,
    /// The body is compressed, although no request accepts that.
    #[error(
        "the response is encoded as {0}, which rekeyd did not request; hint: check any proxy in \
         between"
    )]
    Encoded(String),
    /// The connection broke, or timed out.
    #[error("the response ended early: {0}")]
    Interrupted(String),
}

/// Reads the whole body into a buffer that is wiped on drop, since it may hold
/// a secret. Leaves out a byte order mark.
///
/// # Errors
/// [`BodyError`].
pub async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    if let Some(encoding) = foreign_encoding(&response) {
        return Err(BodyError::Encoded(encoding));
    }
    let content_length = response.content_length().unwrap_or(0);
    if content_length > MAX_BODY_SIZE as u64 {
        return Err(BodyError::TooLong);
    }
    let capacity = usize::try_from(content_length)
        .unwrap_or(MAX_BODY_SIZE)
        .max(INITIAL_CAPACITY);
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| BodyError::Interrupted(error_text::explain(error)))?;
        let Some(chunk) = chunk else {
            if body.starts_with(BYTE_ORDER_MARK) {
                body.drain(..BYTE_ORDER_MARK.len());
            }
            return Ok(body);
        };
        if body.len() + chunk.len() > MAX_BODY_SIZE {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
}

/// Returns the encoding of a body that is compressed.
pub(crate) fn foreign_encoding(response: &Response) -> Option<String> {
    let encodings = response.headers().get_all(CONTENT_ENCODING).into_iter();
    let mut names = encodings.map(|value| sanitize_bytes(value.as_bytes(), &[]));
    names.find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
}
