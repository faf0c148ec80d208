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
