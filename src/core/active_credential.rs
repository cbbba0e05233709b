//! The cell that holds the admin key in use, and what this process knows of
//! other secrets.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::core::expected_secret::ExpectedSecret;
use crate::core::ids::CredentialId;
use crate::core::secret::{EndMatch, RedactionForm, Secret, compare_end, shown_end};
use crate::core::secret_digests::SecretDigests;
use crate::core::state::CredentialMetadata;

/// The admin key that rekeyd authenticates with. The provider client reads it
/// at each request, so that a new one takes effect without a restart.
///
/// After a switch, the previous credential is kept until it is revoked: rekeyd falls
/// back to it if the provider refuses the new one.
#[derive(Debug, Clone, Default)]
pub struct ActiveCredential(Arc<RwLock<KnownSecrets>>);

#[derive(Debug, Default)]
struct KnownSecrets {
    in_use: Option<Secret>,
    previous: Option<PreviousCredential>,
    /// The credential that a person put in the place of another, until rekeyd replaces it or
    /// it is found in a place of its own.
    given: Option<Secret>,
    /// The credentials that were in use before a person replaced them, until they are revoked
    /// by force.
    replaced: Vec<Secret>,
    /// Computes the digests: keyed with a random key of this process, so that a digest
    /// says nothing elsewhere.
    hasher: RandomState,
    /// The digest of each secret that came in the answer to its create.
    created: HashMap<CredentialId, CreatedSecret>,
    /// Of credentials whose secret was lost: the secrets that are older than they are.
    older: HashMap<CredentialId, OwnSecrets>,
    /// The secrets that came in the answer to a create, or in one that was refused.
    received: SecretDigests,
    /// The secrets that came in any answer, believed or not.
    answered: SecretDigests,
    /// The secrets that rekeyd authenticated with, or could have.
    own: SecretDigests,
    /// The secrets of creates that the provider accepted.
    working: HashSet<u64>,
    /// The forms in which the provider showed the end of a secret that is known here.
    forms_with_ends: HashSet<RedactionForm>,
    /// Whether the provider showed an end that was not that of the secret.
    are_ends_unreliable: bool,
    /// How often the credentials changed that rekeyd works or worked with.
    version: u64,
    /// The credentials that are certainly of the same organization as the one in use: it,
    /// and what rekeyd created with it.
    same_organization: HashSet<u64>,
    /// How often rekeyd began to work with a credential that may be of another one.
    generation: u64,
}

/// What is kept of the secret of a create.
#[derive(Debug)]
struct CreatedSecret {
    digest: u64,
    /// The digests of its ends of each length that a redacted value may show.
    ends: HashSet<u64>,
}

/// The lengths of the ends of a created secret that are recognized.
const END_LENGTHS: RangeInclusive<usize> = 3..=12;

impl KnownSecrets {
    fn digest(&self, secret: &Secret) -> u64 {
        self.hasher.hash_one(secret.expose())
    }

    /// Works with a secret from now on.
    fn work_with(&mut self, secret: Secret) {
        let digest = self.digest(&secret);
        if !self.same_organization.contains(&digest) {
            self.generation += 1;
            self.same_organization = HashSet::from([digest]);
        }
        self.version += 1;
        self.in_use = Some(secret);
    }

    /// Compares a secret with that of a credential.
    fn compare(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        match self.created.get(id) {
            Some(created) if created.digest == self.digest(secret) => EndMatch::Same,
            Some(_) => EndMatch::Different,
            None => match compare_end(secret.expose(), redacted_value) {
                EndMatch::Same => EndMatch::Same,
                _ if self.is_older(secret, id) => EndMatch::Different,
                EndMatch::Different if self.are_ends_unreliable => EndMatch::Unknown,
                EndMatch::Different if self.is_doubtful(secret, redacted_value) => {
                    EndMatch::Unknown
                }
                compared @ (EndMatch::Different | EndMatch::Unknown) => compared,
            },
        }
    }

