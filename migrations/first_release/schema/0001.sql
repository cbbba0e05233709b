-- The ledger: what was intended, made, delivered and revoked.
--
-- Times are UTC text, 2026-11-23T03:00:00Z, in whole seconds, as the views show
-- them, so that the views can use the indices. Nothing here is a secret or can
-- be turned into one. The rules of the program are repeated as constraints: the
-- database is the last assertion.

-- Whose ledger this is. One row.
CREATE TABLE identity (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    provider     TEXT NOT NULL,
    organization TEXT NOT NULL,
    -- A hash of the id of the machine that writes it, where there is one.
    machine      TEXT,
    -- When every row was last compared with the provider.
    swept_at     TEXT CHECK (swept_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    made_at      TEXT NOT NULL CHECK (made_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
) STRICT;

CREATE TABLE key_state (
    key      TEXT PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 48),
    sequence INTEGER NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    attempt  INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retry_at TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    problem  TEXT,
    -- A person wants every older credential revoked as soon as a new one is current.
    revoke_previous INTEGER NOT NULL DEFAULT 0 CHECK (revoke_previous IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE rotation (
    id             INTEGER PRIMARY KEY,
    rotation       TEXT NOT NULL UNIQUE CHECK (length(rotation) = 16),
    key            TEXT NOT NULL REFERENCES key_state (key),
    sequence       INTEGER NOT NULL CHECK (sequence > 0),
    "trigger"      TEXT NOT NULL CHECK ("trigger" IN ('first', 'schedule', 'catch-up', 'retry', 'repair', 'manual', 'adopted')),
    scheduled_for  TEXT CHECK (scheduled_for GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    started_at     TEXT NOT NULL CHECK (started_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    label          TEXT UNIQUE CHECK (label IS NOT NULL OR "trigger" = 'adopted'),
    credential_id  TEXT UNIQUE,
    redacted_value TEXT,
    created_at     TEXT CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    expires_at     TEXT CHECK (expires_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    phase          TEXT NOT NULL CHECK (phase IN ('intended', 'created', 'verified', 'current', 'retired', 'stranded', 'orphaned', 'revoked', 'failed')),
    current_at     TEXT CHECK (current_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    retired_at     TEXT CHECK (retired_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    revoke_after   TEXT CHECK (revoke_after GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    revoked_at     TEXT CHECK (revoked_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    error          TEXT,
    attempt        INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retry_at       TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- Whether its create counts: 0 once it was certainly not done.
    maybe_made     INTEGER NOT NULL DEFAULT 1 CHECK (maybe_made IN (0, 1)),
    stranded_at    TEXT CHECK (stranded_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- The provider had no such credential: since when, and how often in a row.
    missing_since  TEXT CHECK (missing_since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    missing_looks  INTEGER NOT NULL DEFAULT 0 CHECK (missing_looks >= 0),
    hold_until     TEXT CHECK (hold_until GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    -- A person wants it gone as soon as it is retired, whoever may hold it.
    revoke_now     INTEGER NOT NULL DEFAULT 0 CHECK (revoke_now IN (0, 1)),
    UNIQUE (key, sequence),
    CHECK ((missing_since IS NULL) = (missing_looks = 0)),
    CHECK (credential_id IS NOT NULL OR phase IN ('intended', 'failed')),
    CHECK (credential_id IS NULL OR phase <> 'intended'),
    CHECK (current_at IS NOT NULL OR phase <> 'current'),
    CHECK ((retired_at IS NOT NULL AND revoke_after IS NOT NULL) OR phase <> 'retired'),
    CHECK (revoked_at IS NOT NULL OR phase <> 'revoked')
) STRICT;

CREATE UNIQUE INDEX rotation_open ON rotation (key) WHERE phase IN ('intended', 'created', 'verified');
CREATE UNIQUE INDEX rotation_current ON rotation (key) WHERE phase = 'current';
CREATE INDEX rotation_live ON rotation (key) WHERE phase NOT IN ('revoked', 'failed');
CREATE INDEX rotation_phase ON rotation (phase, started_at);
CREATE INDEX rotation_started ON rotation (started_at);
CREATE INDEX rotation_key_started ON rotation (key, started_at);

CREATE TABLE delivery (
    rotation        INTEGER NOT NULL REFERENCES rotation (id),
    place           INTEGER NOT NULL CHECK (place >= 0),
    sink            TEXT NOT NULL,
    target          TEXT NOT NULL,
    required        INTEGER NOT NULL CHECK (required IN (0, 1)),
    state           TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'uncertain', 'accepted', 'refused', 'missed', 'removed')),
    -- Whether any try may have been taken: a later refusal does not undo that.
    maybe_taken     INTEGER NOT NULL DEFAULT 0 CHECK (maybe_taken IN (0, 1)),
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_attempt_at TEXT CHECK (last_attempt_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    accepted_at     TEXT CHECK (accepted_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    removed_at      TEXT CHECK (removed_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    retry_at        TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    error           TEXT,
    PRIMARY KEY (rotation, place),
    CHECK (accepted_at IS NOT NULL OR state <> 'accepted'),
    CHECK (state = 'removed' OR removed_at IS NULL)
) STRICT, WITHOUT ROWID;

-- Credentials at the provider without a row here, so that each is told of once.
CREATE TABLE stranger (
    credential_id TEXT PRIMARY KEY,
    kind          TEXT NOT NULL CHECK (kind IN ('lookalike', 'foreign')),
    name          TEXT,
    seen_at       TEXT NOT NULL CHECK (seen_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
) STRICT, WITHOUT ROWID;

-- What is wrong with the daemon as a whole, for those who ask beside it.
CREATE TABLE condition (
    condition TEXT PRIMARY KEY,
    since     TEXT NOT NULL CHECK (since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    problem   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal_entry (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    at       TEXT NOT NULL CHECK (at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    rotation INTEGER REFERENCES rotation (id),
    key      TEXT,
    event    TEXT NOT NULL,
    detail   TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;

CREATE INDEX journal_entry_key ON journal_entry (key, seq);
CREATE INDEX journal_entry_rotation ON journal_entry (rotation);
CREATE INDEX journal_entry_at ON journal_entry (at);

CREATE TRIGGER journal_entry_is_never_changed BEFORE UPDATE ON journal_entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_entry_is_never_deleted BEFORE DELETE ON journal_entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER rotation_is_never_deleted BEFORE DELETE ON rotation
BEGIN SELECT RAISE(ABORT, 'a rotation is never forgotten'); END;

CREATE TRIGGER rotation_begins BEFORE INSERT ON rotation
WHEN NEW.phase NOT IN ('intended', 'current', 'stranded')
    OR (NEW.phase <> 'intended' AND NEW."trigger" <> 'adopted')
BEGIN SELECT RAISE(ABORT, 'a rotation cannot begin in this phase'); END;

CREATE TRIGGER rotation_moves BEFORE UPDATE OF phase ON rotation
WHEN OLD.phase <> NEW.phase AND OLD.phase || '>' || NEW.phase NOT IN (
    'intended>created', 'intended>orphaned', 'intended>failed', 'intended>stranded',
    'created>verified', 'created>orphaned', 'created>stranded', 'created>revoked',
    'verified>orphaned', 'verified>stranded', 'verified>current', 'verified>revoked',
    'current>retired', 'current>revoked',
    'stranded>retired', 'stranded>revoked',
    'retired>revoked', 'orphaned>revoked',
    'failed>orphaned', 'revoked>orphaned')
BEGIN SELECT RAISE(ABORT, 'a rotation cannot move between these phases'); END;

CREATE TRIGGER rotation_stays_itself BEFORE UPDATE ON rotation
WHEN OLD.rotation IS NOT NEW.rotation OR OLD.key IS NOT NEW.key
    OR OLD.sequence IS NOT NEW.sequence OR OLD.label IS NOT NEW.label
    OR (OLD.credential_id IS NOT NULL AND OLD.credential_id IS NOT NEW.credential_id)
BEGIN SELECT RAISE(ABORT, 'a rotation keeps its id, key, sequence, label and credential'); END;

CREATE VIEW history AS
SELECT rotation, key, sequence, "trigger", scheduled_for, started_at, label,
       credential_id, redacted_value, created_at, expires_at, phase, current_at,
       retired_at, revoke_after, revoked_at, error
FROM rotation;

CREATE VIEW deliveries AS
SELECT r.rotation, r.key, d.sink, d.state, d.attempts, d.last_attempt_at,
       d.accepted_at, d.error
FROM delivery d JOIN rotation r ON r.id = d.rotation;

CREATE VIEW journal AS
SELECT j.seq, j.at, r.rotation, j.key, j.event, j.detail
FROM journal_entry j LEFT JOIN rotation r ON r.id = j.rotation;
