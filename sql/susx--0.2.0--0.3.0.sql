-- From version 0.2.0 to 0.3.0: ALTER EXTENSION susx UPDATE. The first comments of susx--0.1.0--0.2.0.sql apply to this
-- script, too.

-- Checks the library first, for the same reasons as there.
DO $$
DECLARE
    wanted CONSTANT text := '0.3.0';
    found text := 'before 0.2.0';
BEGIN
    BEGIN
        CREATE OR REPLACE FUNCTION susx."library_version"() RETURNS TEXT
            STRICT STABLE PARALLEL SAFE
            LANGUAGE c
            AS 'MODULE_PATHNAME', 'library_version_wrapper';
        found := susx.library_version();
        IF pg_catalog.string_to_array(found, '.')::pg_catalog.int4[]
           OPERATOR(pg_catalog.>=) pg_catalog.string_to_array(wanted, '.')::pg_catalog.int4[]
        THEN
            RETURN;
        END IF;
    EXCEPTION WHEN undefined_function THEN
        NULL;
    END;
    RAISE EXCEPTION 'susx cannot be updated to version %: the library in use is of version %', wanted, found
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'If that version is installed on this machine, begin a new session; restart PostgreSQL where '
                     'susx is in shared_preload_libraries. Else install it.';
END
$$;

-- A table's row-level security now also decides who sees and changes the records about the table.
DROP POLICY add_settings ON susx.classifier;
DROP POLICY change_settings ON susx.classifier;
DROP POLICY read_errors ON susx.errors;
DROP POLICY add_errors ON susx.errors;
DROP POLICY change_errors ON susx.errors;
DROP POLICY read_columns ON susx.embedding_column;
DROP POLICY add_columns ON susx.embedding_column;
DROP POLICY change_columns ON susx.embedding_column;
CREATE POLICY add_settings ON susx.classifier FOR INSERT
    WITH CHECK (pg_catalog.has_table_privilege(classifier, 'UPDATE')
                AND NOT pg_catalog.row_security_active(classifier));
CREATE POLICY change_settings ON susx.classifier FOR UPDATE
    USING (pg_catalog.has_table_privilege(classifier, 'UPDATE')
           AND NOT pg_catalog.row_security_active(classifier));
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

-- Images that are of none of the categories.
CREATE FUNCTION susx."add_negatives"(
    "classifier" regclass,
    "names" TEXT[] DEFAULT NULL
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_negatives_by_name_wrapper';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[]) IS
    'Add names of things that are none of the categories, or common nouns where no names are given';
CREATE FUNCTION susx."add_negatives"(
    "classifier" regclass,
    "names" TEXT[],
    "text_embeddings" vector[]
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_negatives_by_vector_wrapper';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[], vector[]) IS
    'Add names of things that are none of the categories, by their text embeddings';
CREATE FUNCTION susx."known"(
    "classifier" regclass,
    "embedding" vector
) RETURNS real
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'known_vector_wrapper';
COMMENT ON FUNCTION susx.known(regclass, vector) IS
    'How likely an embedding is to be of any category, 0 to 1';
CREATE FUNCTION susx."known"(
    "classifier" regclass,
    "image" bytea
) RETURNS real
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'known_image_wrapper';
COMMENT ON FUNCTION susx.known(regclass, bytea) IS
    'How likely an image file is to be of any category, 0 to 1';
CREATE FUNCTION susx."suggest_reject"(
    "classifier" regclass,
    "pool" regclass,
    "embedding_column" TEXT DEFAULT 'embedding'
) RETURNS real
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'suggest_reject_wrapper';
COMMENT ON FUNCTION susx.suggest_reject(regclass, regclass, text) IS
    'A value for the parameter reject that divides the images of a table best; changes nothing';

-- The answers tell how likely an image is to be of any category.
DROP FUNCTION susx.classify(regclass, vector, integer, text);
CREATE FUNCTION susx."classify"(
    "classifier" regclass,
    "embedding" vector,
    "k" INT DEFAULT 1,
    "method" TEXT DEFAULT NULL
) RETURNS TABLE (
    "rank" INT,
    "category" TEXT,
    "score" real,
    "probability" real,
    "known" real
)
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'classify_vector_wrapper';
COMMENT ON FUNCTION susx.classify(regclass, vector, integer, text) IS
    'The k best categories of an embedding with their scores and probabilities';

DROP FUNCTION susx.classify(regclass, bytea, integer, text);
CREATE FUNCTION susx."classify"(
    "classifier" regclass,
    "image" bytea,
    "k" INT DEFAULT 1,
    "method" TEXT DEFAULT NULL
) RETURNS TABLE (
    "rank" INT,
    "category" TEXT,
    "score" real,
    "probability" real,
    "known" real
)
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'classify_image_wrapper';
COMMENT ON FUNCTION susx.classify(regclass, bytea, integer, text) IS
    'The k best categories of an image file with their scores and probabilities';

DROP FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text);
CREATE FUNCTION susx."classify_rows"(
    "classifier" regclass,
    "query" TEXT,
    "key" anyelement,
    "k" INT DEFAULT 1,
    "method" TEXT DEFAULT NULL
) RETURNS TABLE (
    "key" anyelement,
    "rank" INT,
    "category" TEXT,
    "score" real,
    "probability" real,
    "known" real,
    "error" TEXT
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'classify_rows_wrapper';
ALTER FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text) ROWS 10000;
COMMENT ON FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text) IS
    'The k best categories of every row of a query of keys with images or embeddings; key gives the keys'' type';

DROP FUNCTION susx.classify_rows(regclass, text, integer, text);
CREATE FUNCTION susx."classify_rows"(
    "classifier" regclass,
    "query" TEXT,
    "k" INT DEFAULT 1,
    "method" TEXT DEFAULT NULL
) RETURNS TABLE (
    "key" bigint,
    "rank" INT,
    "category" TEXT,
    "score" real,
    "probability" real,
    "known" real,
    "error" TEXT
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'classify_bigint_rows_wrapper';
ALTER FUNCTION susx.classify_rows(regclass, text, integer, text) ROWS 10000;
COMMENT ON FUNCTION susx.classify_rows(regclass, text, integer, text) IS
    'The k best categories of every row of a query of bigint keys with images or embeddings';

DROP FUNCTION susx.evaluate(regclass, text, text);
CREATE FUNCTION susx."evaluate"(
    "classifier" regclass,
    "labelled_query" TEXT,
    "method" TEXT DEFAULT NULL
) RETURNS TABLE (
    "category" TEXT,
    "n" bigint,
    "failed" bigint,
    "top1" double precision,
    "top5" double precision,
    "precision" double precision,
    "recall" double precision,
    "f1" double precision,
    "calibration_error" double precision,
    "rejected" bigint
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION susx.evaluate(regclass, text, text) IS
    'How right a classifier is on a query of images or embeddings with their categories';
