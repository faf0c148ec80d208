-- From version 0.1.0 to 0.2.0: ALTER EXTENSION susx UPDATE.
--
-- The result must equal what CREATE EXTENSION makes, down to the order of columns: so new columns come last there, too.
-- tests/test_upgrade.py compares the two. pgrx writes the statements that create functions: copy those that are new or
-- different from the file susx--0.2.0.sql that `make install` makes. A function whose arguments or columns change must be
-- dropped first, and loses the grants that this database has given on it: so add a function beside it if possible.
-- Operators are qualified, as in bootstrap.sql.

-- Checks the library first: an older one, or one that this session loaded before it was replaced, does not have the
-- functions below. Replacing susx.library_version, as every upgrade script does, also makes all sessions compare the
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

-- A right to write to a whole table includes the right to lock it against everybody.
REVOKE INSERT, UPDATE, DELETE ON susx.classifier FROM PUBLIC;
GRANT INSERT (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale),
      UPDATE (classifier, model, model_sha256, method, alpha, beta, gamma, temperature, logit_scale)
    ON susx.classifier TO PUBLIC;
DROP POLICY delete_settings ON susx.classifier;
REVOKE EXECUTE ON FUNCTION susx.settings_changed(), susx.forget_dropped() FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump(
    'susx.classifier', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = classifier)');
REVOKE INSERT, UPDATE, DELETE ON susx.errors FROM PUBLIC;
GRANT INSERT (relation, embedding_column, key, message, sqlstate, row_version, "time"),
      UPDATE (relation, embedding_column, key, message, sqlstate, row_version, "time")
    ON susx.errors TO PUBLIC;
DROP POLICY delete_errors ON susx.errors;
COMMENT ON TABLE susx.errors IS
    'Images that could not be embedded; they are tried again when their row changes, and after susx.forget_errors()';
CREATE FUNCTION susx."forget_errors"(
    "rel" regclass,
    "embedding_column" name DEFAULT NULL,
    "key" TEXT DEFAULT NULL
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'forget_errors_wrapper';
COMMENT ON FUNCTION susx.forget_errors(regclass, name, text) IS
    'Delete records of images that could not be embedded, so that they are tried again; returns how many';

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
    USING (pg_catalog.has_table_privilege(relation, 'SELECT') IS NOT FALSE);
CREATE POLICY add_columns ON susx.embedding_column FOR INSERT
    WITH CHECK (pg_catalog.has_any_column_privilege(relation, 'UPDATE'));
CREATE POLICY change_columns ON susx.embedding_column FOR UPDATE
    USING (pg_catalog.has_any_column_privilege(relation, 'UPDATE'));

COMMENT ON TABLE susx.embedding_column IS
    'Which model made the embeddings of a column, as embed_table and embed_on_write wrote down';
COMMENT ON COLUMN susx.embedding_column.relation IS 'Table of images, as it was named in the call';
COMMENT ON COLUMN susx.embedding_column.embedding_column IS 'Column of its embeddings';
COMMENT ON COLUMN susx.embedding_column.model IS 'Name of that model';
COMMENT ON COLUMN susx.embedding_column.model_sha256 IS 'Digest of its files; NULL: any files of that name will do';

CREATE OR REPLACE FUNCTION susx.forget_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM susx.classifier c
    USING pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND c.classifier = d.objid;
    DELETE FROM susx.errors e
    USING pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND e.relation = d.objid;
    DELETE FROM susx.embedding_column e
    USING pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND e.relation = d.objid;
END
$$;

-- Changes by logical replication count, too. The tables of classifiers get another trigger for them.
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

-- The settings of the discriminant (method gda).
ALTER TABLE susx.classifier
    DROP CONSTRAINT classifier_method_check,
    ADD CONSTRAINT classifier_method_check
        CHECK (method OPERATOR(pg_catalog.=) ANY (ARRAY['zero-shot', 'tip-adapter', 'tip-x', 'gda'])),
    ADD COLUMN lambda real NOT NULL DEFAULT 2
        CHECK (lambda OPERATOR(pg_catalog.>=) 0 AND lambda OPERATOR(pg_catalog.<) 'Infinity'),
    ADD COLUMN ridge real NOT NULL DEFAULT 3
        CHECK (ridge OPERATOR(pg_catalog.>) 0 AND ridge OPERATOR(pg_catalog.<) 'Infinity');
GRANT INSERT (lambda, ridge), UPDATE (lambda, ridge) ON susx.classifier TO PUBLIC;
COMMENT ON TABLE susx.classifier IS
    'Settings of every classifier: model, method and the parameters of TIP-X and of the discriminant';
COMMENT ON COLUMN susx.classifier.method IS 'zero-shot, tip-adapter, tip-x or gda; NULL: tip-x once there is a support set';
COMMENT ON COLUMN susx.classifier.lambda IS 'Weight of the discriminant beside the names';
COMMENT ON COLUMN susx.classifier.ridge IS
    'What is added to the diagonal of the discriminant''s covariance, as a multiple of its mean';

-- These functions take or return more than before; existing calls still work.
DROP FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text);
CREATE FUNCTION susx."alter_classifier"(
    "classifier" regclass,
    "alpha" double precision DEFAULT NULL,
    "beta" double precision DEFAULT NULL,
    "gamma" double precision DEFAULT NULL,
    "temperature" double precision DEFAULT NULL,
    "logit_scale" double precision DEFAULT NULL,
    "method" TEXT DEFAULT NULL,
    "model" TEXT DEFAULT NULL,
    "lambda" double precision DEFAULT NULL,
    "ridge" double precision DEFAULT NULL
) RETURNS VOID
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'alter_classifier_wrapper';
COMMENT ON FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text,
    double precision, double precision) IS
    'Change the settings of a classifier; NULL leaves one as it is';

