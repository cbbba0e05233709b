//! Removes archived rotations from the ledger, beside the event loop: a batch is one commit of
//! the ledger's writer, and no key waits for it.

use jiff::Timestamp;

use crate::core::change::OperatorNote;
use crate::core::ids::RotationId;
use crate::core::plural::counted;
use crate::core::{redact, time};
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, RequestOutcome};
use crate::daemon::control::tracker::IncomingRequest;
use crate::ledger::{ArchiveStamp, ArchivedRotation, Ledger, PruneBatch, PrunedRows};

/// What the outcome of a batch is about; that of a rotation that stays is about its id.
pub(crate) const ABOUT: &str = "ledger";

/// The greatest number of rotations in one request. Other commits wait for theirs.
pub(crate) const MAX_BATCH: usize = 100;

/// The number of characters in an archive's digest.
const DIGEST_LENGTH: usize = 64;

/// Whether [`start`] executes a request.
pub(crate) const fn is_prune(request: &ControlRequest) -> bool {
    matches!(request, ControlRequest::Prune { .. })
}

/// Executes a request on a task of its own, and replies to it.
pub(crate) fn start(incoming: IncomingRequest, ledger: Ledger, now: Timestamp) {
    let IncomingRequest {
        request,
        author,
        reply,
    } = incoming;
    tokio::spawn(async move {
        let response = prune(request, author.name, &ledger, now).await;
        // The caller may have disconnected.
        let _ = reply.send(response);
    });
}

/// Prunes the rotations of a request by this operator.
pub(crate) async fn prune(
    request: ControlRequest,
    by: String,
    ledger: &Ledger,
    now: Timestamp,
) -> ControlResponse {
    let outcomes = match batch(request, by) {
        Ok(batch) => match ledger.prune(batch, now).await {
            Ok(pruned) => outcomes(&pruned),
            Err(error) => vec![outcome(
                ABOUT,
                false,
                format!("nothing was pruned: {error}"),
            )],
        },
        Err(problem) => vec![outcome(ABOUT, false, problem)],
    };
    ControlResponse { outcomes }
}

fn batch(request: ControlRequest, by: String) -> Result<PruneBatch, String> {
    let ControlRequest::Prune {
        archive,
        sha256,
        ledger,
        before,
        rotations,
        reason,
    } = request
    else {
        return Err("nothing was pruned: the request is about something else".to_owned());
    };
    let is_digest = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if sha256.len() != DIGEST_LENGTH || !sha256.bytes().all(is_digest) {
        return Err(format!(
            "nothing was pruned: sha256 is not {DIGEST_LENGTH} hexadecimal digits"
        ));
    }
    if rotations.len() > MAX_BATCH {
        return Err(format!(
            "nothing was pruned: {} rotations are more than {MAX_BATCH}; hint: send several \
             requests",
            rotations.len()
        ));
    }
    let before = time::from_text(&before)
        .map_err(|error| format!("nothing was pruned: {before:?} is no time: {error}"))?;
    let rotations = rotations.into_iter();
    let rotations = rotations.map(|(rotation, last_event)| ArchivedRotation {
        rotation: RotationId::from_recorded(rotation),
        last_event,
    });
    Ok(PruneBatch {
        archive: ArchiveStamp {
            name: redact::sanitize(&archive),
            digest: sha256,
            ledger,
            before,
        },
        rotations: rotations.collect(),
        operator: OperatorNote {
            reason: reason.map(|reason| redact::sanitize(&reason)),
            by,
        },
    })
}

fn outcomes(pruned: &PrunedRows) -> Vec<RequestOutcome> {
    let kept = pruned.remaining.iter().map(|rotation| {
        let message = format!(
            "{rotation} stays in the ledger: it has changed since the archive was made, or may be \
             needed"
        );
        outcome(rotation.as_str(), true, message)
    });
    let message = format!("pruned {}", counted(pruned.rotations, "rotation"));
    let whole = outcome(ABOUT, true, message);
    std::iter::once(whole).chain(kept).collect()
}

fn outcome(about: &str, done: bool, message: String) -> RequestOutcome {
    RequestOutcome {
        about: about.to_owned(),
        done,
        message,
        shared_with: Vec::new(),
        consequences: Vec::new(),
        name: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn request_that_is_no_batch_is_refused() {
        let request = |sha256: &str, before: &str, count: usize| ControlRequest::Prune {
            archive: "old.archive".to_owned(),
            sha256: sha256.to_owned(),
            ledger: "1".to_owned(),
            before: before.to_owned(),
            rotations: (0..count)
                .map(|number| (format!("{number:016x}"), 1))
                .collect::<BTreeMap<_, _>>(),
            reason: None,
        };
        let (digest, at) = ("0".repeat(DIGEST_LENGTH), "2024-01-01T00:00:00Z");
        for (request, expected) in [
            (request("00", at, 1), "64 hexadecimal digits"),
            (request(&"G".repeat(64), at, 1), "64 hexadecimal digits"),
            (request(&digest, "yesterday", 1), "is no time"),
            (request(&digest, at, MAX_BATCH + 1), "are more than 100"),
            (ControlRequest::Reload, "something else"),
        ] {
            let problem = batch(request, "uid 0".to_owned()).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        let batch = batch(request(&digest, at, MAX_BATCH), "uid 0".to_owned()).unwrap();
        assert_eq!(batch.rotations.len(), MAX_BATCH);
        assert_eq!(batch.archive.before, at.parse().unwrap());
    }
}
