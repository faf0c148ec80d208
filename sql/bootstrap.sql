-- This script runs as a superuser, with pgvector's schema in the search_path. Other users may have created operators
-- there that fit better than those of pg_catalog, so operators are qualified; see tests/test_install.py.

-- Functions check this, too: it is here to say so before anything is made.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) ALL (ARRAY['UTF8', 'SQL_ASCII']::name[]) THEN
        RAISE EXCEPTION 'susx needs a database with encoding UTF8, not %', pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create another database: CREATE DATABASE name TEMPLATE template0 ENCODING ''UTF8'' '
                         'LOCALE ''C.UTF-8''; pg_dump and pg_restore convert existing data.';
    END IF;
END
$$;

-- A role that owns the schema, or may create in it, could replace susx's functions by its own.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_namespace n
        WHERE n.nspname OPERATOR(pg_catalog.=) 'susx'
          AND (NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) n.nspowner)
               OR pg_catalog.has_schema_privilege('public', n.oid, 'CREATE'))
    ) THEN
        RAISE EXCEPTION 'schema "susx" is there already, and not a superuser''s alone'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Drop it, or look into it, take it over with ALTER SCHEMA susx OWNER TO, and '
                         'REVOKE CREATE on it FROM PUBLIC.';
    END IF;
END
$$;

-- The settings of every classifier, one row each. A classifier's prompts and support images are in a table of its own,
-- owned by the role that created it.
CREATE TABLE susx.classifier (
    classifier   regclass PRIMARY KEY,
    model        text,
    model_sha256 bytea,
    method       text CHECK (method OPERATOR(pg_catalog.=) ANY (ARRAY['zero-shot', 'tip-adapter', 'tip-x', 'gated-tip-x', 'gda', 'likeness'])),
    alpha        real NOT NULL CHECK (alpha OPERATOR(pg_catalog.>=) 0 AND alpha OPERATOR(pg_catalog.<) 'Infinity'),
    beta         real NOT NULL CHECK (beta OPERATOR(pg_catalog.>=) 0 AND beta OPERATOR(pg_catalog.<) 'Infinity'),
    gamma        real NOT NULL CHECK (gamma OPERATOR(pg_catalog.>=) 0 AND gamma OPERATOR(pg_catalog.<) 'Infinity'),
    temperature  real NOT NULL
        CHECK (temperature OPERATOR(pg_catalog.>) 0 AND temperature OPERATOR(pg_catalog.<) 'Infinity'),
    logit_scale  real NOT NULL
        CHECK (logit_scale OPERATOR(pg_catalog.>) 0 AND logit_scale OPERATOR(pg_catalog.<) 'Infinity'),
    lambda       real NOT NULL DEFAULT 2
        CHECK (lambda OPERATOR(pg_catalog.>=) 0 AND lambda OPERATOR(pg_catalog.<) 'Infinity'),
    ridge        real NOT NULL DEFAULT 3
        CHECK (ridge OPERATOR(pg_catalog.>) 0 AND ridge OPERATOR(pg_catalog.<) 'Infinity'),
    probability_temperature real NOT NULL DEFAULT 1
        CHECK (probability_temperature OPERATOR(pg_catalog.>) 0
               AND probability_temperature OPERATOR(pg_catalog.<) 'Infinity'),
    reject       real NOT NULL DEFAULT 0
        CHECK (reject OPERATOR(pg_catalog.>=) 0 AND reject OPERATOR(pg_catalog.<=) 1),
    likeness_model  text,
    likeness_sha256 bytea,
    tag_threshold real NOT NULL DEFAULT 0.5
        CHECK (tag_threshold OPERATOR(pg_catalog.>=) 0 AND tag_threshold OPERATOR(pg_catalog.<=) 1)
);
-- If event triggers were off when a table was dropped, its row is still here, and would be dumped as a mere number.
SELECT pg_catalog.pg_extension_config_dump(
    'susx.classifier', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = classifier)');

