-- The ledger: what was intended, created, delivered and revoked.
--
-- Times are UTC text, 2026-11-23T03:00:00Z, in whole seconds, as the views show
-- them, so that the views can use the indexes. No column holds a secret or
-- anything that a secret can be computed from. The constraints repeat the rules
-- of the program: the database is the last assertion.
--
-- A list of three or more words is written as a chain of OR: for IN, SQLite
-- builds a temporary table each time a row is written, which takes ten times as
-- long.
--
-- A scope is what the provider lists, refuses or loses as one: 'admin-keys', the
-- organization's admin keys, or 'project:' and the id of a project. A condition
-- of the whole daemon, and its alert, have the scope 'daemon'.

-- Which host writes this ledger. One row.
CREATE TABLE ledger_identity (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- A hash of the host's machine id; NULL where the host has none.
    host       TEXT,
    -- The configuration file of the latest writer.
    configuration TEXT,
    created_at TEXT NOT NULL CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
) STRICT;

-- Which process that rotates by schedule wrote this ledger last. One row, or none.
CREATE TABLE last_run (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    command    TEXT NOT NULL CHECK (command IN ('run', 'once')),
    started_at TEXT NOT NULL CHECK (started_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- NULL while it runs, and after a kill.
    ended_at   TEXT CHECK (ended_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
) STRICT;

-- Whose credentials this ledger records, and when all of them were last
-- compared with the provider's list.
CREATE TABLE scope (
    scope         TEXT PRIMARY KEY,
    provider      TEXT NOT NULL,
    -- Empty where the configuration names none.
    organization  TEXT NOT NULL,
    reconciled_at TEXT CHECK (reconciled_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
) STRICT, WITHOUT ROWID;

CREATE TABLE key_state (
    key             TEXT PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 48),
    sequence        INTEGER NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retry_at        TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    last_error      TEXT,
    -- That happened before a create was sent: a repair of the host may have ended it.
    failed_before_create INTEGER NOT NULL DEFAULT 0 CHECK (failed_before_create IN (0, 1)),
    -- An operator wants every older credential revoked once a new one is current.
    revoke_previous INTEGER NOT NULL DEFAULT 0 CHECK (revoke_previous IN (0, 1)),
    -- The targets, a JSON array, in which an operator lets a rotation replace keys that
    -- this ledger did not write.
    replace_targets TEXT,
    -- The schedule as text: a changed one counts from the moment of the change.
    timetable       TEXT,
    -- Scheduled runs up to this moment are settled.
    counts_from     TEXT CHECK (counts_from GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- A run that the schedule does not have: one from before its change, which is
    -- still to be caught up, or the first of a credential past its age.
    pending_run     TEXT CHECK (pending_run GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- The latest run that fell due while a process ran, until a rotation starts.
    due_run         TEXT CHECK (due_run GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- The latest run that was dropped since a credential became current, and how many were.
    dropped_run     TEXT CHECK (dropped_run GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    dropped_runs    INTEGER NOT NULL DEFAULT 0 CHECK (dropped_runs >= 0),
    -- The last pause; without an end it lasts until an operator resumes the key.
    paused_from     TEXT CHECK (paused_from GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    paused_until    TEXT CHECK (paused_until GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation (
    id              INTEGER PRIMARY KEY,
    rotation        TEXT NOT NULL UNIQUE CHECK (length(rotation) = 16),
    key             TEXT NOT NULL REFERENCES key_state (key),
    scope           TEXT NOT NULL DEFAULT 'admin-keys'
        CHECK (scope = 'admin-keys' OR scope GLOB 'project:?*'),
    sequence        INTEGER NOT NULL CHECK (sequence > 0),
    "trigger"       TEXT NOT NULL CHECK ("trigger" = 'first' OR "trigger" = 'schedule'
        OR "trigger" = 'catch-up' OR "trigger" = 'retry' OR "trigger" = 'repair'
        OR "trigger" = 'manual' OR "trigger" = 'adopted'),
    scheduled_for   TEXT CHECK (scheduled_for GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    started_at      TEXT NOT NULL CHECK (started_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- What its create made is not older than this, by the provider's clock.
    not_created_before TEXT CHECK (not_created_before GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    label           TEXT UNIQUE CHECK (label IS NOT NULL OR "trigger" = 'adopted'),
    credential_id   TEXT,
    -- The name of the credential at the provider: the label at the intent, then the
    -- answered name; at an adoption the name that was shown.
    name            TEXT,
    redacted_value  TEXT,
    -- The answer to its create redacted its secret to another end than it has.
    wrong_redaction INTEGER NOT NULL DEFAULT 0 CHECK (wrong_redaction IN (0, 1)),
    created_at      TEXT CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    expires_at      TEXT CHECK (expires_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    phase           TEXT NOT NULL CHECK (phase = 'intended' OR phase = 'created'
        OR phase = 'verified' OR phase = 'current' OR phase = 'retired' OR phase = 'stranded'
        OR phase = 'orphaned' OR phase = 'revoked' OR phase = 'failed'),
    current_at      TEXT CHECK (current_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    retired_at      TEXT CHECK (retired_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    revoke_after    TEXT CHECK (revoke_after GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    revoked_at      TEXT CHECK (revoked_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    error           TEXT,
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retry_at        TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- The answer to its create could not be true, so that it counts as unclear.
    answer_rejected INTEGER NOT NULL DEFAULT 0 CHECK (answer_rejected IN (0, 1)),
    -- 0 once its create was certainly not done; such a one does not count.
    maybe_created   INTEGER NOT NULL DEFAULT 1 CHECK (maybe_created IN (0, 1)),
    stranded_at     TEXT CHECK (stranded_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- The provider had no such credential: since when, and how many checks in a row.
    missing_since   TEXT CHECK (missing_since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    missing_checks  INTEGER NOT NULL DEFAULT 0 CHECK (missing_checks >= 0),
    -- An operator holds it; without an end until it is released.
    is_held         INTEGER NOT NULL DEFAULT 0 CHECK (is_held IN (0, 1)),
    hold_until      TEXT CHECK (hold_until GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- It is revoked as soon as it is retired, whatever sinks may hold it.
    revoke_now      INTEGER NOT NULL DEFAULT 0 CHECK (revoke_now IN (0, 1)),
    -- It may have leaked, and ends at this time, whatever may still use it; forced if
    -- also though rekeyd may itself work with it.
    revoke_by       TEXT CHECK (revoke_by GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    revoke_by_forced INTEGER NOT NULL DEFAULT 0 CHECK (revoke_by_forced IN (0, 1)),
    -- Since when its revocation is deferred.
    deferred_since  TEXT CHECK (deferred_since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- Why its revocation is deferred.
    deferral        TEXT CHECK (deferral = 'self-credential' OR deferral = 'may-be-in-use'
        OR deferral = 'recently-used' OR deferral = 'use-unreadable'
        OR deferral = 'successor-missing' OR deferral = 'other-name'
        OR deferral = 'used-by-other-key' OR deferral = 'held-again'
        OR deferral = 'held-elsewhere'
        OR deferral = 'file-unseen'),
    -- Its revocation is deferred because it is used, and it is revoked within a
    -- day nevertheless.
    final_warning   INTEGER NOT NULL DEFAULT 0 CHECK (final_warning IN (0, 1)),
    -- A key has at most one rotation in each of these states.
    exclusive_state TEXT AS (CASE phase
        WHEN 'intended' THEN 'open' WHEN 'created' THEN 'open' WHEN 'verified' THEN 'open'
        WHEN 'current' THEN 'current' END),
    UNIQUE (key, sequence),
    CHECK (is_held = 1 OR hold_until IS NULL),
    CHECK (revoke_by IS NOT NULL OR revoke_by_forced = 0),
    -- Several keys may have adopted one credential.
    UNIQUE (credential_id, key),
    CHECK ((missing_since IS NULL) = (missing_checks = 0)),
    CHECK (credential_id IS NOT NULL OR phase IN ('intended', 'failed')),
    CHECK (credential_id IS NULL OR phase <> 'intended'),
    CHECK (current_at IS NOT NULL OR phase <> 'current'),
    CHECK ((retired_at IS NOT NULL AND revoke_after IS NOT NULL) OR phase <> 'retired'),
    CHECK (revoked_at IS NOT NULL OR phase <> 'revoked'),
    CHECK (deferral IS NULL OR deferred_since IS NOT NULL)
) STRICT;

-- Each transition between phases writes to the indexes of the live rotations:
-- this one finds them, and holds the rule of exclusive_state as well.
CREATE UNIQUE INDEX rotation_live ON rotation (key, exclusive_state)
    WHERE phase NOT IN ('revoked', 'failed');
CREATE INDEX rotation_by_phase ON rotation (phase, started_at);
CREATE INDEX rotation_by_start ON rotation (started_at);
-- The index alone answers how often a key was rotated lately.
CREATE INDEX rotation_by_key_and_start ON rotation (key, started_at, maybe_created);

-- Which credentials show the end of a secret: an answer to a create may have that of
-- another credential.
CREATE INDEX rotation_by_end ON rotation (lower(substr(rtrim(redacted_value, ' "''`'), -3)))
    WHERE phase NOT IN ('revoked', 'failed');

CREATE TABLE delivery (
    rotation_row    INTEGER NOT NULL REFERENCES rotation (id),
    -- The sink's place in the configuration.
    ordinal         INTEGER NOT NULL CHECK (ordinal >= 0),
    sink            TEXT NOT NULL,
    target          TEXT NOT NULL,
    required        INTEGER NOT NULL CHECK (required IN (0, 1)),
    state           TEXT NOT NULL DEFAULT 'pending' CHECK (state = 'pending' OR state = 'uncertain'
        OR state = 'accepted' OR state = 'refused' OR state = 'missed' OR state = 'removed'),
    -- Whether the sink may have accepted any attempt: a later refusal does not
    -- undo that.
    maybe_accepted  INTEGER NOT NULL DEFAULT 0 CHECK (maybe_accepted IN (0, 1)),
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_attempt_at TEXT CHECK (last_attempt_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- Since when the sink's file holds the secret while its on-change command
    -- has not yet succeeded.
    written_at      TEXT CHECK (written_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
        CHECK (written_at IS NULL OR state = 'uncertain'),
    accepted_at     TEXT CHECK (accepted_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    removed_at      TEXT CHECK (removed_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    retry_at        TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    error           TEXT,
    -- What identifies the file that the delivery left: times in nanoseconds. A secret is
    -- taken again only from that very file.
    file_device     INTEGER,
    file_inode      INTEGER,
    file_size       INTEGER,
    file_modified   INTEGER,
    file_changed    INTEGER,
    -- Since when the target holds the retired secret again, and until when it did.
    seen_since      TEXT CHECK (seen_since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    seen_until      TEXT CHECK (seen_until GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    PRIMARY KEY (rotation_row, ordinal),
    CHECK (seen_since IS NOT NULL OR seen_until IS NULL),
    CHECK ((file_device IS NULL) = (file_inode IS NULL)
        AND (file_device IS NULL) = (file_size IS NULL)
        AND (file_device IS NULL) = (file_modified IS NULL)
        AND (file_device IS NULL) = (file_changed IS NULL)),
    CHECK (accepted_at IS NOT NULL OR state <> 'accepted'),
    CHECK (state = 'removed' OR removed_at IS NULL)
) STRICT, WITHOUT ROWID;

-- Rotations that operators requested without waiting for them, and that have not started.
CREATE TABLE rotation_request (
    key             TEXT PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 48),
    requested_at    TEXT NOT NULL CHECK (requested_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    revoke_previous INTEGER NOT NULL CHECK (revoke_previous IN (0, 1)),
    -- The targets, a JSON array, in which it may replace keys that this ledger did not write.
    replace_targets TEXT,
    requested_by    TEXT,
    reason          TEXT
) STRICT, WITHOUT ROWID;

-- Credentials at the provider that no rotation created, each reported once.
CREATE TABLE unknown_credential (
    scope         TEXT NOT NULL DEFAULT 'admin-keys',
    credential_id TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('lookalike', 'unrecognized')),
    name          TEXT,
    last_seen_at  TEXT NOT NULL CHECK (last_seen_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    PRIMARY KEY (scope, credential_id)
) STRICT, WITHOUT ROWID;

-- What stops rotations now, for commands that run beside the daemon.
CREATE TABLE condition (
    scope  TEXT NOT NULL DEFAULT 'daemon',
    name   TEXT NOT NULL,
    since  TEXT NOT NULL CHECK (since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    reason TEXT NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

-- What happened, in order. No row is ever deleted, so that numbers are not
-- given twice even without AUTOINCREMENT.
CREATE TABLE event_log (
    seq          INTEGER PRIMARY KEY,
    at           TEXT NOT NULL CHECK (at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    rotation_row INTEGER REFERENCES rotation (id),
    key          TEXT,
    event        TEXT NOT NULL,
    detail       TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;

CREATE INDEX event_log_by_key ON event_log (key, seq);
CREATE INDEX event_log_by_rotation ON event_log (rotation_row);
CREATE INDEX event_log_by_time ON event_log (at);

-- Alerts that have begun, so that each is notified once, and once more when it
-- is over. One without a key concerns the daemon, or one scope; '' stands for
-- none.
CREATE TABLE alert (
    key           TEXT NOT NULL,
    kind          TEXT NOT NULL,
    scope         TEXT NOT NULL DEFAULT 'daemon',
    credential_id TEXT NOT NULL,
    since         TEXT NOT NULL CHECK (since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    PRIMARY KEY (key, kind, scope, credential_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE notification (
    -- Old rows are deleted, and an id is never given twice.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    notification_id TEXT NOT NULL UNIQUE CHECK (length(notification_id) = 16),
    created_at      TEXT NOT NULL CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    state           TEXT NOT NULL CHECK (state IN ('begun', 'over', 'once')),
    key             TEXT NOT NULL,
    alert_kind      TEXT NOT NULL,
    scope           TEXT NOT NULL DEFAULT 'daemon',
    credential_id   TEXT NOT NULL,
    since           TEXT NOT NULL CHECK (since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    text            TEXT NOT NULL
) STRICT;

-- One notification for one channel. It is pending while it has no outcome.
CREATE TABLE outbox_entry (
    channel          TEXT NOT NULL,
    notification_row INTEGER NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    retry_at         TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    error            TEXT,
    outcome          TEXT CHECK (outcome IN ('sent', 'abandoned')),
    finished_at      TEXT CHECK (finished_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    PRIMARY KEY (channel, notification_row),
    CHECK ((outcome IS NULL) = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_entry_pending ON outbox_entry (channel, notification_row) WHERE outcome IS NULL;
CREATE INDEX outbox_entry_by_notification ON outbox_entry (notification_row);

CREATE TRIGGER event_log_no_update BEFORE UPDATE ON event_log
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
CREATE TRIGGER event_log_no_delete BEFORE DELETE ON event_log
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
CREATE TRIGGER rotation_no_delete BEFORE DELETE ON rotation
BEGIN SELECT RAISE(ABORT, 'a rotation cannot be deleted'); END;

CREATE TRIGGER rotation_initial_phase BEFORE INSERT ON rotation
WHEN NOT (NEW.phase = 'intended'
    OR (NEW."trigger" = 'adopted' AND (NEW.phase = 'current' OR NEW.phase = 'stranded')))
BEGIN SELECT RAISE(ABORT, 'a rotation cannot start in this phase'); END;

CREATE TRIGGER rotation_phase_transition BEFORE UPDATE OF phase ON rotation
WHEN OLD.phase <> NEW.phase AND NOT CASE OLD.phase
    WHEN 'intended' THEN NEW.phase = 'created' OR NEW.phase = 'orphaned'
        OR NEW.phase = 'failed' OR NEW.phase = 'stranded'
    WHEN 'created' THEN NEW.phase = 'verified' OR NEW.phase = 'orphaned'
        OR NEW.phase = 'stranded' OR NEW.phase = 'revoked'
    WHEN 'verified' THEN NEW.phase = 'orphaned' OR NEW.phase = 'stranded'
        OR NEW.phase = 'current' OR NEW.phase = 'revoked'
    WHEN 'current' THEN NEW.phase = 'retired' OR NEW.phase = 'revoked'
    WHEN 'stranded' THEN NEW.phase = 'retired' OR NEW.phase = 'revoked'
    WHEN 'retired' THEN NEW.phase = 'revoked'
    WHEN 'orphaned' THEN NEW.phase = 'revoked'
    WHEN 'failed' THEN NEW.phase = 'orphaned'
    WHEN 'revoked' THEN NEW.phase = 'orphaned'
    ELSE false END
BEGIN SELECT RAISE(ABORT, 'illegal transition between phases'); END;

CREATE TRIGGER rotation_immutable_columns BEFORE UPDATE ON rotation
WHEN OLD.rotation IS NOT NEW.rotation OR OLD.key IS NOT NEW.key
    OR OLD.scope IS NOT NEW.scope OR OLD.sequence IS NOT NEW.sequence OR OLD.label IS NOT NEW.label
    OR (OLD.credential_id IS NOT NULL AND OLD.credential_id IS NOT NEW.credential_id)
BEGIN SELECT RAISE(ABORT, 'id, key, scope, sequence, label and credential of a rotation are immutable'); END;

-- A credential that rekeyd created belongs to one rotation: only an adoption adds
-- another key to it.
CREATE TRIGGER rotation_created_credential BEFORE UPDATE OF credential_id ON rotation
WHEN OLD.credential_id IS NULL AND NEW.credential_id IS NOT NULL
    AND EXISTS (SELECT 1 FROM rotation WHERE credential_id = NEW.credential_id)
BEGIN SELECT RAISE(ABORT, 'the credential belongs to another rotation'); END;

-- What has ended is held by nobody any more, although its row keeps the hold: it counts
-- again if the credential is found alive.
CREATE VIEW history AS
SELECT rotation, key, sequence, "trigger", scheduled_for, started_at, label,
       credential_id, redacted_value, created_at, expires_at, phase, current_at,
       retired_at, revoke_after, revoked_at, error,
       is_held AND phase NOT IN ('revoked', 'failed') AS held,
       CASE WHEN phase NOT IN ('revoked', 'failed') THEN hold_until END AS hold_until,
       CASE WHEN is_held AND phase NOT IN ('revoked', 'failed') THEN (
           SELECT e.detail ->> 'by' FROM event_log e
           WHERE e.rotation_row = r.id AND e.event = 'hold-set' ORDER BY e.seq DESC LIMIT 1)
       END AS holder,
       CASE WHEN is_held AND phase NOT IN ('revoked', 'failed') THEN (
           SELECT e.detail ->> 'reason' FROM event_log e
           WHERE e.rotation_row = r.id AND e.event = 'hold-set' ORDER BY e.seq DESC LIMIT 1)
       END AS hold_reason, name
FROM rotation r;

CREATE VIEW deliveries AS
SELECT r.rotation, r.key, d.sink, d.state, d.attempts, d.last_attempt_at,
       d.accepted_at, d.error
FROM delivery d JOIN rotation r ON r.id = d.rotation_row;

CREATE VIEW events AS
SELECT e.seq, e.at, r.rotation, e.key, e.event, e.detail
FROM event_log e LEFT JOIN rotation r ON r.id = e.rotation_row;
