//! The receiver of the demo and the tests does what a receiver should.

use crate::hook::{Hook, SIGNING, VALUE, parcel};
use rekeyd::core::names::RotationId;
use rekeyd::core::secret::Secret;
use rekeyd::receiver::{Answer, Receiver};
use rekeyd::sink::{Sink as _, Taken};

const OTHER: &str = "whsec_YW5vdGhlci1zaWduaW5nLXNlY3JldC0xMjM0NTY";

async fn started() -> (Receiver, Hook) {
    let receiver = Receiver::start(&Secret::new(SIGNING.to_owned()))
        .await
        .unwrap();
    let hook = Hook::to(&receiver.url());
    (receiver, hook)
}

#[tokio::test]
async fn a_repeat_is_accepted_and_taken_once() {
    let (receiver, hook) = started().await;
    for (answer, wanted) in [
        (Answer::Status(503), Some(Taken::Maybe)),
        (Answer::Close, Some(Taken::Maybe)),
        (Answer::Status(410), Some(Taken::Refused)),
    ] {
        receiver.set_answer(answer);
        let outcome = hook.deliver().await;
        assert_eq!(outcome.err().map(|error| error.taken), wanted, "{answer:?}");
        assert!(receiver.received().is_empty(), "{answer:?}");
    }
    for (answer, wanted) in [
        (Answer::TakeAndStatus(504), Some(Taken::Maybe)),
        (Answer::TakeAndClose, Some(Taken::Maybe)),
        (Answer::Accept, None),
        (Answer::Accept, None),
    ] {
        receiver.set_answer(answer);
        let outcome = hook.deliver().await;
        assert_eq!(outcome.err().map(|error| error.taken), wanted, "{answer:?}");
        let received = receiver.received();
        assert_eq!(received.len(), 1, "{answer:?}");
        assert_eq!(received[0].value, VALUE);
    }
    assert_eq!((receiver.requests(), receiver.rejected()), (7, 0));
}

#[tokio::test]
async fn what_is_not_signed_well_is_rejected() {
    let (receiver, hook) = started().await;
    hook.sign_with(OTHER);
    let error = hook.deliver().await.unwrap_err();
    assert_eq!(error.taken, Taken::Refused);
    assert!(error.message.contains("signing secret"), "{error}");
    assert!(receiver.received().is_empty() && receiver.rejected() == 1);
    // While the secret is changed, both sign.
    hook.sign_with(&format!("{OTHER}\n{SIGNING}"));
    hook.deliver().await.unwrap();
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn what_is_used_is_the_greatest_sequence() {
    let (receiver, hook) = started().await;
    assert_eq!(receiver.applied("billing"), None);
    for (byte, sequence) in [(1, 7), (2, 9), (3, 8)] {
        let mut late = parcel();
        late.rotation = RotationId::new([byte; 8]);
        late.sequence = sequence;
        hook.sink().deliver(&late).await.unwrap();
    }
    let order: Vec<_> = receiver.received().iter().map(|one| one.sequence).collect();
    assert_eq!(order, [7, 9, 8]);
    assert_eq!(receiver.applied("billing").unwrap().sequence, 9);
    assert_eq!(receiver.applied("other"), None);
}
