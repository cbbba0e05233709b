//! Whether the answer to a create can be true.
//!
//! A proxy that replays answers, a cache or a faulty provider may answer with a credential
//! or a secret that existed before. If rekeyd believed such an answer, it would deliver a
//! secret that belongs elsewhere, and later delete a credential that it did not create.

use jiff::Timestamp;

use crate::core::active_credential::SecretOrigin;
use crate::core::creation_time::existed_before;
use crate::core::ids::{CredentialId, KeyName, Label, SinkId};
use crate::core::label_match::{LabelMatch, match_label};
use crate::core::redact::sanitize;
use crate::core::secret::Secret;
use crate::core::secret_text::{SecretForm, SecretTextError, check_token};
use crate::core::time;

/// What is known of an answer to a create.
#[derive(Debug, Clone)]
pub struct CreateAnswer<'a> {
    /// The label that was sent.
    pub label: &'a Label,
    /// The id in the answer.
    pub id: &'a CredentialId,
    /// The name in the answer.
    pub name: Option<&'a str>,
    /// The key that has a row with this id.
    pub recorded_for: Option<KeyName>,
    /// The name under which an earlier list showed a credential with this id and
    /// without a row.
    pub listed_as: Option<Option<String>>,
    /// The time of creation in the answer.
    pub created_at: Option<Timestamp>,
    /// The earliest time of creation of what the create made.
    pub earliest: Timestamp,
    /// Whether the credential bears the label, by an answer about its id if the time of
    /// creation asks for one. Nobody else knows the label, so that its creation is proved.
    pub bears_label: bool,
    /// The secret in the answer, if it has one.
    pub secret: Option<&'a Secret>,
    /// What the sinks of the key take for a secret.
    pub form: SecretForm,
    /// Where the secret is known from.
    pub origin: SecretOrigin,
    /// A live credential, of whichever key, that may have this secret.
    pub resemblance: Option<Resemblance>,
}

/// A live credential whose redacted value shows the end of the secret in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resemblance {
    /// Its id.
    pub credential: CredentialId,
    /// The key that has it.
    pub key: KeyName,
    /// What else is known.
    pub evidence: Evidence,
}

/// What shows whether a secret is that of a credential with the same end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A target of the key holds this very secret.
    InTarget(SinkId),
    /// The provider shows the new credential with another end.
    OtherEnd,
    /// Nothing but the end.
    EndAlone(EqualEnd),
}

/// An end that a secret has in common with one of the live credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EqualEnd {
    /// The number of characters that are equal.
    pub length: usize,
    /// The number of characters that the secret is made of.
    pub alphabet: u64,
    /// The number of live credentials that show an end.
    pub live: u64,
}

/// The number of different characters of a secret of letters and digits. Where the case
/// does not count, letters are twice as frequent as digits: two ends are equal as often as
/// those of 33 equally frequent characters.
const LETTERS_AND_DIGITS: u64 = 32;

/// The number of characters at the end of a secret that show what it is made of.
const TAIL_CHARS: usize = 20;

impl EqualEnd {
    /// Returns the end that a secret has in common with what a credential of `live` others
    /// shows.
    #[must_use]
    pub fn new(secret: &Secret, redacted_value: Option<&str>, live: u64) -> Self {
        let secret = secret.expose().as_bytes();
        let is_quote = |character: char| "\"'`".contains(character) || character.is_whitespace();
        let shown = redacted_value.unwrap_or_default();
        let shown = shown.trim_end_matches(is_quote).bytes().rev();
        let pairs = secret.iter().rev().zip(shown);
        let length = pairs.take_while(|(own, other)| own.eq_ignore_ascii_case(other));
        let tail = &secret[secret.len().saturating_sub(TAIL_CHARS)..];
        let alphabet = if tail.iter().all(u8::is_ascii_digit) {
            10
        } else if tail.iter().all(u8::is_ascii_hexdigit) {
            16
        } else {
            LETTERS_AND_DIGITS
        };
        Self {
            length: length.count(),
            alphabet,
            live,
        }
    }

    /// Returns whether every other honest secret has such an end, so that it shows
    /// nothing: creating anew would rarely help.
    fn is_usual(self) -> bool {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let ends = self.alphabet.saturating_pow(length);
        self.live.saturating_mul(2) >= ends
    }
}

