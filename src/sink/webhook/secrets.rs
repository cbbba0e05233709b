//! The files with secrets of a webhook sink.

use std::path::Path;

use reqwest::header::HeaderValue;

use super::options::WebhookTarget;
use crate::core::secret::Secret;
use crate::core::secret_text::SecretForm;
use crate::net::client_identity::{ClientIdentity, ClientIdentityFiles};
use crate::net::signature::SigningKeys;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::secret_file;
use crate::sink::{SinkError, SinkProblem};

/// The content of the files with secrets.
pub(super) struct WebhookSecrets {
    pub(super) signing_keys: SigningKeys,
    /// The `Authorization` header, with its token so that the token is masked
    /// while the header is in use.
    pub(super) bearer_token: Option<(HeaderValue, Secret)>,
    /// The certificate to show the receiver.
    pub(super) identity: Option<ClientIdentity>,
}

/// Reads the files with secrets, and reports the problems of all of them.
pub(super) fn read_secrets(
    target: &WebhookTarget,
    trusted_paths: &TrustedPaths,
) -> Result<WebhookSecrets, SinkError> {
    let keys = read_signing_keys(&target.signing_secret_file, trusted_paths);
    let bearer = target
        .bearer_token_file
        .as_deref()
        .map(|path| read_bearer_token(path, trusted_paths))
        .transpose();
    let identity = target
        .identity
        .as_ref()
        .map(|files| read_identity(files, trusted_paths))
        .transpose();
    match (keys, bearer, identity) {
        (Ok(keys), Ok(bearer), Ok(identity)) => Ok(WebhookSecrets {
            signing_keys: keys,
            bearer_token: bearer,
            identity,
        }),
        (keys, bearer, identity) => {
            let problems = [keys.err(), bearer.err(), identity.err()];
            let problems = problems.into_iter().flatten();
            Err(SinkError {
                problems: problems.map(SinkProblem::host).collect(),
            })
        }
    }
}

fn read_signing_keys(path: &Path, trusted_paths: &TrustedPaths) -> Result<SigningKeys, String> {
    let text = secret_file::read_configured(path, SecretForm::Lines, trusted_paths)
        .map_err(|error| error.to_string())?;
    SigningKeys::parse(text.expose())
        .map_err(|error| format!("cannot sign with {}: {error}", path.display()))
}

fn read_identity(
    files: &ClientIdentityFiles,
    trusted_paths: &TrustedPaths,
) -> Result<ClientIdentity, String> {
    let read_key = |path: &Path| {
        secret_file::read_configured(path, SecretForm::Lines, trusted_paths)
            .map_err(|error| error.to_string())
    };
    files.read(read_key).map_err(|error| error.to_string())
}

fn read_bearer_token(
    path: &Path,
    trusted_paths: &TrustedPaths,
) -> Result<(HeaderValue, Secret), String> {
    let token = secret_file::read_configured(path, SecretForm::Token, trusted_paths)
        .map_err(|error| error.to_string())?;
    // The parser's own error may hold the value.
    let mut header =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            format!(
                "the token in {} is not valid in a header; hint: write only the token there, on \
                 one line",
                path.display()
            )
        })?;
    header.set_sensitive(true);
    Ok((header, token))
}
