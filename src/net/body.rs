//! Bodies of responses, with a limit on their length.

use reqwest::Response;
use secrecy::zeroize::Zeroizing;

use crate::net::error_text;

/// The longest body that is read, in bytes. A page of 100 credentials is about
/// 60 KiB; no expected response is longer than this.
pub const MAX_BODY_SIZE: usize = 1024 * 1024;

/// A capacity for responses that carry a secret, so that the buffer does not
/// reallocate and leave a copy behind.
const INITIAL_CAPACITY: usize = 16 * 1024;

/// The failure to read a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than [`MAX_BODY_SIZE`].
    #[error("the answer is longer than {} KiB", MAX_BODY_SIZE / 1024)]
    TooLong,
    /// The connection broke, or timed out.
    #[error("the answer broke off: {0}")]
    Interrupted(String),
}

/// Reads the whole body into a buffer that is wiped on drop, since it may hold
/// a secret.
///
/// # Errors
/// [`BodyError`].
pub async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, BodyError> {
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
            return Ok(body);
        };
        if body.len() + chunk.len() > MAX_BODY_SIZE {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
}