/// Checks that this process has not seen the secret of an answer before.
///
/// # Errors
/// [`AnswerProblem::OwnSecret`] or [`AnswerProblem::EarlierSecret`].
pub fn check_origin(origin: SecretOrigin) -> Result<(), AnswerProblem> {
    match origin {
        SecretOrigin::Own => Err(AnswerProblem::OwnSecret),
        SecretOrigin::Created => Err(AnswerProblem::EarlierSecret),
        SecretOrigin::Unknown => Ok(()),
    }
}

/// Why an answer to a create cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerProblem {
    /// The ledger has the credential already.
    #[error("{id} already belongs to {key}")]
    Recorded {
        /// The id in the answer.
        id: CredentialId,
        /// The key that has it.
        key: KeyName,
    },
    /// The provider listed the credential before.
    #[error("{id} is older than this create")]
    Existed {
        /// The id in the answer.
        id: CredentialId,
    },
    /// The credential was created before the create was sent.
    #[error("{id} was created at {}, before this create was sent", time::to_text(*created_at))]
    CreatedBefore {
        /// The id in the answer.
        id: CredentialId,
        /// The time of creation in the answer.
        created_at: Timestamp,
    },
    /// The credential has a name that no provider makes of the label.
    #[error("its name is {:?} instead of {label}", sanitize(name))]
    OtherName {
        /// The name in the answer.
        name: String,
        /// The label that was sent.
        label: Label,
    },
    /// The secret is no bearer token: no header can carry it, or each reader would read
    /// something else.
    #[error("its secret is not a valid bearer token")]
    NoToken,
    /// The secret is one as lists show it.
    #[error("its secret is redacted")]
    RedactedSecret,
    /// The secret is no admin key, and a sink of the key needs one.
    #[error("its secret is {found}, but the `self` sink needs an admin key")]
    OtherKind {
        /// What it is.
        found: &'static str,
    },
    /// The secret is one that rekeyd authenticates with, or could.
    #[error("its secret is rekeyd's own")]
    OwnSecret,
    /// The secret came in an earlier answer.
    #[error("its secret belongs to an earlier credential")]
    EarlierSecret,
    /// The secret is in the target of a sink.
    #[error("its secret belongs to {id}, which {sink} of {key} holds")]
    InTarget {
        /// The credential that it belongs to.
        id: CredentialId,
        /// The key that has it.
        key: KeyName,
        /// The sink.
        sink: SinkId,
    },
    /// The secret is in the file of a sink.
    #[error("{sink} of {key} already holds its secret")]
    InFile {
        /// The key.
        key: KeyName,
        /// The sink.
        sink: SinkId,
    },
    /// The secret ends like that of another credential, and the provider shows the new
    /// one with another end.
    #[error("its secret ends like that of {id} of {key}, but the provider shows another end")]
    OtherEnd {
        /// The credential that it may belong to.
        id: CredentialId,
        /// The key that has it.
        key: KeyName,
    },
    /// The secret ends like that of another credential, perhaps by chance.
    #[error("its secret ends like that of {id} of {key}")]
    SameEnd {
        /// The other credential.
        id: CredentialId,
        /// The key that has it.
        key: KeyName,
    },
}

impl AnswerProblem {
    /// Returns whether the answer may be true nevertheless.
    #[must_use]
    pub const fn is_doubt(&self) -> bool {
        matches!(self, Self::SameEnd { .. })
    }
}

impl Resemblance {
    /// Returns why an answer is not believed for it.
    fn problem(&self) -> Option<AnswerProblem> {
        let (id, key) = (self.credential.clone(), self.key.clone());
        match &self.evidence {
            Evidence::InTarget(sink) => Some(AnswerProblem::InTarget {
                id,
                key,
                sink: sink.clone(),
            }),
            Evidence::OtherEnd => Some(AnswerProblem::OtherEnd { id, key }),
            Evidence::EndAlone(end) if end.is_usual() => None,
            Evidence::EndAlone(_) => Some(AnswerProblem::SameEnd { id, key }),
        }
    }
}

impl From<SecretTextError> for AnswerProblem {
    fn from(error: SecretTextError) -> Self {
        match error {
            SecretTextError::Redacted => Self::RedactedSecret,
            SecretTextError::OtherKind { found } => Self::OtherKind { found },
            SecretTextError::Unreadable { .. }
            | SecretTextError::Empty
            | SecretTextError::NotText { .. }
            | SecretTextError::SeveralLines { .. }
            | SecretTextError::ForeignCharacter { .. }
            | SecretTextError::Quoted
            | SecretTextError::Assignment => Self::NoToken,
        }
    }
}

