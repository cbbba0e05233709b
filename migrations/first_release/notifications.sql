-- Copies what version 4 of a ledger of rekeyd 0.1.0 added.

INSERT INTO alert (key, kind, scope, credential_id, since)
SELECT key, cause, CASE cause WHEN 'organization' THEN 'admin-keys' ELSE 'daemon' END, credential,
       since
FROM former.cause;

INSERT INTO notification (id, notification_id, created_at, state, key, alert_kind, scope,
                          credential_id, since, text)
SELECT id, notice, at, state, key, cause,
       CASE cause WHEN 'organization' THEN 'admin-keys' ELSE 'daemon' END, credential, since, text
FROM former.notice;

-- The number of the last notification, which may be deleted already.
DELETE FROM sqlite_sequence WHERE name = 'notification';
INSERT INTO sqlite_sequence (name, seq)
SELECT 'notification', seq FROM former.sqlite_sequence WHERE name = 'notice';

INSERT INTO outbox_entry (channel, notification_row, attempts, retry_at, error, outcome,
                          finished_at)
SELECT notifier, notice, attempts, retry_at, error,
       CASE outcome WHEN 'told' THEN 'sent' WHEN 'given-up' THEN 'abandoned' END,
       ended_at
FROM former.telling;
