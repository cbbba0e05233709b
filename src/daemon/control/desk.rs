//! Requests that are being done: handed to the engine, and answered when it is
//! through with them. The same for a running daemon and for a command that
//! does the work itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::change::ByHand;
use crate::core::names::{CredentialId, KeyName};
use crate::core::record::KeyState;
use crate::core::{duration, outside, time};
use crate::daemon::control::wire::{Answer, Outcome, Request};
use crate::engine::order::{self, Order};
use crate::engine::{Engine, Wish};

/// How long an order may take: a few requests with their timeouts.
const ORDER_LIMIT: Duration = Duration::from_secs(300);

/// How long the ledger may take to tell whose a credential is: everybody waits.
const LEDGER_LIMIT: Duration = Duration::from_secs(10);

/// A request, who made it, and who waits for its answer.
pub struct Job {
    /// What is asked.
    pub request: Request,
    /// Who asks, for the journal.
    pub by: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// The requests that are being done.
#[derive(Default)]
pub(crate) struct Desk {
    open: Vec<Open>,
    /// The keys of which somebody who did not wait was told that they are
    /// rotated.
    promised: BTreeSet<KeyName>,
}

struct Open {
    parts: Vec<Part>,
    promised: Vec<KeyName>,
    done: Vec<Outcome>,
    reply: oneshot::Sender<Answer>,
}

/// What a request asks of one key.
struct Part {
    about: String,
    waits: Waits,
    until: Instant,
    limit: Duration,
}

enum Waits {
    /// For a rotation with a greater sequence.
    Rotation { key: KeyName, before: u64 },
    /// For what becomes of an order.
    Order {
        answer: oneshot::Receiver<Result<String, String>>,
        begun: Arc<AtomicBool>,
    },
}

/// Which keys a request is for.
enum Keys {
    All,
    These(Vec<KeyName>),
}

impl Desk {
    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Hands a request to the engine. [`Request::Reload`] is not its matter.
    pub(crate) async fn take(&mut self, job: Job, engine: &mut Engine) {
        let Job { request, by, reply } = job;
        let mut open = Open {
            parts: Vec::new(),
            promised: Vec::new(),
            done: Vec::new(),
            reply,
        };
        open.begin(request, by, engine).await;
        self.promised.extend(open.promised.drain(..));
        self.open.push(open);
        self.answer(engine);
    }

    /// Answers what is done.
    pub(crate) fn answer(&mut self, engine: &mut Engine) {
        let looked = self.open.iter_mut().flat_map(|open| open.look(engine));
        let given_up: Vec<_> = looked.collect();
        self.promised.retain(|key| engine.is_wished(key));
        for key in given_up {
            let is_wanted = self.open.iter().any(|open| open.waits_for(&key));
            // What was told as not done is not done later.
            if !is_wanted && !self.promised.contains(&key) {
                engine.unwish(&key);
            }
        }
        for open in self.open.extract_if(.., |open| open.parts.is_empty()) {
            open.close();
        }
    }

    /// Answers everybody who still waits: the engine stops.
    pub(crate) fn close(&mut self, engine: &mut Engine, why: &str) {
        self.answer(engine);
        for mut open in std::mem::take(&mut self.open) {
            for part in std::mem::take(&mut open.parts) {
                open.done.push(Outcome {
                    about: part.about,
                    done: false,
                    message: why.to_owned(),
                });
            }
            open.close();
        }
    }
}

impl Open {
    async fn begin(&mut self, request: Request, by: String, engine: &mut Engine) {
        // It is kept in the ledger, and a person may have pasted anything.
        let by_hand = |reason: Option<String>| {
            let reason = reason.map(|reason| outside::shown(&reason));
            Some(ByHand { reason, by })
        };
        match request {
            Request::Rotate {
                keys,
                all,
                revoke_previous_now,
                no_wait,
                reason,
            } => {
                let wish = Wish {
                    by_hand: by_hand(reason),
                    revoke_previous: revoke_previous_now,
                };
                if let Some(keys) = self.keys(&keys, all) {
                    self.rotate(keys, &wish, no_wait, engine);
                }
            }
            Request::Pause {
                keys,
                all,
                until,
                reason,
            } => {
                let by_hand = by_hand(reason);
                if let (Some(keys), Some(until)) = (self.keys(&keys, all), self.time(until)) {
                    self.order_all(keys, &Order::Pause { until, by_hand }, engine);
                }
            }
            Request::Resume { keys, all, reason } => {
                let by_hand = by_hand(reason);
                if let Some(keys) = self.keys(&keys, all) {
                    self.order_all(keys, &Order::Resume { by_hand }, engine);
                }
            }
            Request::Revoke {
                credential_id,
                force,
                reason,
            } => {
                let credential = CredentialId::new(credential_id);
                let order = Order::Revoke {
                    credential: credential.clone(),
                    force,
                    by_hand: by_hand(reason),
                };
                self.order_for(&credential, order, engine).await;
            }
            Request::Hold {
                what,
                until,
                reason,
            } => {
                let by_hand = by_hand(reason);
                if let Some(until) = self.time(until) {
                    let until = Some(until.unwrap_or(Timestamp::MAX));
                    self.hold(what, until, by_hand, engine).await;
                }
            }
            Request::Release { what, reason } => {
                self.hold(what, None, by_hand(reason), engine).await;
            }
            Request::Adopt {
                key,
                credential_id,
                reason,
            } => {
                let order = Order::Adopt {
                    credential: CredentialId::new(credential_id),
                    by_hand: by_hand(reason),
                };
                if let Some(keys) = self.keys(&[key], false) {
                    self.order_all(keys, &order, engine);
                }
            }
            Request::Reload => self.refuse("reload", "nothing runs here that could reload"),
        }
    }

