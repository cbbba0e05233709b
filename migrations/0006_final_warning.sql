-- Whether the revocation of a credential is deferred for the last day. Until now
-- a sentence in the column error said so.
ALTER TABLE rotation ADD COLUMN final_warning INTEGER NOT NULL DEFAULT 0
    CHECK (final_warning = 0 OR final_warning = 1);
UPDATE rotation SET final_warning = 1
WHERE phase = 'retired' AND error LIKE '%see that its consumers read the new one%';
