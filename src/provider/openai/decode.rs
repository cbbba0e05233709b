//! What each operation makes of the answer that it got: what a refusal means is
//! in `refusal`, how a body is read in `wire`.

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::core::ids::CredentialId;
use crate::provider::openai::errors::ResponseHead;
use crate::provider::openai::http::RawResponse;
use crate::provider::openai::schema::{self, CredentialPage};
use crate::provider::{
    CreatedCredential, ErrorKind, ListedCredential, ProviderError, ProviderResponse,
};

/// What the provider says about one credential.
pub(super) enum CredentialLookup {
    Response(RawResponse),
    /// That there is none, and when by its clock.
    NotFound(Option<Timestamp>),
}

/// The answer, if it is that of a success: every other is an error.
pub(super) fn require_success(
    operation: &str,
    reply: RawResponse,
) -> Result<RawResponse, ProviderError> {
    if reply.head.status.is_success() {
        Ok(reply)
    } else {
        Err(reply.head.error_from_body(operation, &reply.body))
    }
}

/// What the answer to a create says. It is not shown when it cannot be read:
/// half a secret may stand in it.
pub(super) fn decode_create(
    operation: &str,
    reply: &RawResponse,
) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
    match schema::parse_new_credential(&reply.body) {
        Ok(value) => Ok(provider_response(value, reply.head.server_time)),
        Err(why) => Err(reply.head.unusable_body_error(operation, &why)),
    }
}

/// One page of a list, and what surrounded it.
pub(super) fn decode_page(
    operation: &str,
    reply: RawResponse,
) -> Result<(CredentialPage, ResponseHead), ProviderError> {
    match schema::parse_page(&reply.body) {
        Ok(page) => Ok((page, reply.head)),
        Err(why) => Err(reply.head.unusable_body_error(operation, &why)),
    }
}

/// What came of asking about one credential, which may be gone.
pub(super) fn into_lookup(
    asked: Result<RawResponse, ProviderError>,
) -> Result<CredentialLookup, ProviderError> {
    match asked {
        Ok(reply) => Ok(CredentialLookup::Response(reply)),
        Err(error) if error.kind == ErrorKind::NotFound => {
            Ok(CredentialLookup::NotFound(error.server_time))
        }
        Err(error) => Err(error),
    }
}

/// The credential `id` as it is there, or none.
pub(super) fn decode_retrieve(
    operation: &str,
    id: &CredentialId,
    about: CredentialLookup,
) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
    let RawResponse { head, body } = match about {
        CredentialLookup::Response(reply) => reply,
        CredentialLookup::NotFound(date) => return Ok(provider_response(None, date)),
    };
    match schema::parse_credential(&body) {
        Ok(found) if found.metadata.id == *id => {
            Ok(provider_response(Some(found), head.server_time))
        }
        Ok(_) => Err(head.unusable_body_error(operation, "it is about another credential")),
        Err(why) => Err(head.unusable_body_error(operation, &why)),
    }
}

/// That the credential `id` is gone.
pub(super) fn decode_delete(
    operation: &str,
    id: &CredentialId,
    about: CredentialLookup,
) -> Result<ProviderResponse<()>, ProviderError> {
    let RawResponse { head, body } = match about {
        CredentialLookup::Response(reply) => reply,
        CredentialLookup::NotFound(date) => return Ok(provider_response((), date)),
    };
    match schema::parse_deletion(&body, id) {
        Ok(()) => Ok(provider_response((), head.server_time)),
        Err(why) => Err(head.unusable_body_error(operation, &why)),
    }
}

pub(super) fn provider_response<T>(value: T, date: Option<Timestamp>) -> ProviderResponse<T> {
    ProviderResponse {
        value,
        server_time: date,
    }
}