    /// The keys that are asked for; none, and a refusal, if they are no names.
    fn keys(&mut self, names: &[String], all: bool) -> Option<Keys> {
        match (names, all) {
            ([], true) => return Some(Keys::All),
            ([], false) => self.refuse("keys", "name the keys, or ask for all"),
            (_, true) => self.refuse("keys", "name the keys or ask for all, not both"),
            (names, false) => {
                let mut keys = Vec::new();
                for name in names {
                    match KeyName::new(name) {
                        Ok(key) if keys.contains(&key) => {}
                        Ok(key) => keys.push(key),
                        Err(error) => self.refuse(name, &format!("{name:?} is no key: {error}")),
                    }
                }
                return Some(Keys::These(keys));
            }
        }
        None
    }

    /// A time, if one was given; none, and a refusal, if it is no time.
    fn time(&mut self, text: Option<String>) -> Option<Option<Timestamp>> {
        let Some(text) = text else {
            return Some(None);
        };
        match time::from_text(&text) {
            Ok(at) => Some(Some(at)),
            Err(_) => {
                let why = format!("{text:?} is no time; one such as 2026-12-01T00:00:00Z is");
                self.refuse("until", &why);
                None
            }
        }
    }

    fn rotate(&mut self, keys: Keys, wish: &Wish, no_wait: bool, engine: &mut Engine) {
        let keys = match keys {
            Keys::These(keys) => keys,
            Keys::All => {
                // That also says that the organization is the right one.
                engine.wish_all(wish);
                engine.configured()
            }
        };
        for key in keys {
            let before = engine.current_sequence(&key);
            let Some(limit) = engine.deliver_for(&key) else {
                self.unknown(&key, engine);
                continue;
            };
            engine.wish(&key, wish.clone());
            if no_wait {
                self.done(key.as_str(), format!("{key} is rotated now"));
                self.promised.push(key);
            } else {
                self.wait(key.to_string(), Waits::Rotation { key, before }, limit);
            }
        }
    }

    async fn hold(
        &mut self,
        what: String,
        until: Option<Timestamp>,
        by_hand: Option<ByHand>,
        engine: &mut Engine,
    ) {
        // A credential's id has an underscore, and a key's name cannot.
        if let Ok(key) = KeyName::new(&what) {
            let order = Order::Hold {
                credential: None,
                until,
                by_hand,
            };
            self.order_all(Keys::These(vec![key]), &order, engine);
            return;
        }
        let credential = CredentialId::new(what);
        let order = Order::Hold {
            credential: Some(credential.clone()),
            until,
            by_hand,
        };
        self.order_for(&credential, order, engine).await;
    }

    /// An order for the key that a credential belongs to. A ledger that does
    /// not tell is one request's trouble, and the daemon goes on.
    async fn order_for(&mut self, credential: &CredentialId, order: Order, engine: &mut Engine) {
        let found = tokio::time::timeout(LEDGER_LIMIT, engine.key_of(credential)).await;
        let why = match found {
            Ok(Ok(Some(key))) => {
                self.order(credential.as_str(), &key, order, engine);
                return;
            }
            Ok(Ok(None)) => format!(
                "{credential} is not in this ledger; `rekeyd audit` shows what the provider has"
            ),
            Ok(Err(error)) => format!("not done: {error}; try again when that has passed"),
            Err(_) => format!(
                "not done: the ledger did not answer within {}; see whether its disk hangs",
                duration::to_text(LEDGER_LIMIT)
            ),
        };
        self.refuse(credential.as_str(), &why);
    }

    fn order_all(&mut self, keys: Keys, order: &Order, engine: &mut Engine) {
        let keys = match keys {
            Keys::These(keys) => keys,
            Keys::All => engine.configured(),
        };
        for key in keys {
            self.order(key.as_str(), &key, order.clone(), engine);
        }
    }

