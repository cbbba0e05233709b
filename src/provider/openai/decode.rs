//! The result of each operation, decoded from its response. Errors are
//! classified in `errors`, and bodies parsed in `schema`.

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::core::active_credential::ActiveCredential;
use crate::core::ids::CredentialId;
use crate::core::state::CredentialMetadata;
use crate::provider::openai::errors::ResponseHead;
use crate::provider::openai::http::RawResponse;
use crate::provider::openai::schema::{self, CredentialPage};
use crate::provider::{
    CreatedCredential, ErrorKind, ListedCredential, ProviderError, ProviderResponse,
};

/// The provider's response about one credential.
pub(super) enum CredentialLookup {
    Response(RawResponse),
    /// It does not exist; with the provider's time.
    NotFound(Option<Timestamp>),
}

/// Returns a successful response; every other one is an error.
pub(super) fn require_success(
    operation: &str,
    response: RawResponse,
) -> Result<RawResponse, ProviderError> {
    if response.head.status.is_success() {
        Ok(response)
    } else {
        Err(response.head.error_from_body(operation, &response.body))
    }
}

/// Decodes the response to a create. An error does not quote it, since it may
/// contain a part of a secret.
pub(super) fn decode_create(
    operation: &str,
    response: &RawResponse,
    known: &ActiveCredential,
) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
    match schema::parse_new_credential(&response.body, known) {
        Ok(value) => Ok(provider_response(value, response.head.server_time)),
        Err(problem) => Err(response.head.unusable_body_error(operation, &problem)),
    }
}

/// Decodes one page of a list.
pub(super) fn decode_page(
    operation: &str,
    response: RawResponse,
    known: &ActiveCredential,
) -> Result<(CredentialPage, ResponseHead), ProviderError> {
    match schema::parse_page(&response.body, known) {
        Ok(page) => {
            for credential in &page.credentials {
                record_shown(&credential.metadata, known);
            }
            Ok((page, response.head))
        }
        Err(problem) => Err(response.head.unusable_body_error(operation, &problem)),
    }
}

/// Converts the result of a request about one credential, which may not exist
/// any more.
pub(super) fn into_lookup(
    result: Result<RawResponse, ProviderError>,
) -> Result<CredentialLookup, ProviderError> {
    match result {
        Ok(response) => Ok(CredentialLookup::Response(response)),
        Err(error) if error.kind == ErrorKind::NotFound => {
            Ok(CredentialLookup::NotFound(error.server_time))
        }
        Err(error) => Err(error),
    }
}

/// Decodes the credential `id`, or `None` if it does not exist.
pub(super) fn decode_retrieve(
    operation: &str,
    id: &CredentialId,
    lookup: CredentialLookup,
    known: &ActiveCredential,
) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
    let RawResponse { head, body } = match lookup {
        CredentialLookup::Response(response) => response,
        CredentialLookup::NotFound(server_time) => return Ok(provider_response(None, server_time)),
    };
    match schema::parse_credential(&body, known) {
        Ok(credential) if credential.metadata.id == *id => {
            record_shown(&credential.metadata, known);
            Ok(provider_response(Some(credential), head.server_time))
        }
        Ok(_) => Err(head.unusable_body_error(operation, "it is for another credential")),
        Err(problem) => Err(head.unusable_body_error(operation, &problem)),
    }
}

/// Compares what is shown of a credential with its secret, if that is known.
fn record_shown(shown: &CredentialMetadata, known: &ActiveCredential) {
    if known.record_shown(&shown.id, shown.redacted_value.as_deref()) {
        tracing::warn!(
            credential = %shown.id,
            "the provider's redacted value of {} does not match its secret; rekeyd no longer \
             recognizes secrets by such values",
            shown.id
        );
    }
}

/// Decodes the confirmation that the credential `id` does not exist any more.
pub(super) fn decode_delete(
    operation: &str,
    id: &CredentialId,
    lookup: CredentialLookup,
) -> Result<ProviderResponse<()>, ProviderError> {
    let RawResponse { head, body } = match lookup {
        CredentialLookup::Response(response) => response,
        CredentialLookup::NotFound(server_time) => return Ok(provider_response((), server_time)),
    };
    match schema::parse_deletion(&body, id) {
        Ok(()) => Ok(provider_response((), head.server_time)),
        Err(problem) => Err(head.unusable_body_error(operation, &problem)),
    }
}

pub(super) fn provider_response<T>(
    value: T,
    server_time: Option<Timestamp>,
) -> ProviderResponse<T> {
    ProviderResponse { value, server_time }
}
