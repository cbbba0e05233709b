//! Bodies from outside, up to a limit.

/// The longest body that is read; a page of a hundred credentials has 50 KiB.
pub const LONGEST_BODY: usize = 1024 * 1024;

/// Why a body was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than [`LONGEST_BODY`].
    #[error("the answer is longer than 1 MiB")]
    TooLong,
    /// The connection broke, or the time was over.
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
}

/// Reads the body of an answer.
///
/// # Errors
/// See [`BodyError`].
pub async fn read(answer: &mut reqwest::Response) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LONGEST_BODY => {
                return Err(BodyError::TooLong);
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(BodyError::BrokenOff(super::failure::text(&error))),
        }
    }
}
