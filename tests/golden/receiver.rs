//! A webhook receiver that records its requests, and answers with the status that a
//! scenario sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::{Map, Value, json};

use crate::function_server;

/// The signing secret of every webhook.
pub(crate) const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The bearer token of the webhooks that have one.
pub(crate) const BEARER_TOKEN: &str = "token-of-the-golden-files";

/// The status that delays the response until another status is set.
pub(crate) const NO_ANSWER: u16 = 0;

/// The receiver, which lives as long as the process.
pub(crate) struct Receiver {
    /// Its URL, without a final slash.
    pub(crate) url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The status of each path, by default 204.
    statuses: BTreeMap<String, u16>,
    received: Vec<Webhook>,
}

/// One received request.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) path: String,
    pub(crate) body: Value,
    method: String,
    headers: BTreeMap<String, String>,
    is_signed: bool,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let answer = move |request: &function_server::ServedRequest| {
            let mut state = served.state.lock().unwrap();
            state.received.push(Webhook::of(request));
            served.changed.notify_all();
            loop {
                let status = state.statuses.get(&request.path).copied().unwrap_or(204);
                if status != NO_ANSWER {
                    return (status, String::new());
                }
                state = served.changed.wait(state).unwrap();
            }
        };
        Self {
            url: function_server::serve_with(answer, || "Tue, 24 Nov 2026 03:00:00 GMT".to_owned()),
            shared,
        }
    }

    /// Answers requests to `path` with `status` from now on, including the delayed ones.
    pub(crate) fn answer(&self, path: &str, status: u16) {
        let mut state = self.shared.state.lock().unwrap();
        state.statuses.insert(path.to_owned(), status);
        self.shared.changed.notify_all();
    }

    /// Returns the requests to `path`.
    pub(crate) fn received(&self, path: &str) -> Vec<Webhook> {
        let state = self.shared.state.lock().unwrap();
        let received = state.received.iter();
        received
            .filter(|webhook| webhook.path == path)
            .cloned()
            .collect()
    }
}

impl Webhook {
    fn of(request: &function_server::ServedRequest) -> Self {
        let headers: BTreeMap<_, _> = request
            .headers()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            path: request.path.clone(),
            body: serde_json::from_str(&request.body).unwrap(),
            method: request.method.clone(),
            is_signed: is_signed(&headers, &request.body),
            headers,
        }
    }

    /// Returns the whole request, with its checked signature replaced by a word.
    pub(crate) fn to_value(&self) -> Value {
        let headers: Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| {
                let value = match name.as_str() {
                    "webhook-signature" if self.is_signed => {
                        "v1,<HMAC-SHA256 of id.timestamp.body in base64>".to_owned()
                    }
                    "webhook-timestamp" => {
                        assert!(value.parse::<u64>().is_ok(), "{value}");
                        "<unix time>".to_owned()
                    }
                    "content-length" => "<length>".to_owned(),
                    _ => value.clone(),
                };
                (name.clone(), Value::String(value))
            })
            .collect();
        json!({
            "method": self.method, "path": self.path, "headers": headers, "body": self.body,
        })
    }
}

fn is_signed(headers: &BTreeMap<String, String>, body: &str) -> bool {
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let secret = SIGNING_SECRET.strip_prefix("whsec_").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(secret).unwrap());
    let signed = format!(
        "{}.{}.{body}",
        header("webhook-id"),
        header("webhook-timestamp")
    );
    let signature = hmac::sign(&key, signed.as_bytes());
    header("webhook-signature") == format!("v1,{}", BASE64_STANDARD.encode(signature.as_ref()))
}
