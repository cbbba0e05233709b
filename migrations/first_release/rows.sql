-- Copies the rows of a ledger of rekeyd 0.1.0, attached as `former`, into the
-- tables of 0001. former_key_state and former_delivery have all columns of
-- version 5, whatever the version. Conditions are not copied: each start clears
-- them.

INSERT INTO ledger_identity (id, host, created_at)
SELECT id, machine, made_at FROM former.identity;

INSERT INTO scope (scope, provider, organization, reconciled_at)
SELECT 'admin-keys', provider, organization, swept_at FROM former.identity;

INSERT INTO key_state (key, sequence, attempt, retry_at, last_error, revoke_previous, timetable,
                       counts_from, pending_run, paused_from, paused_until)
SELECT key, sequence, attempt, retry_at, problem, revoke_previous, timetable,
       counts_from, owed, paused_from, paused_until
FROM temp.former_key_state;

INSERT INTO rotation (id, rotation, key, sequence, "trigger", scheduled_for, started_at, label,
                      name, credential_id, redacted_value, created_at, expires_at, phase, current_at,
                      retired_at, revoke_after, revoked_at, error, attempt, retry_at,
                      maybe_created, stranded_at, missing_since, missing_checks, is_held,
                      hold_until,
                      revoke_now, deferred_since, final_warning)
SELECT id, rotation, key, sequence, "trigger", scheduled_for, started_at, label,
       -- 0.1.0 recorded no name. An adopted credential has no label either.
       label, credential_id, redacted_value, created_at, expires_at, phase, current_at,
       retired_at, revoke_after, revoked_at, error, attempt, retry_at,
       maybe_made, stranded_at, missing_since, missing_looks, hold_until IS NOT NULL,
       -- 0.1.0 recorded a hold without an end as one until the last time there is.
       CASE WHEN hold_until < '9999' THEN hold_until END,
       revoke_now,
       -- 0.1.0 recorded a deferral as an event alone.
       CASE WHEN phase NOT IN ('revoked', 'failed') THEN
           (SELECT min(j.at) FROM former.journal_entry j
            WHERE j.rotation = r.id AND j.event = 'held-back'
                AND j.at >= coalesce(r.retired_at, r.stranded_at, r.started_at))
       END,
       -- 0.1.0 found the final warning again by this part of its sentence.
       phase = 'retired' AND error IS NOT NULL
           AND instr(error, 'see that its consumers read the new one') > 0
FROM former.rotation r ORDER BY id;

INSERT INTO delivery (rotation_row, ordinal, sink, target, required, state, maybe_accepted,
                      attempts, last_attempt_at, written_at, accepted_at, removed_at, retry_at,
                      error)
SELECT rotation, place, sink, target, required, state, maybe_taken,
       attempts, last_attempt_at, written_at, accepted_at, removed_at, retry_at,
       error
FROM temp.former_delivery ORDER BY rotation, place;

INSERT INTO unknown_credential (scope, credential_id, kind, name, last_seen_at)
SELECT 'admin-keys', credential_id, CASE kind WHEN 'foreign' THEN 'unrecognized' ELSE kind END,
       name, seen_at
FROM former.stranger;

INSERT INTO event_log (seq, at, rotation_row, key, event, detail)
SELECT seq, at, rotation, key,
       CASE event
           WHEN 'due' THEN 'started'
           WHEN 'not-done' THEN 'not-created'
           WHEN 'worked' THEN 'verified'
           WHEN 'refused' THEN 'verification-failed'
           WHEN 'given-up' THEN 'abandoned'
           WHEN 'given-up-delivering' THEN 'abandoned-during-delivery'
           WHEN 'found-open' THEN 'interrupted'
           WHEN 'gone' THEN 'found-deleted'
           WHEN 'revoked-by-hand' THEN 'revoked-manually'
           WHEN 'seen-alive' THEN 'found-alive'
           WHEN 'adopted-besides' THEN 'adopted-alongside'
           WHEN 'delivery-begun' THEN 'delivery-started'
           WHEN 'after-failed' THEN 'on-change-failed'
           WHEN 'sink-missed' THEN 'delivery-skipped'
           WHEN 'target-lost' THEN 'sink-drifted'
           WHEN 'extended' THEN 'overlap-extended'
           WHEN 'missing' THEN 'credential-missing'
           WHEN 'found' THEN 'credential-found'
           WHEN 'try-now' THEN 'retry-requested'
           WHEN 'held-back' THEN 'revocation-deferred'
           WHEN 'hold' THEN 'hold-set'
           WHEN 'release' THEN 'hold-released'
           WHEN 'revoke-previous-now' THEN 'revoke-previous-requested'
           WHEN 'revoke-now' THEN 'immediate-revocation-requested'
           WHEN 'double-revoked' THEN 'duplicate-revoked'
           WHEN 'deferred' THEN 'key-backed-off'
           WHEN 'timetable' THEN 'timetable-changed'
           WHEN 'firing-missed' THEN 'run-missed'
           WHEN 'pause' THEN 'paused'
           WHEN 'resume' THEN 'resumed'
           ELSE event END,
       CASE
           WHEN event = 'hold' AND detail ->> 'until' >= '9999'
           THEN json_set(detail, '$.until', NULL)
           -- A quote within a value has a backslash before it.
           WHEN event = 'missing' THEN replace(detail, '"looks":', '"checks":')
           WHEN event = 'timetable' THEN replace(detail, '"owed":', '"pending_run":')
           WHEN event = 'firing-missed' THEN replace(
               replace(detail, '"then":"made up for"', '"then":"catch-up"'),
               '"then":', '"outcome":')
           ELSE detail END
FROM former.journal_entry ORDER BY seq;
