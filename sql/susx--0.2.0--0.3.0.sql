-- From version 0.2.0 to 0.3.0: ALTER EXTENSION susx UPDATE. What susx--0.1.0--0.2.0.sql says of itself goes for this
-- script, too.

-- First of all the library, for the same reasons as there.
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
