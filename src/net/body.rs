//! Bodies from outside, up to a limit.

/// The longest body that is read; a page of a hundred credentials has 50 KiB.
pub const LONGEST_BODY: usize = 1024 * 1024;

/// Reads the body of an answer.
///
/// # Errors
/// It is longer than [`LONGEST_BODY`] or breaks off, in words.
pub async fn read(answer: &mut reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LONGEST_BODY => {
                return Err("the answer is longer than 1 MiB".to_owned());
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => {
                return Err(format!(
                    "the answer broke off: {}",
                    super::failure::text(&error)
                ));
            }
        }
    }
}
