//! Bodies of answers: never more than is bearable.

use reqwest::Response;
use secrecy::zeroize::Zeroizing;

use crate::net::error_text;

/// The longest body that is read. A page of 100 credentials is about 60 KiB;
/// what is longer than this is not an answer to us.
pub const MAX_BODY_SIZE: usize = 1024 * 1024;

/// Room for the answers that carry a secret, so that the buffer is not moved
/// while it grows and leaves no copy behind.
const INITIAL_CAPACITY: usize = 16 * 1024;

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than [`MAX_BODY_SIZE`].
    #[error("the answer is longer than {} KiB", MAX_BODY_SIZE / 1024)]
    TooLong,
    /// The connection broke, or the time was over.
    #[error("the answer broke off: {0}")]
    Interrupted(String),
}

/// Reads the whole body; it is wiped when it is dropped, since it may hold a
/// secret.
///
/// # Errors
/// [`BodyError`].
pub async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > MAX_BODY_SIZE as u64 {
        return Err(BodyError::TooLong);
    }
    let room = usize::try_from(announced)
        .unwrap_or(MAX_BODY_SIZE)
        .max(INITIAL_CAPACITY);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
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
