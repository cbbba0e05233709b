-- Who could get the file that a delivery left: its owner and group by number, and the
-- permission bits. NULL in rows of earlier versions, until rekeyd first checks the file.

ALTER TABLE delivery ADD COLUMN file_owner INTEGER
    CHECK (file_owner BETWEEN 0 AND 4294967295);
ALTER TABLE delivery ADD COLUMN file_group INTEGER
    CHECK (file_group BETWEEN 0 AND 4294967295)
    CHECK ((file_group IS NULL) = (file_owner IS NULL));
ALTER TABLE delivery ADD COLUMN file_mode INTEGER
    CHECK (file_mode BETWEEN 0 AND 4095)
    CHECK ((file_mode IS NULL) = (file_owner IS NULL));