    fn order(&mut self, about: &str, key: &KeyName, order: Order, engine: &mut Engine) {
        let (reply, answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let asked = order::Asked {
            order,
            begun: Arc::clone(&begun),
            reply,
        };
        if engine.order(key, asked) {
            self.wait(
                about.to_owned(),
                Waits::Order { answer, begun },
                ORDER_LIMIT,
            );
        } else {
            self.unknown(key, engine);
        }
    }

    fn wait(&mut self, about: String, waits: Waits, limit: Duration) {
        self.parts.push(Part {
            about,
            waits,
            until: Instant::now() + limit,
            limit,
        });
    }

    fn unknown(&mut self, key: &KeyName, engine: &Engine) {
        let names: Vec<_> = engine.configured().iter().map(KeyName::to_string).collect();
        let why = format!(
            "no key {key} is configured; there are: {}",
            names.join(", ")
        );
        self.refuse(key.as_str(), &why);
    }

    fn refuse(&mut self, about: &str, why: &str) {
        self.push(about, false, why.to_owned());
    }

    fn done(&mut self, about: &str, what: String) {
        self.push(about, true, what);
    }

    fn push(&mut self, about: &str, done: bool, message: String) {
        self.done.push(Outcome {
            about: about.to_owned(),
            done,
            message,
        });
    }

    /// Answers what is done. Gives the keys whose rotation is not waited for any
    /// more.
    fn look(&mut self, engine: &Engine) -> Vec<KeyName> {
        let mut given_up = Vec::new();
        for mut part in std::mem::take(&mut self.parts) {
            match part.outcome(engine) {
                Some(Ok(message)) => self.push(&part.about, true, message),
                Some(Err(message)) => {
                    self.push(&part.about, false, message);
                    if let Waits::Rotation { key, .. } = part.waits {
                        given_up.push(key);
                    }
                }
                None => self.parts.push(part),
            }
        }
        given_up
    }

    /// Whether a rotation of `key` is waited for.
    fn waits_for(&self, key: &KeyName) -> bool {
        self.parts.iter().any(|part| match &part.waits {
            Waits::Rotation { key: wanted, .. } => wanted == key,
            Waits::Order { .. } => false,
        })
    }

    fn close(self) {
        // Whoever asked may have gone.
        let _ = self.reply.send(Answer {
            outcomes: self.done,
        });
    }
}

impl Part {
    fn outcome(&mut self, engine: &Engine) -> Option<Result<String, String>> {
        let outcome = match &mut self.waits {
            Waits::Rotation { key, before } => rotated(engine, key, *before),
            Waits::Order { answer, .. } => match answer.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => {
                    Some(Err("the engine dropped it; report this".to_owned()))
                }
            },
        };
        let is_over = || Instant::now() >= self.until;
        outcome.or_else(|| is_over().then(|| self.over(engine)).flatten())
    }

    /// What is told when the time is over: of what has begun never that it is
    /// not done.
    fn over(&self, engine: &Engine) -> Option<Result<String, String>> {
        let limit = duration::to_text(self.limit);
        match &self.waits {
            Waits::Rotation { key, .. } if !engine.is_wished(key) => Some(Err(format!(
                "{key} was not delivered within {limit}; `rekeyd status {key}` shows what becomes \
                 of it"
            ))),
            // It ends by the time limits of what it asks.
            Waits::Order { begun, .. } if begun.load(Ordering::Relaxed) => None,
            Waits::Rotation { .. } | Waits::Order { .. } => {
                Some(Err(format!("not done within {limit}")))
            }
        }
    }
}

/// What became of a wished rotation; none while that is open.
fn rotated(engine: &Engine, key: &KeyName, before: u64) -> Option<Result<String, String>> {
    let state = engine.state(key)?;
    let of_all = engine.problems().into_iter().next();
    // What cannot even be begun is told, and not waited for.
    if engine.is_wished(key) && of_all.is_none() || state.open().is_some() {
        return None;
    }
    if state
        .current()
        .is_some_and(|current| current.sequence > before)
    {
        return Some(Ok(format!("{key}: rotated{}", kept(engine, state))));
    }
    let problem = of_all.map(|(_, problem)| problem);
    let problem = problem.or_else(|| state.problem.clone());
    let problem = problem.unwrap_or_else(|| "its rotation did not end".to_owned());
    Some(Err(format!("{key} was not rotated: {problem}")))
}

/// A warning of what was to go with the rotation and is held.
fn kept(engine: &Engine, state: &KeyState) -> String {
    let now = engine.now();
    let live = state.live.iter();
    let kept = live.filter(|one| one.revoke_now && one.hold_until.is_some_and(|until| until > now));
    let ids: Vec<_> = kept
        .filter_map(|one| one.credential.as_ref())
        .map(|facts| facts.id.as_str())
        .collect();
    if ids.is_empty() {
        return String::new();
    }
    format!(
        "\nwarning: {} stays until its hold is over; `rekeyd release {}` ends it",
        ids.join(", "),
        state.key
    )
}
