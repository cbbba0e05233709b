//! The content of a file sink's file.

use secrecy::zeroize::Zeroizing;
use serde::Serialize;

use super::settings::FileFormat;
use crate::sink::Payload;

/// The capacity for the JSON form without the secret. With it the buffer never
/// reallocates, which would leave copies of the secret unwiped.
const JSON_OVERHEAD_BYTES: usize = 2048;

/// The longest JSON escape of one byte of a secret: `\u0000`.
const MAX_ESCAPE_BYTES: usize = 6;

/// The content of a file with `format = "json"`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct JsonContent<'a> {
    /// The key's name in the configuration.
    key: &'a str,
    /// The id of the credential at the provider.
    credential_id: &'a str,
    /// When the provider created it, in Unix seconds.
    created_at: Option<i64>,
    /// When it expires, in Unix seconds, if it does.
    expires_at: Option<i64>,
    /// The redacted secret, as the provider shows it.
    redacted_value: Option<&'a str>,
    /// A number that grows with each rotation of the key.
    sequence: u64,
    /// The secret.
    value: &'a str,
}

/// Returns the whole content, in a buffer that is wiped on drop.
pub(super) fn render_content(
    format: &FileFormat,
    payload: &Payload,
) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let secret = payload.secret.expose();
    let capacity = JSON_OVERHEAD_BYTES + MAX_ESCAPE_BYTES * secret.len();
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    match format {
        FileFormat::Raw => content.extend_from_slice(secret.as_bytes()),
        FileFormat::Env { variable } => {
            content.extend_from_slice(variable.as_bytes());
            content.push(b'=');
            content.extend_from_slice(secret.as_bytes());
        }
        FileFormat::Json => {
            let credential = &payload.credential;
            let object = JsonContent {
                key: payload.key.as_str(),
                credential_id: credential.id.as_str(),
                created_at: credential.created_at.map(|at| at.as_second()),
                expires_at: credential.expires_at.map(|at| at.as_second()),
                redacted_value: credential.redacted_value.as_deref(),
                sequence: payload.sequence,
                value: secret,
            };
            serde_json::to_writer(&mut *content, &object)?;
        }
    }
    content.push(b'\n');
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::json_schema;

    #[test]
    fn json_schema_is_that_of_the_file() {
        json_schema::check_file::<JsonContent<'_>>("file");
    }
}