    /// Returns whether nothing shows that a value of this form has an end of its secret.
    fn is_doubtful(&self, secret: &Secret, redacted_value: Option<&str>) -> bool {
        redacted_value.is_some_and(|value| {
            let form = RedactionForm::of(value);
            form.is_doubtful(secret.expose(), value) && !self.forms_with_ends.contains(&form)
        })
    }

    /// Compares what the provider shows of a credential with its secret, as far as this
    /// process knows that.
    fn judge_shown(&self, id: &CredentialId, value: &str) -> EndMatch {
        let Some(created) = self.created.get(id) else {
            let previous = self.previous.as_ref().map(|previous| &previous.secret);
            let mut known = self.in_use.iter().chain(previous);
            let is_same =
                known.any(|known| compare_end(known.expose(), Some(value)) == EndMatch::Same);
            return if is_same {
                EndMatch::Same
            } else {
                EndMatch::Unknown
            };
        };
        let end = shown_end(value);
        let shows = |part: &str| created.ends.contains(&self.hasher.hash_one(part));
        if shows(&end) {
            return EndMatch::Same;
        }
        // Without the secret, another one tells whether the value shows an end at all.
        let looks_like_end = self
            .in_use
            .as_ref()
            .is_some_and(|used| compare_end(used.expose(), Some(value)) == EndMatch::Different);
        let mut parts = end.split(|character: char| !character.is_ascii_alphanumeric());
        if looks_like_end && self.working.contains(&created.digest) && !parts.any(shows) {
            EndMatch::Different
        } else {
            EndMatch::Unknown
        }
    }

    /// Returns whether a credential is, or may be, one that a person replaced.
    fn may_be_replaced(&self, id: &CredentialId, redacted_value: Option<&str>) -> bool {
        let mut replaced = self.replaced.iter();
        replaced.any(|replaced| self.compare(replaced, id, redacted_value) != EndMatch::Different)
    }

    /// Returns whether rekeyd worked with a secret before a credential was created.
    fn is_older(&self, secret: &Secret, id: &CredentialId) -> bool {
        let older = self.older.get(id);
        older.is_some_and(|older| older.0.contains(&self.digest(secret)))
    }
}

/// The digests of the secrets that rekeyd worked with at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnSecrets(Vec<u64>);

/// Where a secret is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretOrigin {
    /// rekeyd authenticated with it since this process started, or could have: it is in
    /// a source of the admin key.
    Own,
    /// It came in the answer to a create since this process started.
    Created,
    /// This process has not seen it.
    Unknown,
}

/// Whether rekeyd itself authenticates with a credential. It is observed after a
/// request that makes rekeyd switch to a newer one if there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CredentialUsage {
    /// rekeyd does not use it.
    #[default]
    Unused,
    /// rekeyd used it before the one in use, which works, and would fall back to
    /// it.
    Previous,
    /// Nothing shows whether rekeyd uses it.
    MayBeInUse,
    /// rekeyd uses it.
    InUse,
}

#[derive(Debug)]
struct PreviousCredential {
    secret: Secret,
    id: Option<CredentialId>,
}

impl ActiveCredential {
    /// Returns a cell without a credential.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the credential in use.
    #[must_use]
    pub fn get(&self) -> Option<Secret> {
        self.read().in_use.clone()
    }

    /// Returns the credential that was in use before the last switch, until it is
    /// revoked.
    #[must_use]
    pub fn previous(&self) -> Option<Secret> {
        let pair = self.read();
        let previous = pair.previous.as_ref();
        previous.map(|previous| previous.secret.clone())
    }

    /// Returns whether the previous credential is in use again.
    #[must_use]
    pub fn is_using_previous(&self) -> bool {
        let pair = self.read();
        pair.previous.as_ref().is_some_and(|previous| {
            let used = pair.in_use.as_ref();
            used.is_some_and(|used| used.same_as(&previous.secret))
        })
    }

