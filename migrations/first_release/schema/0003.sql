-- What runs once a file has changed is owed until it has ended well.

-- Since when the sink's file holds the secret, and its consumer may not know.
ALTER TABLE delivery ADD COLUMN written_at TEXT
    CHECK (written_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z')
    CHECK (written_at IS NULL OR state = 'uncertain');