-- A role that may read a classifier's table sees its settings. A role that may update the table changes them, unless
-- row-level security applies to the role, because the settings affect all rows.
-- Rights to write are granted by column: a right to the whole table would include the right to lock it against
-- everybody. For the same reason nobody has the right to delete; forget_dropped() does that.
GRANT SELECT ON susx.classifier TO PUBLIC;
GRANT INSERT (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale,
              lambda, ridge, probability_temperature, reject, likeness_model, likeness_sha256, tag_threshold),
      UPDATE (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale,
              lambda, ridge, probability_temperature, reject, likeness_model, likeness_sha256, tag_threshold)
    ON susx.classifier TO PUBLIC;
ALTER TABLE susx.classifier ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_settings ON susx.classifier FOR SELECT
    USING (pg_catalog.has_table_privilege(classifier, 'SELECT') IS NOT FALSE);
CREATE POLICY add_settings ON susx.classifier FOR INSERT
    WITH CHECK (pg_catalog.has_table_privilege(classifier, 'UPDATE')
                AND NOT pg_catalog.row_security_active(classifier));
CREATE POLICY change_settings ON susx.classifier FOR UPDATE
    USING (pg_catalog.has_table_privilege(classifier, 'UPDATE')
           AND NOT pg_catalog.row_security_active(classifier));

-- Images that could not be embedded. They are not tried again until their row changes: row_version is its xmin. The
-- table is not dumped, since an xmin means nothing in another cluster: these images fail there again.
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

-- A role that may read the table of images sees its errors, and a role that may update the column changes them. Rights
-- are granted by column, as above; susx.forget_errors() deletes rows. If the table's row-level security applies to a
-- role, that role sees no errors of the table here. To find out which ones it may see, a policy would have to query the
-- table, and so run the table's policies, and the functions in them, as the reader of susx.errors. susx's own functions
-- query the table instead, and show or change only the errors of rows that the caller may see or update.
GRANT SELECT ON susx.errors TO PUBLIC;
GRANT INSERT (relation, embedding_column, key, message, sqlstate, row_version, "time"),
      UPDATE (relation, embedding_column, key, message, sqlstate, row_version, "time")
    ON susx.errors TO PUBLIC;
ALTER TABLE susx.errors ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_errors ON susx.errors FOR SELECT
    USING (pg_catalog.has_table_privilege(relation, 'SELECT')
           AND NOT pg_catalog.row_security_active(relation));