DROP FUNCTION susx.build_support_set(regclass, regclass, integer, text, text, text, text, boolean);
CREATE FUNCTION susx."build_support_set"(
    "classifier" regclass,
    "pool" regclass,
    "per_class" INT DEFAULT 32,
    "prompting" TEXT DEFAULT 'photo',
    "embedding_column" TEXT DEFAULT 'embedding',
    "image_column" TEXT DEFAULT NULL,
    "key_column" TEXT DEFAULT NULL,
    "exclusive" bool DEFAULT true
) RETURNS TABLE (
    "category" TEXT,
    "images" INT,
    "similarity" real,
    "reliability" real
)
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'build_support_set_wrapper';
COMMENT ON FUNCTION susx.build_support_set(regclass, regclass, integer, text, text, text, text, boolean) IS
    'Retrieve the support set from a table of unlabelled images, by the category names alone (SuS-LC)';

DROP FUNCTION susx.explain(regclass, vector, integer, text, integer);
CREATE FUNCTION susx."explain"(
    "classifier" regclass,
    "embedding" vector,
    "k" INT DEFAULT 3,
    "method" TEXT DEFAULT NULL,
    "support_rows" INT DEFAULT 3
) RETURNS TABLE (
    "rank" INT,
    "category" TEXT,
    "zero_shot" real,
    "cache" real,
    "kl" real,
    "total" real,
    "support_id" bigint,
    "support_category" TEXT,
    "affinity" real,
    "contribution" real,
    "discriminant" real,
    "reliability" real
)
STABLE PARALLEL SAFE  COST 10000
LANGUAGE c
AS 'MODULE_PATHNAME', 'explain_vector_wrapper';
COMMENT ON FUNCTION susx.explain(regclass, vector, integer, text, integer) IS
    'The terms of the k best categories of an embedding and the support rows that weighed most';