    /// Returns whether rekeyd authenticates with a credential, as far as can be known
    /// without a request. When in doubt, it may.
    ///
    /// The secrets that came to this process in the answer to their create are
    /// compared themselves. Of any other credential, the end that the provider shows
    /// is compared.
    #[must_use]
    pub fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage {
        let inner = self.read();
        let Some(used) = &inner.in_use else {
            return CredentialUsage::MayBeInUse;
        };
        let previous = inner.previous.as_ref();
        match inner.compare(used, id, redacted_value) {
            EndMatch::Same => CredentialUsage::InUse,
            EndMatch::Unknown => CredentialUsage::MayBeInUse,
            // The schedule must not end it: the one that a person gave may be withdrawn.
            EndMatch::Different if inner.may_be_replaced(id, redacted_value) => {
                CredentialUsage::MayBeInUse
            }
            EndMatch::Different => {
                match previous.map(|previous| inner.compare(&previous.secret, id, redacted_value)) {
                    Some(EndMatch::Same) => CredentialUsage::Previous,
                    Some(EndMatch::Unknown) => CredentialUsage::MayBeInUse,
                    Some(EndMatch::Different) | None => CredentialUsage::Unused,
                }
            }
        }
    }

    /// Records the secret of a credential that was just created, and compares it with
    /// the redacted value in the same answer. Returns whether they contradict each other.
    /// If the secret works, [`ActiveCredential::distrust_redacted_values`] follows.
    pub fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool {
        let mut inner = self.write();
        let digest = inner.digest(secret);
        let text = secret.expose().to_ascii_lowercase();
        let ends = END_LENGTHS.filter_map(|length| text.get(text.len().checked_sub(length)?..));
        let ends = ends.map(|end| inner.hasher.hash_one(end)).collect();
        let created = CreatedSecret { digest, ends };
        inner.created.insert(id.clone(), created);
        inner.same_organization.insert(digest);
        inner.received.insert(secret);
        let compared = compare_end(secret.expose(), redacted_value);
        if compared == EndMatch::Same {
            let form = redacted_value.map(RedactionForm::of);
            inner.forms_with_ends.extend(form);
        }
        compared == EndMatch::Different
    }

    /// Records that the provider accepted a secret.
    pub fn record_working(&self, secret: &Secret) {
        let mut inner = self.write();
        let digest = inner.digest(secret);
        inner.working.insert(digest);
    }

    /// Records what a list or a retrieval shows of a credential: the true end of a secret
    /// that is known here, so that ends in this form count, or an end that the secret does
    /// not have, so that no end counts any more. Returns true the first time that it does
    /// not have it.
    pub fn record_shown(&self, id: &CredentialId, redacted_value: Option<&str>) -> bool {
        let Some(value) = redacted_value else {
            return false;
        };
        let compared = self.read().judge_shown(id, value);
        match compared {
            EndMatch::Unknown => false,
            EndMatch::Same => {
                let form = RedactionForm::of(value);
                self.write().forms_with_ends.insert(form);
                false
            }
            EndMatch::Different => {
                let mut inner = self.write();
                !std::mem::replace(&mut inner.are_ends_unreliable, true)
            }
        }
    }

    /// Records the secret of an answer that was not believed: a later answer with it cannot
    /// be true.
    pub fn record_refused(&self, secret: &Secret) {
        self.write().received.insert(secret);
    }

    /// Compares a secret with that of a credential: with the secret itself if it came to
    /// this process in the answer to its create, else with the end that `redacted_value`
    /// shows.
    #[must_use]
    pub fn compare(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        self.read().compare(secret, id, redacted_value)
    }

