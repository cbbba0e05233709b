//! The receiver of the demo and of the tests behaves as a receiver should.

use crate::webhook_fixture::{SECRET_VALUE, SIGNING_SECRET, WebhookFixture, payload};
use rekeyd::core::ids::RotationId;
use rekeyd::core::secret::Secret;
use rekeyd::sandbox::receiver::{Receiver, ReceiverMode};
use rekeyd::sink::{Acceptance, Sink as _};

const OTHER_SIGNING_SECRET: &str = "whsec_YW5vdGhlci1zaWduaW5nLXNlY3JldC0xMjM0NTY";

async fn start_receiver() -> (Receiver, WebhookFixture) {
    let receiver = Receiver::start(&Secret::new(SIGNING_SECRET.to_owned()))
        .await
        .unwrap();
    let hook = WebhookFixture::new(&receiver.url());
    (receiver, hook)
}

#[tokio::test]
async fn repeated_webhook_is_applied_once() {
    let (receiver, hook) = start_receiver().await;
    for (answer, expected) in [
        (
            ReceiverMode::RejectWithStatus(503),
            Some(Acceptance::Uncertain),
        ),
        (ReceiverMode::Close, Some(Acceptance::Uncertain)),
        (
            ReceiverMode::RejectWithStatus(410),
            Some(Acceptance::Rejected),
        ),
    ] {
        receiver.set_mode(answer);
        let outcome = hook.deliver().await;
        assert_eq!(
            outcome.err().map(|error| error.acceptance),
            expected,
            "{answer:?}"
        );
        assert!(receiver.received().is_empty(), "{answer:?}");
    }
    for (answer, expected) in [
        (
            ReceiverMode::AcceptWithStatus(504),
            Some(Acceptance::Uncertain),
        ),
        (ReceiverMode::AcceptAndClose, Some(Acceptance::Uncertain)),
        (ReceiverMode::Accept, None),
        (ReceiverMode::Accept, None),
    ] {
        receiver.set_mode(answer);
        let outcome = hook.deliver().await;
        assert_eq!(
            outcome.err().map(|error| error.acceptance),
            expected,
            "{answer:?}"
        );
        let received = receiver.received();
        assert_eq!(received.len(), 1, "{answer:?}");
        assert_eq!(received[0].value, SECRET_VALUE);
    }
    assert_eq!((receiver.requests(), receiver.rejected()), (7, 0));
}

#[tokio::test]
async fn invalid_signature_is_rejected() {
    let (receiver, hook) = start_receiver().await;
    hook.sign_with(OTHER_SIGNING_SECRET);
    let error = hook.deliver().await.unwrap_err();
    assert_eq!(error.acceptance, Acceptance::Rejected);
    assert!(error.message.contains("signing secret"), "{error}");
    assert!(receiver.received().is_empty() && receiver.rejected() == 1);
    // While the signing secret changes, both secrets sign.
    hook.sign_with(&format!("{OTHER_SIGNING_SECRET}\n{SIGNING_SECRET}"));
    hook.deliver().await.unwrap();
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn greatest_sequence_is_applied() {
    let (receiver, hook) = start_receiver().await;
    assert_eq!(receiver.applied("billing"), None);
    for (byte, sequence) in [(1, 7), (2, 9), (3, 8)] {
        let mut late = payload();
        late.rotation = RotationId::new([byte; 8]);
        late.sequence = sequence;
        hook.sink().deliver(&late).await.unwrap();
    }
    let order: Vec<_> = receiver
        .received()
        .iter()
        .map(|webhook| webhook.sequence)
        .collect();
    assert_eq!(order, [7, 9, 8]);
    assert_eq!(receiver.applied("billing").unwrap().sequence, 9);
    assert_eq!(receiver.applied("other"), None);
}