DROP FUNCTION susx.explain(regclass, bytea, integer, text, integer);
CREATE FUNCTION susx."explain"(
    "classifier" regclass,
    "image" bytea,
    "k" INT DEFAULT 3,
    "method" TEXT DEFAULT NULL,
    "support_rows" INT DEFAULT 3
) RETURNS TABLE (
    "rank" INT,
    "category" TEXT,
    "zero_shot" real,
    "cache" real,
    "kl" real,
    "total" real,
    "support_id" bigint,
    "support_category" TEXT,
    "affinity" real,
    "contribution" real,
    "discriminant" real,
    "reliability" real
)
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'explain_image_wrapper';
COMMENT ON FUNCTION susx.explain(regclass, bytea, integer, text, integer) IS
    'The terms of the k best categories of an image file and the support rows that weighed most';

DROP FUNCTION susx.tune(regclass, text);
CREATE FUNCTION susx."tune"(
    "classifier" regclass,
    "validation_query" TEXT DEFAULT NULL
) RETURNS TABLE (
    "alpha" real,
    "beta" real,
    "gamma" real,
    "zero_shot" double precision,
    "tip_adapter" double precision,
    "tip_x" double precision,
    "n" bigint,
    "failed" bigint,
    "lambda" real,
    "ridge" real,
    "gda" double precision,
    "method" TEXT
)
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'tune_wrapper';
COMMENT ON FUNCTION susx.tune(regclass, text) IS
    'Find alpha, beta, gamma, lambda and ridge on a query of labelled images, or on the support set itself, and store them';

-- Stable Diffusion.
CREATE FUNCTION susx."generate_images"(
    "prompts" TEXT[],
    "generator" TEXT DEFAULT NULL,
    "guidance_scale" double precision DEFAULT 9.5,
    "steps" INT DEFAULT 85,
    "seed" bigint DEFAULT 0,
    "negative_prompt" TEXT DEFAULT NULL,
    "width" INT DEFAULT NULL,
    "height" INT DEFAULT NULL
) RETURNS TABLE (
    "ord" INT,
    "image" bytea,
    "error" TEXT
)
STABLE PARALLEL RESTRICTED COST 100000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'generate_images_wrapper';
ALTER FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) ROWS 10;
COMMENT ON FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) IS
    'Images that a generator makes of texts; a prompt of which it makes none costs one error';

CREATE PROCEDURE susx.generate_support_set(
    classifier regclass,
    generator text DEFAULT NULL,
    per_class integer DEFAULT 16,
    prompting text DEFAULT 'photo',
    guidance_scale double precision DEFAULT 9.5,
    steps integer DEFAULT 85,
    seed bigint DEFAULT 0,
    keep_images boolean DEFAULT false,
    negative_prompt text DEFAULT NULL
) LANGUAGE c AS 'MODULE_PATHNAME', 'generate_support_set_wrapper';
COMMENT ON PROCEDURE susx.generate_support_set(
    regclass, text, integer, text, double precision, integer, bigint, boolean, text) IS
    'Generate the support set from the prompts by Stable Diffusion, with a COMMIT per category (SuS-SD)';

DROP VIEW susx.stat_server;
DROP FUNCTION susx.stat_get_server();
CREATE FUNCTION susx."stat_get_server"(

) RETURNS TABLE (
    "pid" INT,
    "status" TEXT,
    "started" timestamp with time zone,
    "restarts" bigint,
    "version" TEXT,
    "connections" bigint,
    "models" TEXT[],
    "queue_inputs" bigint,
    "queue_bytes" bigint,
    "images" bigint,
    "texts" bigint,
    "generated" bigint,
    "failed" bigint,
    "batches" bigint,
    "images_per_second" double precision,
    "texts_per_second" double precision,
    "steps_per_second" double precision,
    "batch_sizes" TEXT,
    "p50_ms" double precision,
    "p95_ms" double precision,
    "last_error" TEXT,
    "last_error_at" timestamp with time zone
)
STRICT VOLATILE PARALLEL RESTRICTED
LANGUAGE c
AS 'MODULE_PATHNAME', 'stat_get_server_wrapper';
CREATE VIEW susx.stat_server AS
    SELECT pid, status, started, clock_timestamp() - started AS uptime, restarts, version, connections, models,
           queue_inputs, queue_bytes, images, texts, generated, failed, batches, images_per_second,
           texts_per_second, steps_per_second, batch_sizes::jsonb AS batch_sizes, p50_ms, p95_ms, last_error,
           last_error_at
    FROM susx.stat_get_server();
