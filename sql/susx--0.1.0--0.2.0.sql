-- From version 0.1.0 to 0.2.0: ALTER EXTENSION susx UPDATE.
--
-- What this leaves must be what CREATE EXTENSION makes, down to the order of columns: new columns come last
-- there, too. tests/test_upgrade.py compares the two. pgrx writes the statements of functions: copy those
-- that are new or different from the file susx--0.2.0.sql that `make install` makes. A function whose arguments or
-- columns change is dropped first, and loses its grants, which belong to this database: so rather add a
-- function beside it. Operators are qualified, as in bootstrap.sql.

-- First of all the library: an older one, or one that this session loaded before it was replaced, does not
-- have the functions below. As a statement of every upgrade script this also makes all sessions compare the
-- versions again.
DO $$
DECLARE
    wanted CONSTANT text := '0.2.0';
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
COMMENT ON FUNCTION susx.library_version() IS
    'Version of the library that this session has loaded; \dx shows the version of the extension in the database';

-- The right to write to a whole table is the right to lock it against everybody.
REVOKE INSERT, UPDATE, DELETE ON susx.classifier FROM PUBLIC;
GRANT INSERT (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale),
      UPDATE (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale)
    ON susx.classifier TO PUBLIC;
DROP POLICY delete_settings ON susx.classifier;
ALTER FUNCTION susx.forget_dropped() SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION susx.settings_changed(), susx.forget_dropped() FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump(
    'susx.classifier', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = classifier)');

-- Changes that logical replication brings count, too. For that the tables of classifiers have another trigger.
ALTER TABLE susx.classifier ENABLE ALWAYS TRIGGER settings_changed;
DO $$
DECLARE
    classifier regclass;
BEGIN
    FOR classifier IN
        SELECT c.classifier FROM susx.classifier c
        JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) c.classifier::pg_catalog.oid
            AND t.tgname OPERATOR(pg_catalog.=) 'susx_classifier_changed'
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER susx_classifier_replicated AFTER INSERT OR UPDATE OR DELETE ON %s '
            'FOR EACH ROW EXECUTE FUNCTION susx.classifier_changed()', classifier);
        EXECUTE pg_catalog.format(
            'ALTER TABLE %s ENABLE ALWAYS TRIGGER susx_classifier_changed, '
            'ENABLE REPLICA TRIGGER susx_classifier_replicated', classifier);
    END LOOP;
END
$$;