    /// Returns what this process knows of the secret of a credential.
    #[must_use]
    pub fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        let inner = self.read();
        let expected = ExpectedSecret::from_metadata(credential.clone());
        match inner.created.get(&credential.id) {
            Some(created) => expected.with_digest(inner.hasher.clone(), created.digest),
            None => expected,
        }
    }

    /// Returns which secrets rekeyd works with now, without keeping them.
    #[must_use]
    pub fn own_secrets(&self) -> OwnSecrets {
        let inner = self.read();
        let previous = inner.previous.as_ref().map(|previous| &previous.secret);
        let secrets = inner.in_use.iter().chain(previous).chain(&inner.replaced);
        OwnSecrets(secrets.map(|secret| inner.digest(secret)).collect())
    }

    /// Records that a credential is newer than these secrets, so that it is none of them,
    /// whatever the provider shows of its own secret, which was lost.
    pub fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        self.write().older.insert(id.clone(), own);
    }

    /// From now on, takes no redacted value as proof that a credential is not the one in
    /// use.
    pub fn distrust_redacted_values(&self) {
        self.write().are_ends_unreliable = true;
    }

    /// Returns where a secret is known from: one that differs only in its prefix, its
    /// case, or what surrounds it is the same.
    #[must_use]
    pub fn origin(&self, secret: &Secret) -> SecretOrigin {
        let inner = self.read();
        if inner.own.show_in(secret.expose()) {
            SecretOrigin::Own
        } else if inner.received.show_in(secret.expose()) {
            SecretOrigin::Created
        } else {
            SecretOrigin::Unknown
        }
    }

    /// Records a secret in an answer, before anything else in the answer is read.
    pub fn record_answered(&self, secret: &Secret) {
        self.write().answered.insert(secret);
    }

    /// Returns whether a text shows a secret that rekeyd authenticated with, or that came
    /// in an answer, also after it was wiped.
    #[must_use]
    pub fn is_shown_in(&self, text: &str) -> bool {
        let inner = self.read();
        inner.own.show_in(text) || inner.answered.show_in(text)
    }

    /// Records a secret that rekeyd could authenticate with.
    pub fn record_own(&self, secret: &Secret) {
        self.write().own.insert(secret);
    }

    /// Sets the credential in use.
    pub fn set(&self, secret: Secret) {
        self.record_own(&secret);
        self.write().work_with(secret);
    }

    /// Returns a number that changes whenever rekeyd works with another credential, or
    /// would no longer fall back to the previous one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// Returns a number that changes whenever rekeyd begins to work with a credential that
    /// may be of another organization; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.read().generation
    }

    /// Replaces the credential in use, whose id is `replaced`, and keeps it as the
    /// previous one.
    pub fn switch_to(&self, secret: Secret, replaced: Option<CredentialId>) {
        self.record_own(&secret);
        let mut pair = self.write();
        let used = pair.in_use.take().filter(|used| !used.same_as(&secret));
        if let Some(used) = used {
            pair.previous = Some(PreviousCredential {
                secret: used,
                id: replaced,
            });
        }
        // rekeyd's own rotation is newer than what a person gave.
        pair.given = None;
        pair.work_with(secret);
    }

    /// Works with a credential that a person put in the place of the one in use. That one is
    /// kept as the previous one, and no schedule revokes it any more, nor those that a person
    /// replaced before.
    pub fn replace(&self, secret: Secret) {
        let replaced = self.get().filter(|used| !used.same_as(&secret));
        self.switch_to(secret, None);
        if let Some(replaced) = replaced {
            let mut inner = self.write();
            inner.replaced.retain(|known| !known.same_as(&replaced));
            inner.replaced.push(replaced);
        }
    }

    /// Works with a credential as [`ActiveCredential::replace`] does, and before those of
    /// every place until one of them holds it.
    pub fn give(&self, secret: Secret) {
        self.replace(secret.clone());
        self.write().given = Some(secret);
    }

    /// Returns the credential that was given and that no place holds yet.
    #[must_use]
    pub fn given(&self) -> Option<Secret> {
        self.read().given.clone()
    }

    /// Records that a place holds the credential that was given.
    pub fn forget_given(&self) {
        self.write().given = None;
    }

    /// Records that a credential is of the organization of the one in use.
    pub fn record_same_organization(&self, secret: &Secret) {
        let mut inner = self.write();
        let digest = inner.digest(secret);
        inner.same_organization.insert(digest);
    }

    /// Returns whether a credential is certainly of the organization of the one in use.
    #[must_use]
    pub fn is_of_organization(&self, secret: &Secret) -> bool {
        let inner = self.read();
        inner.same_organization.contains(&inner.digest(secret))
    }

    /// Drops the previous credential if it is the revoked one.
    pub fn forget_revoked(&self, revoked: &CredentialId) {
        let mut pair = self.write();
        let previous = pair.previous.as_ref();
        if previous.is_some_and(|previous| previous.id.as_ref() == Some(revoked)) {
            pair.previous = None;
            pair.version += 1;
        }
        let is_revoked = |secret: &Secret| pair.compare(secret, revoked, None) == EndMatch::Same;
        if let Some(index) = pair.replaced.iter().position(is_revoked) {
            pair.replaced.remove(index);
            pair.version += 1;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, KnownSecrets> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KnownSecrets> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of a create was lost, and the provider shows no end.
    #[test]
    fn credential_is_none_of_the_secrets_that_its_create_was_sent_with() {
        let cell = ActiveCredential::new();
        let made = id("key_made");
        let usage = |id: &CredentialId| {
            [None, Some("[hidden]"), Some("sk-admin-...")].map(|shown| cell.usage(id, shown))
        };
        cell.set(secret("sk-admin-first"));
        cell.switch_to(secret("sk-admin-second"), None);
        assert_eq!(usage(&made), [CredentialUsage::MayBeInUse; 3]);
        let own = cell.own_secrets();
        cell.record_newer(&made, own);
        assert_eq!(usage(&made), [CredentialUsage::Unused; 3]);
        assert_eq!(usage(&id("key_other")), [CredentialUsage::MayBeInUse; 3]);
        // An end that is shown comes first.
        assert_eq!(
            cell.usage(&made, Some("sk-admin...second")),
            CredentialUsage::InUse
        );
        // A secret that rekeyd works with since then may be that of the credential.
        cell.switch_to(secret("sk-admin-third"), None);
        assert_eq!(usage(&made), [CredentialUsage::MayBeInUse; 3]);
    }

    fn secret(value: &str) -> Secret {
        Secret::new(value.to_owned())
    }

    fn id(text: &str) -> CredentialId {
        CredentialId::new(text.to_owned())
    }

    fn usage(cell: &ActiveCredential, redacted_value: &str) -> CredentialUsage {
        cell.usage(&id("key_listed"), Some(redacted_value))
    }

    /// A second replacement by a person leaves the first one protected.
    #[test]
    fn each_replaced_credential_is_kept_until_it_is_revoked() {
        let cell = ActiveCredential::new();
        let names = ["first", "second", "third"];
        let secrets = names.map(|name| secret(&format!("sk-admin-{name}0{name}")));
        let ids = names.map(|name| id(&format!("key_{name}")));
        for (id, secret) in ids.iter().zip(&secrets) {
            cell.record_created(id, secret, None);
        }
        cell.set(secrets[0].clone());
        cell.give(secrets[1].clone());
        cell.give(secrets[2].clone());
        let usages = || [0, 1, 2].map(|index| cell.usage(&ids[index], None));
        let kept = CredentialUsage::MayBeInUse;
        assert_eq!(usages(), [kept, kept, CredentialUsage::InUse]);
        cell.give(secrets[0].clone());
        assert_eq!(usages(), [CredentialUsage::InUse, kept, kept]);
        cell.forget_revoked(&ids[1]);
        assert_eq!(usages()[1], CredentialUsage::Unused);
        assert_eq!(usages()[2], kept);
    }

    /// The one that a person replaced is kept from the schedule, and one that rekeyd replaces
    /// itself counts before the one that was given.
    #[test]
    fn given_credential_keeps_the_replaced_one_until_force() {
        let cell = ActiveCredential::new();
        let (first, given) = (
            secret("sk-admin-first0first"),
            secret("sk-admin-given0given"),
        );
        cell.record_created(&id("key_first"), &first, None);
        cell.set(first.clone());
        cell.record_same_organization(&given);
        let generation = cell.generation();
        cell.give(given.clone());
        assert_eq!(
            cell.generation(),
            generation,
            "the organization is the same"
        );
        assert!(cell.get().unwrap().same_as(&given));
        assert!(cell.given().unwrap().same_as(&given));
        assert!(cell.previous().unwrap().same_as(&first));
        let usage = || cell.usage(&id("key_first"), Some("sk-admin...first"));
        assert_eq!(usage(), CredentialUsage::MayBeInUse, "only force ends it");

        let made = secret("sk-admin-made00made");
        cell.switch_to(made.clone(), None);
        assert!(cell.given().is_none());
        assert_eq!(usage(), CredentialUsage::MayBeInUse);
        cell.forget_revoked(&id("key_first"));
        assert_eq!(usage(), CredentialUsage::Unused);
        cell.give(made);
        assert_eq!(usage(), CredentialUsage::Unused, "nothing was replaced");
    }

    /// What rekeyd created itself is of the organization that it works with.
    #[test]
    fn generation_changes_with_each_credential_from_elsewhere() {
        let cell = ActiveCredential::new();
        assert_eq!(cell.generation(), 0);
        cell.set(secret("sk-admin-first"));
        cell.set(secret("sk-admin-first"));
        assert_eq!(cell.generation(), 1);
        cell.record_created(&id("key_1"), &secret("sk-admin-created"), None);
        cell.switch_to(secret("sk-admin-created"), None);
        cell.set(secret("sk-admin-first"));
        assert_eq!(cell.generation(), 1);
        cell.set(secret("sk-admin-elsewhere"));
        assert_eq!(cell.generation(), 2);
        // Nothing says that what was created with the former one is of this organization.
        cell.set(secret("sk-admin-created"));
        assert_eq!(cell.generation(), 3);
    }

    /// A number, and an end without a start before its mask, count once the provider shows
    /// the true end of a known secret in this form.
    #[test]
    fn doubtful_ends_prove_nothing_without_a_control() {
        for (other, control) in [
            ("****Wnh6", "****cd3f"),
            ("sk-admin-AbCd...049", "sk-admin-AbC...d3f"),
            ("XXXX-XXXX-ABCD", "XXXX-XXXX-CD3F"),
            ("...k9Ab2", "...cd3f"),
            ("…049", "…d3f"),
            ("a1c4", "cd3f"),
        ] {
            let cell = ActiveCredential::new();
            cell.set(secret("sk-admin-AbCdQ7xcd3f"));
            cell.switch_to(secret("sk-admin-AbCdQ7xcd3f"), None);
            assert_eq!(usage(&cell, other), CredentialUsage::MayBeInUse, "{other}");
            let admin = id("key_admin");
            // A list without the admin key, or with it in another form, shows nothing.
            cell.record_shown(&id("key_listed"), Some(other));
            cell.record_shown(&admin, Some("sk-admin•••cd3f"));
            assert_eq!(usage(&cell, other), CredentialUsage::MayBeInUse, "{other}");
            assert!(!cell.record_shown(&admin, Some(control)), "{control}");
            let known = usage(&cell, other);
            assert_eq!(known, CredentialUsage::Unused, "{other} {control}");
            assert_eq!(usage(&cell, control), CredentialUsage::InUse, "{control}");
        }
        // What came in the answer to its create is a control as well.
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-first0first"));
        let created = secret("sk-admin-created9x7");
        cell.record_created(&id("key_1"), &created, Some("****d9x7"));
        assert_eq!(usage(&cell, "****a1c4"), CredentialUsage::Unused);
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-first0first"));
        cell.record_created(&id("key_1"), &created, None);
        assert_eq!(usage(&cell, "****a1c4"), CredentialUsage::MayBeInUse);
        cell.record_shown(&id("key_1"), Some("****d9x7"));
        assert_eq!(usage(&cell, "****a1c4"), CredentialUsage::Unused);
    }

    /// A list that shows another end of a secret that is known, and works, makes every end
    /// worthless.
    #[test]
    fn listed_end_that_contradicts_a_known_secret_distrusts_all() {
        for (shown, is_distrusted) in [
            ("sk-admin...a1c4", true),
            ("****Wnh6", true),
            ("sk-admin-xxxxa1c4", true),
            ("sk-admin...9x7", false),
            ("SK-ADMIN...9X7", false),
            ("****-d9x7", false),
            ("sk-admin...d9x7-19", false),
            ("sk-admin...", false),
            ("hidden", false),
        ] {
            let cell = ActiveCredential::new();
            cell.set(secret("sk-admin-first0first"));
            let created = secret("sk-admin-created9x7");
            cell.record_created(&id("key_1"), &created, None);
            // The answer may have lied, unless the secret works.
            assert!(!cell.record_shown(&id("key_1"), Some(shown)), "{shown}");
            cell.record_working(&created);
            let is_first = cell.record_shown(&id("key_1"), Some(shown));
            assert_eq!(is_first, is_distrusted, "{shown}");
            assert!(!cell.record_shown(&id("key_1"), Some(shown)), "{shown}");
            let usage = usage(&cell, "sk-admin...b2b");
            let is_unused = usage == CredentialUsage::Unused;
            assert_eq!(is_unused, !is_distrusted, "{shown}");
        }
    }

    #[test]
    fn debug_hides_the_values() {
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-debug-form"));
        let text = format!("{cell:?}");
        assert!(!text.contains("debug-form"), "{text}");
    }

    #[test]
    fn previous_credential_is_held_until_it_is_revoked() {
        let cell = ActiveCredential::new();
        assert!(cell.get().is_none() && cell.previous().is_none() && !cell.is_using_previous());
        assert_eq!(usage(&cell, "sk-admin...one"), CredentialUsage::MayBeInUse);
        cell.set(secret("sk-admin-one"));
        assert_eq!(usage(&cell, "sk-admin...one"), CredentialUsage::InUse);
        assert_eq!(usage(&cell, "sk-admin...two"), CredentialUsage::Unused);
        assert_eq!(usage(&cell, "sk-admin..."), CredentialUsage::MayBeInUse);
        cell.switch_to(secret("sk-admin-two"), Some(id("key_1")));
        assert_eq!(cell.get().unwrap().expose(), "sk-admin-two");
        assert_eq!(cell.previous().unwrap().expose(), "sk-admin-one");
        assert_eq!(usage(&cell, "sk-admin...one"), CredentialUsage::Previous);
        assert_eq!(usage(&cell, "sk-admin...two"), CredentialUsage::InUse);
        assert_eq!(usage(&cell, "sk-admin...ten"), CredentialUsage::Unused);
        assert!(!cell.is_using_previous());
        // The same credential again is no switch.
        cell.switch_to(secret("sk-admin-two"), Some(id("key_2")));
        assert_eq!(cell.previous().unwrap().expose(), "sk-admin-one");
        // rekeyd falls back to the previous one for a while.
        cell.set(secret("sk-admin-one"));
        assert!(cell.is_using_previous());
        cell.set(secret("sk-admin-two"));
        cell.forget_revoked(&id("key_2"));
        assert!(cell.previous().is_some(), "another one was revoked");
        cell.forget_revoked(&id("key_1"));
        assert!(cell.previous().is_none());
        assert_eq!(cell.get().unwrap().expose(), "sk-admin-two");
    }

    #[test]
    fn previous_credential_without_id_is_never_forgotten() {
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-one"));
        cell.switch_to(secret("sk-admin-two"), None);
        cell.forget_revoked(&id("key_1"));
        assert!(cell.previous().is_some());
    }

    /// The answer to the create is known better than any redacted value.
    #[test]
    fn created_secrets_are_compared_themselves() {
        let cell = ActiveCredential::new();
        let (one, two) = (secret("sk-admin-1-end"), secret("sk-admin-2-end"));
        let three = secret("sk-admin-3-end");
        for (number, secret) in [("key_1", &one), ("key_2", &two), ("key_3", &three)] {
            assert!(
                !cell.record_created(&id(number), secret, None),
                "nothing is contradicted"
            );
        }
        cell.set(one);
        cell.switch_to(two, Some(id("key_1")));
        for redacted_value in [None, Some("hidden"), Some("sk-admin...end"), Some("***")] {
            for (number, expected) in [
                ("key_1", CredentialUsage::Previous),
                ("key_2", CredentialUsage::InUse),
                ("key_3", CredentialUsage::Unused),
            ] {
                assert_eq!(
                    cell.usage(&id(number), redacted_value),
                    expected,
                    "{number}"
                );
            }
            let of_another_process = cell.usage(&id("key_4"), redacted_value);
            assert!(
                of_another_process >= CredentialUsage::MayBeInUse,
                "{redacted_value:?}"
            );
        }
    }

    #[test]
    fn secrets_are_known_by_their_origin() {
        let cell = ActiveCredential::new();
        let secrets = ["sk-1", "sk-2", "sk-3", "sk-4", "sk-5"].map(secret);
        cell.set(secrets[0].clone());
        cell.record_own(&secrets[1]);
        for (secret, number) in [(&secrets[2], "key_3"), (&secrets[3], "key_4")] {
            cell.record_created(&id(number), secret, None);
        }
        cell.switch_to(secrets[3].clone(), None);
        let origins = secrets.map(|secret| cell.origin(&secret));
        assert_eq!(
            origins,
            [
                SecretOrigin::Own,
                SecretOrigin::Own,
                SecretOrigin::Created,
                SecretOrigin::Own,
                SecretOrigin::Unknown,
            ]
        );
    }

    #[test]
    fn secrets_are_known_whatever_surrounds_them() {
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-0123456789abcdef"));
        let created = secret("sk-admin-ZYXWVUTSRQPONM");
        cell.record_created(&id("key_1"), &created, None);
        for (text, expected) in [
            ("sk-admin-0123456789ABCDEF", SecretOrigin::Own),
            ("sk-admin-0123456789abcdef ", SecretOrigin::Own),
            ("0123456789abcdef", SecretOrigin::Own),
            ("sk-proj-0123456789abcdef", SecretOrigin::Own),
            ("\tSK-ADMIN-zyxwvutsrqponm", SecretOrigin::Created),
            ("sk-admin-0123456789abcdee", SecretOrigin::Unknown),
        ] {
            assert_eq!(cell.origin(&secret(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn secrets_of_refused_answers_are_known_in_other_texts() {
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-0123456789abcdef"));
        let answered = secret("sk-admin-ZYXWVUTSRQPONM");
        assert!(!cell.is_shown_in("key_ZYXWVUTSRQPONM"));
        cell.record_answered(&answered);
        assert_eq!(cell.origin(&answered), SecretOrigin::Unknown);
        for text in ["key_ZYXWVUTSRQPONM", "key_0123456789abcdef_1"] {
            assert!(cell.is_shown_in(text), "{text}");
        }
        assert!(!cell.is_shown_in("key_0123456789"));
    }

    /// One redacted value that contradicts its secret shows that no other proves
    /// anything.
    #[test]
    fn contradicting_redacted_value_makes_all_of_them_unreliable() {
        let cell = ActiveCredential::new();
        cell.set(secret("sk-admin-one"));
        assert_eq!(usage(&cell, "sk-admin...a1c"), CredentialUsage::Unused);
        let created = secret("sk-admin-two");
        assert!(cell.record_created(&id("key_2"), &created, Some("sk-admin...a1c")));
        assert_eq!(usage(&cell, "sk-admin...a1c"), CredentialUsage::Unused);
        cell.distrust_redacted_values();
        assert_eq!(usage(&cell, "sk-admin...a1c"), CredentialUsage::MayBeInUse);
        assert_eq!(usage(&cell, "sk-admin...one"), CredentialUsage::InUse);
        assert_eq!(cell.usage(&id("key_2"), None), CredentialUsage::Unused);
    }
}
