-- What people were told, and what they are still to be told.

-- What is wrong and was told, so that it is told once, and once more when it
-- is over. Without a key it is of rekeyd as a whole; '' stands for none.
CREATE TABLE cause (
    key        TEXT NOT NULL,
    cause      TEXT NOT NULL,
    credential TEXT NOT NULL,
    since      TEXT NOT NULL CHECK (since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    PRIMARY KEY (key, cause, credential)
) STRICT, WITHOUT ROWID;

CREATE TABLE notice (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    notice     TEXT NOT NULL UNIQUE CHECK (length(notice) = 16),
    at         TEXT NOT NULL CHECK (at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    state      TEXT NOT NULL CHECK (state IN ('begun', 'over', 'once')),
    key        TEXT NOT NULL,
    cause      TEXT NOT NULL,
    credential TEXT NOT NULL,
    since      TEXT NOT NULL CHECK (since GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    text       TEXT NOT NULL
) STRICT;

-- To whom, by type and target. One that has no outcome is owed.
CREATE TABLE telling (
    notifier TEXT NOT NULL,
    notice   INTEGER NOT NULL REFERENCES notice (id) ON DELETE CASCADE,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    retry_at TEXT CHECK (retry_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    error    TEXT,
    outcome  TEXT CHECK (outcome IN ('told', 'given-up')),
    ended_at TEXT CHECK (ended_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    PRIMARY KEY (notifier, notice),
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX telling_owed ON telling (notifier, notice) WHERE outcome IS NULL;
CREATE INDEX telling_notice ON telling (notice);
