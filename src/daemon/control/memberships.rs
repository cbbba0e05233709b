//! Whether the users at the control socket belong to the configured groups, as the host's name
//! service knows it.
//!
//! Each answer is kept for a minute. The name service is asked on a thread of its own, so that
//! one that hangs delays nobody but the users about whom it was asked. Without its answer, a
//! user has no right that only this group gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::platform::name_service::{self, LookupError, PATIENCE};
use crate::platform::{run_blocking, users};

/// How long an answer is kept, and the time between two lines of the log about one that did not
/// come.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The number of answers after which those that are too old are dropped.
const MAX_ANSWERS: usize = 256;

/// What the name service is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    /// The groups of a user.
    GroupsOf(u32),
    /// The group with a name.
    GroupNamed(String),
}

/// The groups in an answer, for as long as they count.
#[derive(Debug, Clone)]
struct KnownGroups {
    groups: Arc<BTreeSet<u32>>,
    ends_at: Instant,
}

/// The answer to a question, behind the lock of those who ask it.
type SharedAnswer = Arc<tokio::sync::Mutex<Option<KnownGroups>>>;

/// The answers of the name service.
#[derive(Default)]
pub(super) struct Memberships {
    answers: Mutex<BTreeMap<Question, SharedAnswer>>,
    warned_at: Mutex<Option<Instant>>,
}

impl Memberships {
    /// Returns whether a user with this primary group belongs to one of `groups`, names or
    /// numbers.
    pub(super) async fn is_member(&self, user: u32, primary: u32, groups: &[String]) -> bool {
        let mut numbers = BTreeSet::new();
        for group in groups {
            match users::find_group(group) {
                Ok(number) => {
                    numbers.insert(number.as_raw());
                }
                // A group that only the name service has.
                Err(_) => {
                    let named = Question::GroupNamed(group.clone());
                    numbers.extend(self.groups_in(named).await.iter());
                }
            }
        }
        if numbers.is_empty() || numbers.contains(&primary) {
            return !numbers.is_empty();
        }
        let own = self.groups_in(Question::GroupsOf(user)).await;
        !own.is_disjoint(&numbers)
    }

    /// Returns the groups in the answer to a question, none without an answer.
    async fn groups_in(&self, question: Question) -> Arc<BTreeSet<u32>> {
        let shared = self.answer_to(&question);
        // Who asks the same waits for the same answer.
        let mut answer = shared.lock().await;
        if let Some(known) = answer
            .as_ref()
            .filter(|known| known.ends_at > Instant::now())
        {
            return Arc::clone(&known.groups);
        }
        let groups = Arc::new(self.ask(question).await);
        *answer = Some(KnownGroups {
            groups: Arc::clone(&groups),
            ends_at: Instant::now() + KEPT_FOR,
        });
        groups
    }

    fn answer_to(&self, question: &Question) -> SharedAnswer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_ANSWERS {
            let now = Instant::now();
            answers.retain(|_, shared| match shared.try_lock() {
                Ok(answer) => answer.as_ref().is_some_and(|known| known.ends_at > now),
                // It is being asked.
                Err(_) => true,
            });
        }
        Arc::clone(answers.entry(question.clone()).or_default())
    }

    async fn ask(&self, question: Question) -> BTreeSet<u32> {
        let describe = || "asking the name service".to_owned();
        let asked = question.clone();
        let work = move || match asked {
            Question::GroupsOf(user) => name_service::groups_of(user),
            Question::GroupNamed(name) => {
                name_service::group_number(&name).map(|number| number.into_iter().collect())
            }
        };
        // Two programs have that time together.
        let problem = match run_blocking(describe, PATIENCE * 3, work).await {
            Ok(Ok(groups)) => return groups,
            // A container without these programs, or with those of busybox, has no name service
            // either.
            Ok(Err(LookupError::NoProgram { .. } | LookupError::NoNumbers { .. })) => {
                return local_groups(&question);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.warn(&question, &problem);
        BTreeSet::new()
    }

    fn warn(&self, question: &Question, problem: &str) {
        let mut warned_at = self
            .warned_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if warned_at.is_some_and(|at| at.elapsed() < KEPT_FOR) {
            return;
        }
        *warned_at = Some(Instant::now());
        let unknown = match question {
            Question::GroupsOf(user) => {
                format!("which groups {} has", users::describe_user(*user))
            }
            Question::GroupNamed(name) => format!("which number the group {name} has"),
        };
        tracing::warn!(
            "the host's name service did not say {unknown}, so who has rights by a group alone has \
             none at the control socket: {problem}; hint: check the services in /etc/nsswitch.conf"
        );
    }
}

/// Answers a question by the files of this host.
fn local_groups(question: &Question) -> BTreeSet<u32> {
    match question {
        Question::GroupsOf(user) => users::local_groups_of(*user),
        Question::GroupNamed(_) => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn primary_group_and_numbers_count_without_the_name_service() {
        let memberships = Memberships::default();
        for (primary, groups, expected) in [
            (4_711, &["4711"][..], true),
            (0, &["root"], true),
            (4_711, &[], false),
        ] {
            let groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
            let found = memberships.is_member(4_000_000_017, primary, &groups).await;
            assert_eq!(found, expected, "{primary} {groups:?}");
        }
        assert!(memberships.answers.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn answers_are_kept_and_unknown_groups_give_nothing() {
        let memberships = Memberships::default();
        let groups = ["no-such-group-here".to_owned(), "0".to_owned()];
        // Root has its group by the name service, and nobody else here does.
        assert!(memberships.is_member(0, 4_711, &groups).await);
        assert!(!memberships.is_member(4_000_000_017, 4_711, &groups).await);
        let asked = memberships.answers.lock().unwrap().len();
        assert_eq!(asked, 3);
        assert!(memberships.is_member(0, 4_711, &groups).await);
        assert_eq!(memberships.answers.lock().unwrap().len(), asked);
    }
}
