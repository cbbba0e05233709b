//! The contract of a provider, tested on the HTTP adapter against the sandbox.

use std::time::Duration;

use crate::adapter::{adapter, adapter_with, credential_with};
use rekeyd::core::active_credential::ActiveCredential;
use rekeyd::core::gate::RequestClass;
use rekeyd::core::ids::{Label, ProjectId};
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::Secret;
use rekeyd::provider::openai::OpenAiProvider;
use rekeyd::provider::{Effect, ErrorKind, Provider, RetryAdvice};
use rekeyd::sandbox::{
    ADMIN_KEY_NAME, ApiOperation, Fault, PropagationDelays, Sandbox, SandboxOptions,
};

fn label(text: &str) -> Label {
    Label::from_recorded(text.to_owned())
}

async fn subject(options: SandboxOptions) -> (Sandbox, OpenAiProvider) {
    let sandbox = Sandbox::start(options).await.unwrap();
    let cell = credential_with(sandbox.admin_key().expose());
    let provider = adapter_with(&sandbox.base_url(), Duration::from_secs(10), cell);
    (sandbox, provider)
}

mod over_http {
    use super::{SandboxOptions, subject};

    crate::provider_contract::every_obligation!(tokio::test, subject(SandboxOptions::default()));
}

fn fault(text: &str) -> Vec<Fault> {
    vec![Fault::parse(text).unwrap()]
}

/// Each fault of a create leads to one error of the adapter and one effect in the
/// sandbox.
#[tokio::test]
async fn each_create_fault_maps_to_its_error() {
    use Effect::{NotApplied, Unknown};
    use ErrorKind as C;
    let second = Duration::from_secs(1);
    let (sandbox, provider) = subject(SandboxOptions::default()).await;
    for (kind, cause, outcome, made) in [
        ("drop-before", C::NoAnswer, Unknown, 0),
        ("drop-after", C::NoAnswer, Unknown, 1),
        ("500-before", C::ServerError, Unknown, 0),
        ("500-after", C::ServerError, Unknown, 1),
        ("429", C::RateLimited, NotApplied, 0),
        ("quota", C::QuotaExhausted, NotApplied, 0),
        ("refused", C::ScopeRefused, NotApplied, 0),
        ("garbage", C::BadAnswer, Unknown, 1),
        ("html", C::BadAnswer, Unknown, 0),
        ("401-scope", C::Forbidden, NotApplied, 0),
    ] {
        sandbox.set_faults(fault(&format!("create:{kind}:1")));
        let name = label(kind);
        let sent = sandbox.requests(ApiOperation::Create);
        let error = provider.create(&name, None).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (cause, outcome), "{error}");
        assert_eq!(error.kind.is_outage(), outcome == Unknown, "{error}");
        assert_eq!(error.class, RequestClass::Create, "{error}");
        assert_eq!(sandbox.requests(ApiOperation::Create), sent + 1, "{kind}");
        let found = provider
            .find(&Scope::AdminKeys, &name)
            .await
            .unwrap()
            .value
            .len();
        assert_eq!(found, made, "{kind}");
        if kind == "429" {
            assert_eq!(error.retry, RetryAdvice::Later(Some(second)));
        }
        if !kind.starts_with("drop") && kind != "html" {
            assert!(error.request_id.unwrap().starts_with("req_"), "{kind}");
        }
    }
}

/// A repeated request is harmless for these faults.
#[tokio::test]
async fn delete_can_be_repeated_after_a_lost_response() {
    let (sandbox, provider) = subject(SandboxOptions::default()).await;
    for (kind, is_done) in [
        ("drop-before", false),
        ("drop-after", true),
        ("500-before", false),
        ("500-after", true),
        ("garbage", true),
        ("html", false),
        ("401-scope", false),
    ] {
        let made = provider.create(&label(kind), None).await.unwrap().value;
        let id = &made.metadata.id;
        let is_live = || sandbox.live_keys().iter().any(|key| key.id == id.as_str());
        sandbox.set_faults(fault(&format!("any:{kind}:1")));
        provider.delete(id).await.unwrap_err();
        assert_eq!(is_live(), !is_done, "{kind}");
        provider.retrieve(id).await.unwrap_err();
        sandbox.set_faults(Vec::new());
        provider.delete(id).await.unwrap();
        assert!(!is_live(), "{kind}");
    }
}

#[tokio::test]
async fn a_slow_response_is_awaited() {
    let slow_for = Duration::from_millis(50);
    let (sandbox, provider) = subject(SandboxOptions {
        faults: fault("create:slow:1"),
        slow_reply_delay: slow_for,
        ..SandboxOptions::default()
    })
    .await;
    let started = std::time::Instant::now();
    provider.create(&label("slow"), None).await.unwrap();
    assert!(started.elapsed() >= slow_for);
    assert_eq!(sandbox.live_keys().len(), 2);
}