CREATE POLICY add_errors ON susx.errors FOR INSERT
    WITH CHECK ((pg_catalog.has_table_privilege(relation, 'UPDATE')
             OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                        WHERE a.attrelid OPERATOR(pg_catalog.=) errors.relation::pg_catalog.oid
                          AND a.attname OPERATOR(pg_catalog.=) errors.embedding_column
                          AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE')))
           AND NOT pg_catalog.row_security_active(relation));
CREATE POLICY change_errors ON susx.errors FOR UPDATE
    USING ((pg_catalog.has_table_privilege(relation, 'UPDATE')
             OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                        WHERE a.attrelid OPERATOR(pg_catalog.=) errors.relation::pg_catalog.oid
                          AND a.attname OPERATOR(pg_catalog.=) errors.embedding_column
                          AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE')))
           AND NOT pg_catalog.row_security_active(relation));

-- Which model made the embeddings of a table of images: a vector does not tell.
CREATE TABLE susx.embedding_column (
    relation         regclass,
    embedding_column name,
    model            text NOT NULL,
    model_sha256     bytea,
    PRIMARY KEY (relation, embedding_column)
);
SELECT pg_catalog.pg_extension_config_dump(
    'susx.embedding_column', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = relation)');

-- As for susx.errors.
GRANT SELECT ON susx.embedding_column TO PUBLIC;
GRANT INSERT (relation, embedding_column, model, model_sha256),
      UPDATE (relation, embedding_column, model, model_sha256)
    ON susx.embedding_column TO PUBLIC;
ALTER TABLE susx.embedding_column ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_columns ON susx.embedding_column FOR SELECT
    USING (pg_catalog.has_table_privilege(relation, 'SELECT')
           AND NOT pg_catalog.row_security_active(relation));
CREATE POLICY add_columns ON susx.embedding_column FOR INSERT
    WITH CHECK ((pg_catalog.has_table_privilege(relation, 'UPDATE')
             OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                        WHERE a.attrelid OPERATOR(pg_catalog.=) embedding_column.relation::pg_catalog.oid
                          AND a.attname OPERATOR(pg_catalog.=) embedding_column.embedding_column
                          AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE')))
           AND NOT pg_catalog.row_security_active(relation));
CREATE POLICY change_columns ON susx.embedding_column FOR UPDATE
    USING ((pg_catalog.has_table_privilege(relation, 'UPDATE')
             OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                        WHERE a.attrelid OPERATOR(pg_catalog.=) embedding_column.relation::pg_catalog.oid
                          AND a.attname OPERATOR(pg_catalog.=) embedding_column.embedding_column
                          AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE')))
           AND NOT pg_catalog.row_security_active(relation));

-- What the labels of a column of a table of images are made with.
CREATE TABLE susx.labelling (
    id                 integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    relation           regclass NOT NULL,
    label_column       name NOT NULL,
    classifier         regclass NOT NULL,
    method             text,
    state              bytea NOT NULL,
    embedding_column   name NOT NULL,
    likeness_column    name,
    probability_column name,
    known_column       name,
    UNIQUE (relation, label_column)
);
SELECT pg_catalog.pg_extension_config_dump(
    'susx.labelling',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = relation)');

-- As for susx.errors. Only susx's functions write, after they have updated the column as the caller.
GRANT SELECT ON susx.labelling TO PUBLIC;
ALTER TABLE susx.labelling ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_labellings ON susx.labelling FOR SELECT
    USING (pg_catalog.has_table_privilege(relation, 'SELECT')
           AND NOT pg_catalog.row_security_active(relation));

-- What susx wrote to a row last. Only susx's functions write: the records of rows that the caller sees and updates. Who sees
-- all rows of the table sees its records, too, without which no ordinary role could dump the database. The keys are in the
-- order of their bytes, which no locale changes.
CREATE TABLE susx.row_label (
    labelling    integer NOT NULL,
    key          text COLLATE "C" NOT NULL,
    version      bigint,
    label        text,
    is_corrected boolean NOT NULL DEFAULT false,
    PRIMARY KEY (labelling, key)
);
SELECT pg_catalog.pg_extension_config_dump('susx.row_label', '');
GRANT SELECT ON susx.row_label TO PUBLIC;
ALTER TABLE susx.row_label ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_row_labels ON susx.row_label FOR SELECT
    USING (EXISTS (SELECT FROM susx.labelling l WHERE l.id OPERATOR(pg_catalog.=) row_label.labelling));

-- Up to where the embeddings of a table were compared with its images. Only susx's functions write, for callers who see
-- and update all rows of the table. It is not dumped, since the numbers of transactions mean nothing in another cluster:
-- there the embeddings are compared once more. Roles may read it because older versions of pg_dump lock every table.
CREATE TABLE susx.refreshed_column (
    relation         regclass,
    image_column     smallint,
    embedding_column smallint,
    checked_before   xid8 NOT NULL,
    PRIMARY KEY (relation, image_column, embedding_column)
);
GRANT SELECT ON susx.refreshed_column TO PUBLIC;
ALTER TABLE susx.refreshed_column ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_refreshed ON susx.refreshed_column FOR SELECT
    USING (pg_catalog.has_table_privilege(relation, 'SELECT')
           AND NOT pg_catalog.row_security_active(relation));

GRANT USAGE ON SCHEMA susx TO PUBLIC;
