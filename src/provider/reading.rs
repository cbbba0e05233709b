//! What each operation makes of the answer that it got: what a refusal means is
//! in `refusal`, how a body is read in `wire`.

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::core::names::CredentialId;
use crate::provider::exchange::Reply;
use crate::provider::refusal::Head;
use crate::provider::wire::{self, Page};
use crate::provider::{Answer, Cause, Credential, NewCredential, ProviderError};

/// What the provider says about one credential.
pub(super) enum About {
    Reply(Reply),
    /// That there is none, and when by its clock.
    Gone(Option<Timestamp>),
}

/// The answer, if it is that of a success: every other is an error.
pub(super) fn success(operation: &str, reply: Reply) -> Result<Reply, ProviderError> {
    if reply.head.status.is_success() {
        Ok(reply)
    } else {
        Err(reply.head.refusal(operation, &reply.body))
    }
}

/// What the answer to a create says. It is not shown when it cannot be read:
/// half a secret may stand in it.
pub(super) fn created(
    operation: &str,
    reply: &Reply,
) -> Result<Answer<NewCredential>, ProviderError> {
    match wire::new_credential(&reply.body) {
        Ok(value) => Ok(answer(value, reply.head.date)),
        Err(why) => Err(reply.head.unreadable(operation, &why)),
    }
}

/// One page of a list, and what surrounded it.
pub(super) fn page(operation: &str, reply: Reply) -> Result<(Page, Head), ProviderError> {
    match wire::page(&reply.body) {
        Ok(page) => Ok((page, reply.head)),
        Err(why) => Err(reply.head.unreadable(operation, &why)),
    }
}

/// What came of asking about one credential, which may be gone.
pub(super) fn about(asked: Result<Reply, ProviderError>) -> Result<About, ProviderError> {
    match asked {
        Ok(reply) => Ok(About::Reply(reply)),
        Err(error) if error.cause == Cause::NotFound => Ok(About::Gone(error.date)),
        Err(error) => Err(error),
    }
}

/// The credential `id` as it is there, or none.
pub(super) fn retrieved(
    operation: &str,
    id: &CredentialId,
    about: About,
) -> Result<Answer<Option<Credential>>, ProviderError> {
    let Reply { head, body } = match about {
        About::Reply(reply) => reply,
        About::Gone(date) => return Ok(answer(None, date)),
    };
    match wire::credential(&body) {
        Ok(found) if found.facts.id == *id => Ok(answer(Some(found), head.date)),
        Ok(_) => Err(head.unreadable(operation, "it is about another credential")),
        Err(why) => Err(head.unreadable(operation, &why)),
    }
}

/// That the credential `id` is gone.
pub(super) fn deleted(
    operation: &str,
    id: &CredentialId,
    about: About,
) -> Result<Answer<()>, ProviderError> {
    let Reply { head, body } = match about {
        About::Reply(reply) => reply,
        About::Gone(date) => return Ok(answer((), date)),
    };
    match wire::deleted(&body, id) {
        Ok(()) => Ok(answer((), head.date)),
        Err(why) => Err(head.unreadable(operation, &why)),
    }
}

pub(super) fn answer<T>(value: T, date: Option<Timestamp>) -> Answer<T> {
    Answer { value, date }
}