/// Checks an answer to a create against what is known before it is believed. Returns
/// how the name in it relates to the label.
///
/// # Errors
/// [`AnswerProblem`] if the answer cannot be true: the create counts as unclear.
pub fn check_create_answer(answer: &CreateAnswer<'_>) -> Result<LabelMatch, AnswerProblem> {
    let id = answer.id;
    check_origin(answer.origin)?;
    if let Some(key) = &answer.recorded_for {
        let (id, key) = (id.clone(), key.clone());
        return Err(AnswerProblem::Recorded { id, key });
    }
    if let Some(created_at) = answer.created_at
        && existed_before(answer.created_at, answer.earliest)
        && !answer.bears_label
    {
        let id = id.clone();
        return Err(AnswerProblem::CreatedBefore { id, created_at });
    }
    let match_name = |name: &str| match_label(answer.label, name);
    let matched = answer.name.map_or(LabelMatch::Same, match_name);
    if let (LabelMatch::Other, Some(name)) = (&matched, answer.name) {
        return Err(AnswerProblem::OtherName {
            name: name.to_owned(),
            label: answer.label.clone(),
        });
    }
    if let Some(secret) = answer.secret {
        check_token(secret.expose(), answer.form).map_err(AnswerProblem::from)?;
    }
    // A reconciliation beside the create may have listed the new credential under a
    // name that the provider changed.
    if let Some(listed) = &answer.listed_as {
        let name = listed.as_deref();
        if name.is_none_or(|name| match_name(name) == LabelMatch::Other) {
            return Err(AnswerProblem::Existed { id: id.clone() });
        }
    }
    match answer.resemblance.as_ref().and_then(Resemblance::problem) {
        Some(problem) => Err(problem),
        None => Ok(matched),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CredentialId {
        CredentialId::new(text.to_owned())
    }

    #[test]
    fn answers_that_cannot_be_true_are_refused() {
        let label = Label::from_recorded("billing-20261123T030000Z-5f3a9c");
        let new = id("key_new");
        let key = KeyName::new("web").unwrap();
        let secret = Secret::new("sk-admin-new".to_owned());
        let blank = Secret::new("sk-admin-new ".to_owned());
        let redacted = Secret::new("sk-admin-...new".to_owned());
        let other = Secret::new("sk-proj-new".to_owned());
        let honest = CreateAnswer {
            label: &label,
            id: &new,
            name: Some(label.as_str()),
            recorded_for: None,
            listed_as: None,
            created_at: None,
            earliest: Timestamp::UNIX_EPOCH,
            bears_label: false,
            secret: Some(&secret),
            form: SecretForm::Token,
            origin: SecretOrigin::Unknown,
            resemblance: None,
        };
        let check = |change: &dyn Fn(&mut CreateAnswer<'_>)| {
            let mut answer = honest.clone();
            change(&mut answer);
            check_create_answer(&answer)
        };
        assert_eq!(check(&|_| {}), Ok(LabelMatch::Same));
        assert_eq!(check(&|answer| answer.name = None), Ok(LabelMatch::Same));
        let cut = check(&|answer| answer.name = Some("billing-20261123T0300"));
        assert!(matches!(cut, Ok(LabelMatch::Changed(_))), "{cut:?}");
        let listed_in_between =
            check(&|answer| answer.listed_as = Some(Some("billing-20261123T0300".to_owned())));
        assert_eq!(listed_in_between, Ok(LabelMatch::Same));
        let recorded = check(&|answer| answer.recorded_for = Some(key.clone()));
        assert!(matches!(recorded, Err(AnswerProblem::Recorded { .. })));
        for listed in [None, Some("someone".to_owned())] {
            let problem = check(&|answer| answer.listed_as = Some(listed.clone()));
            assert_eq!(problem, Err(AnswerProblem::Existed { id: new.clone() }));
        }
        let early = Some(Timestamp::from_second(-4_001).unwrap());
        let older = check(&|answer| answer.created_at = early);
        assert!(matches!(older, Err(AnswerProblem::CreatedBefore { .. })));
        let labelled = check(&|answer| {
            (answer.created_at, answer.bears_label) = (early, true);
        });
        assert_eq!(labelled, Ok(LabelMatch::Same));
        for name in ["", "Administration Key", "billing-20261123T030000Z-000000"] {
            let problem = check(&|answer| answer.name = Some(name));
            assert!(
                matches!(problem, Err(AnswerProblem::OtherName { .. })),
                "{name}"
            );
        }
        let own = check(&|answer| answer.origin = SecretOrigin::Own);
        assert_eq!(own, Err(AnswerProblem::OwnSecret));
        let earlier = check(&|answer| answer.origin = SecretOrigin::Created);
        assert_eq!(earlier, Err(AnswerProblem::EarlierSecret));
        let check_secret = |secret: &Secret, form| {
            check_create_answer(&CreateAnswer {
                secret: Some(secret),
                form,
                ..honest.clone()
            })
        };
        let token = SecretForm::Token;
        assert_eq!(check_secret(&blank, token), Err(AnswerProblem::NoToken));
        let problem = check_secret(&redacted, token);
        assert_eq!(problem, Err(AnswerProblem::RedactedSecret));
        assert!(check_secret(&other, token).is_ok());
        let problem = check_secret(&other, SecretForm::AdminKey);
        assert!(matches!(problem, Err(AnswerProblem::OtherKind { .. })));
    }

    /// However often an end was equal before, only evidence counts.
    #[test]
    fn an_equal_end_is_refused_unless_it_shows_nothing() {
        let label = Label::from_recorded("billing-20261123T030000Z-5f3a9c");
        let secret = Secret::new("sk-admin-0123456789".to_owned());
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        let alone = |alphabet, length, live| {
            Evidence::EndAlone(EqualEnd {
                length,
                alphabet,
                live,
            })
        };
        for (evidence, is_believed, is_doubt) in [
            (Evidence::InTarget(sink), false, false),
            (Evidence::OtherEnd, false, false),
            (alone(32, 3, 1), false, true),
            (alone(32, 3, 10_000), false, true),
            (alone(32, 3, 20_000), true, false),
            (alone(32, 4, 20_000), false, true),
            (alone(32, 4, 1_000_000), true, false),
            (alone(16, 3, 2_000), false, true),
            (alone(16, 3, 2_100), true, false),
            (alone(10, 3, 400), false, true),
            (alone(10, 3, 600), true, false),
            (alone(32, 40, u64::MAX / 4), false, true),
        ] {
            let answer = CreateAnswer {
                label: &label,
                id: &id("key_new"),
                name: Some(label.as_str()),
                recorded_for: None,
                listed_as: None,
                created_at: None,
                earliest: Timestamp::UNIX_EPOCH,
                bears_label: true,
                secret: Some(&secret),
                form: SecretForm::Token,
                origin: SecretOrigin::Unknown,
                resemblance: Some(Resemblance {
                    credential: id("key_1"),
                    key: KeyName::new("web").unwrap(),
                    evidence: evidence.clone(),
                }),
            };
            let checked = check_create_answer(&answer);
            assert_eq!(checked.is_ok(), is_believed, "{evidence:?}");
            let problem = checked.err();
            let is_doubted = problem.is_some_and(|problem| problem.is_doubt());
            assert_eq!(is_doubted, is_doubt, "{evidence:?}");
        }
    }

    #[test]
    fn an_equal_end_is_measured() {
        for (secret, shown, length, alphabet) in [
            ("sk-admin-of-web-0123456789wxYz", "sk-admin...wxYz", 4, 32),
            ("sk-admin-of-web-0123456789wxYz", "sk-admin...WXYZ", 4, 32),
            ("sk-admin-of-web-0123456789wxYz", "\"****9wxYz\" ", 5, 32),
            ("sk-admin-of-web-0123456789wxYz", "wxYz", 4, 32),
            ("sk-admin-0123456789abcdef0123456789ab", "sk-…9ab", 3, 16),
            ("sk-admin-01234567890123456789", "*789", 3, 10),
            ("0123", "…123", 3, 10),
        ] {
            let end = EqualEnd::new(&Secret::new(secret.to_owned()), Some(shown), 7);
            let measured = (end.length, end.alphabet, end.live);
            assert_eq!(measured, (length, alphabet, 7), "{secret} {shown}");
        }
    }
}