#[tokio::test]
async fn a_late_create_completes_after_its_connection_broke() {
    let options = SandboxOptions {
        late_create_delay: Duration::from_millis(50),
        faults: fault("create:late:1"),
        ..SandboxOptions::default()
    };
    let (_sandbox, provider) = subject(options).await;
    let error = provider.create(&label("late"), None).await.unwrap_err();
    assert_eq!(error.effect, Effect::Unknown);
    let landed = async {
        while provider
            .find(&Scope::AdminKeys, &label("late"))
            .await
            .unwrap()
            .value
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), landed)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hanging_response_times_out() {
    let (sandbox, provider) = subject(SandboxOptions {
        faults: fault("any:hang:1"),
        ..SandboxOptions::default()
    })
    .await;
    let cell = credential_with(sandbox.admin_key().expose());
    let hasty = adapter_with(&sandbox.base_url(), Duration::from_millis(100), cell);
    let error = hasty.create(&label("hangs"), None).await.unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::NoAnswer, Effect::Unknown)
    );
    assert!(!error.to_string().contains("http://"), "{error}");
    sandbox.set_faults(Vec::new());
    let found = provider
        .find(&Scope::AdminKeys, &label("hangs"))
        .await
        .unwrap()
        .value;
    assert_eq!(found.len(), 1, "it was done, and nobody heard");
}

#[tokio::test]
async fn a_stale_list_misses_the_last_change() {
    let (sandbox, provider) = subject(SandboxOptions::default()).await;
    let fresh = label("fresh");
    let found_count = async || {
        provider
            .find(&Scope::AdminKeys, &fresh)
            .await
            .unwrap()
            .value
            .len()
    };
    let made = provider.create(&fresh, None).await.unwrap().value;
    sandbox.set_faults(fault("list:stale-list:1"));
    assert_eq!(found_count().await, 0);
    sandbox.set_faults(Vec::new());
    assert_eq!(found_count().await, 1);
    provider.delete(&made.metadata.id).await.unwrap();
    sandbox.set_faults(fault("list:stale-list:1"));
    assert_eq!(found_count().await, 1);
    sandbox.set_faults(Vec::new());
    assert_eq!(found_count().await, 0);
}

#[tokio::test]
async fn a_closed_port_proves_that_nothing_was_applied() {
    // The port is bound, so that no other process gets it, and not listened on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let provider = adapter(&format!("http://127.0.0.1:{port}/v1").parse().unwrap());
    let error = provider.create(&label("none"), None).await.unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Unreachable, Effect::NotApplied)
    );
}

#[tokio::test]
async fn the_credential_is_read_at_each_request() {
    let (sandbox, _) = subject(SandboxOptions::default()).await;
    let cell = ActiveCredential::new();
    let provider = adapter_with(&sandbox.base_url(), Duration::from_secs(5), cell.clone());
    let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoCredential);
    cell.set(Secret::new("sk-admin-wrong".to_owned()));
    let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CredentialRefused);
    cell.set(sandbox.admin_key());
    assert_eq!(
        provider.list(&Scope::AdminKeys).await.unwrap().value.len(),
        1
    );
    cell.set(Secret::new("two\nlines-of-it".to_owned()));
    let error = provider.list(&Scope::AdminKeys).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CredentialRefused);
}

#[tokio::test]
async fn a_fresh_secret_may_be_refused_for_a_while() {
    let delays = PropagationDelays {
        new_key: Duration::from_secs(3600),
        deleted_key: Duration::from_secs(3600),
    };
    let (sandbox, provider) = subject(SandboxOptions {
        delays,
        ..SandboxOptions::default()
    })
    .await;
    let made = provider.create(&label("fresh"), None).await.unwrap().value;
    let error = provider.verify(&made.secret.unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CredentialRefused);
    let own = &sandbox.live_keys()[0];
    assert_eq!(own.name, ADMIN_KEY_NAME);
    assert!(sandbox.delete_manually(&own.id));
    assert!(sandbox.accepts(sandbox.admin_key().expose()));
}

/// A ledger that a later version wrote may record projects.
#[tokio::test]
async fn a_project_is_refused_and_not_taken_for_the_admin_keys() {
    let (sandbox, provider) = subject(SandboxOptions::default()).await;
    let project = Scope::Project(ProjectId::new("proj_abc"));
    let error = provider.list(&project).await.unwrap_err();
    assert_eq!(
        (error.kind, error.effect, error.retry),
        (ErrorKind::Refused, Effect::NotApplied, RetryAdvice::Never)
    );
    assert!(error.to_string().contains("proj_abc"), "{error}");
    provider.find(&project, &label("any")).await.unwrap_err();
    assert_eq!(sandbox.requests(ApiOperation::List), 0);
}