GRANT SELECT ON susx.stat_server TO PUBLIC;

COMMENT ON VIEW susx.stat_server IS
    'The inference process: one row while it runs, none while it does not; counts are since it started';
COMMENT ON COLUMN susx.stat_server.pid IS 'Process id';
COMMENT ON COLUMN susx.stat_server.status IS
    'answering; or not answering: then all but pid is NULL, see susx.hang_timeout';
COMMENT ON COLUMN susx.stat_server.started IS 'When it started';
COMMENT ON COLUMN susx.stat_server.uptime IS 'How long ago that was';
COMMENT ON COLUMN susx.stat_server.restarts IS
    'How often it was started again, for whatever reason, since its supervisor began';
COMMENT ON COLUMN susx.stat_server.version IS 'Version of the program susx-server';
COMMENT ON COLUMN susx.stat_server.connections IS 'Connected sessions that have asked it for something';
COMMENT ON COLUMN susx.stat_server.models IS
    'Loaded models with the execution provider that they really run on, or (loading)';
COMMENT ON COLUMN susx.stat_server.queue_inputs IS
    'Images, texts and prompts of generators that have arrived and have no answer yet';
COMMENT ON COLUMN susx.stat_server.queue_bytes IS 'Bytes of their requests, of susx.queue_memory';
COMMENT ON COLUMN susx.stat_server.images IS 'Images that were embedded';
COMMENT ON COLUMN susx.stat_server.texts IS 'Texts that were embedded';
COMMENT ON COLUMN susx.stat_server.generated IS 'Images that generators have made';
COMMENT ON COLUMN susx.stat_server.failed IS 'Images, texts and prompts of generators that got an error';
COMMENT ON COLUMN susx.stat_server.batches IS
    'Batches of images and texts, including those of failed inputs; one of texts, up to four times susx.batch_size, runs in parts of like length';
COMMENT ON COLUMN susx.stat_server.images_per_second IS 'Images embedded per second, over the last ten seconds';
COMMENT ON COLUMN susx.stat_server.texts_per_second IS 'Texts embedded per second, over the last ten seconds';
COMMENT ON COLUMN susx.stat_server.steps_per_second IS
    'Denoising steps of generators per second, each of one image, over the last ten seconds';
COMMENT ON COLUMN susx.stat_server.batch_sizes IS
    'How many batches had 1, 2, 3 to 4, 5 to 8, ... inputs: {"1": 7, "3-4": 2}; sizes that did not occur are left out';
COMMENT ON COLUMN susx.stat_server.p50_ms IS
    'Milliseconds from the arrival of a request for embeddings to its reply, median of the last one to two minutes';
COMMENT ON COLUMN susx.stat_server.p95_ms IS 'The same, 95th percentile';
COMMENT ON COLUMN susx.stat_server.last_error IS
    'The last error, of any session; NULL to those who are not members of pg_read_all_stats';
COMMENT ON COLUMN susx.stat_server.last_error_at IS 'When that was';
COMMENT ON FUNCTION susx.stat_get_server() IS
    'What the view susx.stat_server shows';

COMMENT ON COLUMN susx.stat_progress.relation IS
    'The table or the classifier that is worked on; NULL: none, or in another database';
COMMENT ON COLUMN susx.stat_progress.phase IS 'preparing, reading, embedding, classifying, searching, generating or writing';
COMMENT ON COLUMN susx.stat_progress.done IS 'Rows of this phase that are done, prompts where an index is asked, or denoising steps';
