-- The settings of every classifier, one row each. A classifier's prompts and support images are in its
-- own table, which belongs to whoever created it.
CREATE TABLE susx.classifier (
    classifier   regclass PRIMARY KEY,
    model        text,
    model_sha256 bytea,
    method       text CHECK (method IN ('zero-shot', 'tip-adapter', 'tip-x', 'gda')),
    alpha        real NOT NULL CHECK (alpha >= 0 AND alpha < 'Infinity'),
    beta         real NOT NULL CHECK (beta >= 0 AND beta < 'Infinity'),
    gamma        real NOT NULL CHECK (gamma >= 0 AND gamma < 'Infinity'),
    temperature  real NOT NULL CHECK (temperature > 0 AND temperature < 'Infinity'),
    logit_scale  real NOT NULL CHECK (logit_scale > 0 AND logit_scale < 'Infinity'),
    lambda       real NOT NULL DEFAULT 2 CHECK (lambda >= 0 AND lambda < 'Infinity'),
    ridge        real NOT NULL DEFAULT 3 CHECK (ridge > 0 AND ridge < 'Infinity')
);
SELECT pg_catalog.pg_extension_config_dump('susx.classifier', '');

-- Whoever may read a classifier's table sees its settings, and whoever may update it changes them. For
-- a table that is gone the functions return NULL: its row is anyone's to delete, see forget_dropped().
GRANT SELECT, INSERT, UPDATE, DELETE ON susx.classifier TO PUBLIC;
ALTER TABLE susx.classifier ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_settings ON susx.classifier FOR SELECT
    USING (pg_catalog.has_table_privilege(classifier, 'SELECT') IS NOT FALSE);
CREATE POLICY add_settings ON susx.classifier FOR INSERT
    WITH CHECK (pg_catalog.has_table_privilege(classifier, 'UPDATE'));
CREATE POLICY change_settings ON susx.classifier FOR UPDATE
    USING (pg_catalog.has_table_privilege(classifier, 'UPDATE'));
CREATE POLICY delete_settings ON susx.classifier FOR DELETE
    USING (pg_catalog.has_table_privilege(classifier, 'UPDATE') IS NOT FALSE);

-- Images that could not be embedded. They are not tried again as long as their row stays what it was:
-- row_version is its xmin. Not dumped, for in another cluster that means nothing: they fail there again.
CREATE TABLE susx.errors (
    relation         regclass,
    embedding_column name,
    key              text,
    message          text NOT NULL,
    sqlstate         text NOT NULL,
    row_version      text NOT NULL,
    "time"           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (relation, embedding_column, key)
);

-- Whoever may read the table of images sees its errors, and whoever may update it changes them.
GRANT SELECT, INSERT, UPDATE, DELETE ON susx.errors TO PUBLIC;
ALTER TABLE susx.errors ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_errors ON susx.errors FOR SELECT
    USING (pg_catalog.has_table_privilege(relation, 'SELECT') IS NOT FALSE);
CREATE POLICY add_errors ON susx.errors FOR INSERT
    WITH CHECK (pg_catalog.has_any_column_privilege(relation, 'UPDATE'));
CREATE POLICY change_errors ON susx.errors FOR UPDATE
    USING (pg_catalog.has_any_column_privilege(relation, 'UPDATE'));
CREATE POLICY delete_errors ON susx.errors FOR DELETE
    USING (pg_catalog.has_any_column_privilege(relation, 'UPDATE') IS NOT FALSE);

GRANT USAGE ON SCHEMA susx TO PUBLIC;
