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

-- The method gated-tip-x, which is the default once there is a support set; the temperature of the probabilities, and the
-- limit below which an image gets no label.
ALTER TABLE susx.classifier
    DROP CONSTRAINT classifier_method_check,
    ADD CONSTRAINT classifier_method_check
        CHECK (method OPERATOR(pg_catalog.=)
               ANY (ARRAY['zero-shot', 'tip-adapter', 'tip-x', 'gated-tip-x', 'gda', 'likeness'])),
    ADD COLUMN probability_temperature real NOT NULL DEFAULT 1
        CHECK (probability_temperature OPERATOR(pg_catalog.>) 0
               AND probability_temperature OPERATOR(pg_catalog.<) 'Infinity'),
    ADD COLUMN reject real NOT NULL DEFAULT 0
        CHECK (reject OPERATOR(pg_catalog.>=) 0 AND reject OPERATOR(pg_catalog.<=) 1),
    ADD COLUMN likeness_model text,
    ADD COLUMN likeness_sha256 bytea,
    ADD COLUMN tag_threshold real NOT NULL DEFAULT 0.5
        CHECK (tag_threshold OPERATOR(pg_catalog.>=) 0 AND tag_threshold OPERATOR(pg_catalog.<=) 1);
GRANT INSERT (probability_temperature, likeness_model, likeness_sha256, reject, tag_threshold),
      UPDATE (probability_temperature, likeness_model, likeness_sha256, reject, tag_threshold)
    ON susx.classifier TO PUBLIC;
COMMENT ON TABLE susx.classifier IS 'Settings of every classifier; change them with alter_classifier';
COMMENT ON COLUMN susx.classifier.likeness_model IS
    'Model of the likeness vectors, by which images are compared; NULL: by their embeddings';
COMMENT ON COLUMN susx.classifier.likeness_sha256 IS
    'Digest of the files of that model when it was set';
COMMENT ON COLUMN susx.classifier.method IS
    'zero-shot, tip-adapter, tip-x, gated-tip-x, gda or likeness; NULL: likeness or gated-tip-x once there is a support set';
COMMENT ON COLUMN susx.classifier.lambda IS 'Weight of the discriminant, or of the likeness, beside the names';
COMMENT ON COLUMN susx.classifier.probability_temperature IS
    'What logits are divided by before they become probabilities';
COMMENT ON COLUMN susx.classifier.reject IS
    'Images whose chance of showing any of the categories is below this get no label; 0: never';
COMMENT ON COLUMN susx.classifier.tag_threshold IS
    'Categories that an image shows with at least this probability are its tags';

-- These functions take or return more than before; existing calls still work.
DROP FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text,
    double precision, double precision);
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
    "ridge" double precision DEFAULT NULL,
    "probability_temperature" double precision DEFAULT NULL,
    "reject" double precision DEFAULT NULL,
    "likeness_model" TEXT DEFAULT NULL,
    "tag_threshold" double precision DEFAULT NULL
) RETURNS VOID
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'alter_classifier_wrapper';
COMMENT ON FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text,
    double precision, double precision, double precision, double precision, text, double precision) IS
    'Change the settings of a classifier; NULL leaves one as it is';

DROP FUNCTION susx.create_classifier(text, text[], text[], text);
CREATE FUNCTION susx."create_classifier"(
    "name" TEXT,
    "categories" TEXT[],
    "templates" TEXT[] DEFAULT ARRAY['a photo of a {}.'],
    "model" TEXT DEFAULT NULL,
    "likeness_model" TEXT DEFAULT NULL
) RETURNS regclass
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'create_classifier_from_names_wrapper';
COMMENT ON FUNCTION susx.create_classifier(text, text[], text[], text, text) IS
    'Create the table of a classifier from category names; label works at once, and build_support_set improves it';

DROP FUNCTION susx.add_support(regclass, text, vector[]);
CREATE FUNCTION susx."add_support"(
    "classifier" regclass,
    "category" TEXT,
    "embeddings" vector[],
    "likenesses" vector[] DEFAULT NULL
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_support_vectors_wrapper';
COMMENT ON FUNCTION susx.add_support(regclass, text, vector[], vector[]) IS
    'Add labelled images to the support set of a category, as embeddings and likeness vectors';

DROP FUNCTION susx.build_support_set(regclass, regclass, integer, text, text, text, text, boolean);
CREATE FUNCTION susx."build_support_set"(
    "classifier" regclass,
    "pool" regclass,
    "per_class" INT DEFAULT 32,
    "prompting" TEXT DEFAULT 'photo',
    "embedding_column" TEXT DEFAULT 'embedding',
    "image_column" TEXT DEFAULT NULL,
    "key_column" TEXT DEFAULT NULL,
    "exclusive" bool DEFAULT true,
    "likeness_column" TEXT DEFAULT NULL,
    "skip_duplicates" double precision DEFAULT NULL,
    "use_index" bool DEFAULT NULL
) RETURNS TABLE (
    "category" TEXT,
    "images" INT,
    "similarity" real,
    "reliability" real
)
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'build_support_set_wrapper';
COMMENT ON FUNCTION susx.build_support_set(
    regclass, regclass, integer, text, text, text, text, boolean, text, double precision, boolean) IS
    'Retrieve the support set from a table of unlabelled images, by the category names (SuS-LC)';

DROP FUNCTION susx.explain(regclass, vector, integer, text, integer);
CREATE FUNCTION susx."explain"(
    "classifier" regclass,
    "embedding" vector,
    "k" INT DEFAULT 3,
    "method" TEXT DEFAULT NULL,
    "support_rows" INT DEFAULT 3,
    "likeness" vector DEFAULT NULL
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
    "reliability" real,
    "claims" real,
    "gate" real,
    "familiarity" real,
    "trust" real
)
STABLE PARALLEL SAFE  COST 10000
LANGUAGE c
AS 'MODULE_PATHNAME', 'explain_vector_wrapper';
COMMENT ON FUNCTION susx.explain(regclass, vector, integer, text, integer, vector) IS
    'The terms of the scores of the k best categories of an embedding, and the support images that contribute most';

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
    "reliability" real,
    "claims" real,
    "gate" real,
    "familiarity" real,
    "trust" real
)
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'explain_image_wrapper';
COMMENT ON FUNCTION susx.explain(regclass, bytea, integer, text, integer) IS
    'The terms of the scores of the k best categories of an image file, and the support images that contribute most';

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
    "method" TEXT,
    "gated_tip_x" double precision,
    "probability_temperature" real,
    "calibration_error_before" double precision,
    "calibration_error" double precision,
    "reject" real,
    "likeness" double precision
)
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'tune_wrapper';
COMMENT ON FUNCTION susx.tune(regclass, text) IS
    'Find the best parameters on a query of labelled images, or on the support set, and store them';

-- Images that are of none of the categories.
CREATE FUNCTION susx."add_negatives"(
    "classifier" regclass,
    "names" TEXT[] DEFAULT NULL
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_negatives_by_name_wrapper';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[]) IS
    'Add names of things that are not categories; without names, adds common nouns';
CREATE FUNCTION susx."add_negatives"(
    "classifier" regclass,
    "names" TEXT[],
    "text_embeddings" vector[]
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_negatives_by_vector_wrapper';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[], vector[]) IS
    'Add names of things that are not categories, with their text embeddings';
CREATE FUNCTION susx."known"(
    "classifier" regclass,
    "embedding" vector,
    "likeness" vector DEFAULT NULL
) RETURNS real
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'known_vector_wrapper';
COMMENT ON FUNCTION susx.known(regclass, vector, vector) IS
    'Estimate the probability, 0 to 1, that an embedding shows any of the categories';
CREATE FUNCTION susx."known"(
    "classifier" regclass,
    "image" bytea
) RETURNS real
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'known_image_wrapper';
COMMENT ON FUNCTION susx.known(regclass, bytea) IS
    'Estimate the probability, 0 to 1, that an image file shows any of the categories';
CREATE FUNCTION susx."suggest_reject"(
    "classifier" regclass,
    "pool" regclass,
    "embedding_column" TEXT DEFAULT 'embedding',
    "likeness_column" TEXT DEFAULT NULL
) RETURNS real
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'suggest_reject_wrapper';
COMMENT ON FUNCTION susx.suggest_reject(regclass, regclass, text, text) IS
    'Suggest a value for the setting reject, from the images of a table; changes nothing';

-- Several labels per image.
CREATE FUNCTION susx."tags"(
    "classifier" regclass,
    "embedding" vector,
    "min_probability" double precision DEFAULT NULL,
    "likeness" vector DEFAULT NULL
) RETURNS TEXT[]
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'tags_of_vector_wrapper';
COMMENT ON FUNCTION susx.tags(regclass, vector, double precision, vector) IS
    'All categories that an embedding shows, each judged on its own, the most likely first';
CREATE FUNCTION susx."tags"(
    "classifier" regclass,
    "image" bytea,
    "min_probability" double precision DEFAULT NULL
) RETURNS TEXT[]
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'tags_of_image_wrapper';
COMMENT ON FUNCTION susx.tags(regclass, bytea, double precision) IS
    'All categories that an image file shows, each judged on its own, the most likely first';
CREATE FUNCTION susx."tag_probabilities"(
    "classifier" regclass,
    "embedding" vector,
    "likeness" vector DEFAULT NULL
) RETURNS TABLE (
    "category" TEXT,
    "probability" real
)
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'tag_probabilities_of_vector_wrapper';
COMMENT ON FUNCTION susx.tag_probabilities(regclass, vector, vector) IS
    'For each category, the probability that an embedding shows it, each judged on its own';
CREATE FUNCTION susx."tag_probabilities"(
    "classifier" regclass,
    "image" bytea
) RETURNS TABLE (
    "category" TEXT,
    "probability" real
)
STABLE PARALLEL SAFE  COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'tag_probabilities_of_image_wrapper';
COMMENT ON FUNCTION susx.tag_probabilities(regclass, bytea) IS
    'For each category, the probability that an image file shows it, each judged on its own';

-- The answers tell how likely an image is to be of any category.
DROP FUNCTION susx.classify(regclass, vector, integer, text);
CREATE FUNCTION susx."classify"(
    "classifier" regclass,
    "embedding" vector,
    "k" INT DEFAULT 1,
    "method" TEXT DEFAULT NULL,
    "likeness" vector DEFAULT NULL
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
COMMENT ON FUNCTION susx.classify(regclass, vector, integer, text, vector) IS
    'The k most likely categories of an embedding, with scores and probabilities';

CREATE FUNCTION susx."label"(
    "classifier" regclass,
    "embedding" vector,
    "likeness" vector,
    "method" TEXT DEFAULT NULL
) RETURNS TEXT
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'label_vectors_wrapper';
COMMENT ON FUNCTION susx.label(regclass, vector, vector, text) IS
    'The most likely category of an embedding with a likeness vector; NULL if it is rejected';

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
    'The k most likely categories of an image file, with scores and probabilities';

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
    'The k most likely categories of each row of a query that returns keys and images or embeddings; key sets the type of the keys';

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
    'The k most likely categories of each row of a query that returns bigint keys and images or embeddings';

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
    "rejected" bigint,
    "none" bigint
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION susx.evaluate(regclass, text, text) IS
    'Accuracy, precision, recall and calibration error on a query of labelled images';

CREATE FUNCTION susx."calibration"(
    "classifier" regclass,
    "labelled_query" TEXT,
    "method" TEXT DEFAULT NULL,
    "bins" INT DEFAULT 15
) RETURNS TABLE (
    "bin" INT,
    "low" double precision,
    "high" double precision,
    "n" bigint,
    "probability" double precision,
    "accuracy" double precision
)
STABLE PARALLEL UNSAFE  COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'calibration_wrapper';
COMMENT ON FUNCTION susx.calibration(regclass, text, text, integer) IS
    'Compare probabilities with the share of correct labels, on a query of labelled images';

-- The file, precision and operator set of each encoder.
DROP FUNCTION susx.models();
CREATE FUNCTION susx."models"() RETURNS TABLE (
    "name" TEXT,
    "kind" TEXT,
    "dimensions" INT,
    "image_size" INT,
    "provider" TEXT,
    "loaded" bool,
    "bytes" bigint,
    "error" TEXT,
    "vision_file" TEXT,
    "vision_precision" TEXT,
    "vision_opset" INT,
    "text_file" TEXT,
    "text_precision" TEXT,
    "text_opset" INT,
    "note" TEXT,
    "logit_scale" real,
    "logit_bias" real
)
STRICT VOLATILE PARALLEL RESTRICTED
LANGUAGE c
AS 'MODULE_PATHNAME', 'models_wrapper';
COMMENT ON FUNCTION susx.models() IS
    'Models in susx.model_dir, with the files used and, if a model is loaded, its execution provider';

-- Which images of a table are nearly the same, and which to look at first.
CREATE FUNCTION susx."duplicates"(
    "pool" regclass,
    "threshold" double precision DEFAULT 0.96,
    "embedding_column" name DEFAULT 'embedding',
    "key_column" name DEFAULT NULL,
    "exact" bool DEFAULT NULL
) RETURNS TABLE (
    "group" INT,
    "key" TEXT,
    "similarity" real,
    "keep" bool
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'duplicates_wrapper';
COMMENT ON FUNCTION susx.duplicates(regclass, double precision, name, name, boolean) IS
    'Find groups of near-duplicates in a table of images, and which image of each group to keep';
CREATE FUNCTION susx."review_queue"(
    "classifier" regclass,
    "query" TEXT,
    "key" anyelement,
    "n" INT DEFAULT 20
) RETURNS TABLE (
    "key" anyelement,
    "reason" TEXT,
    "category" TEXT,
    "probability" real,
    "suggestion" TEXT,
    "priority" real,
    "alike" anyelement
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'review_queue_wrapper';
ALTER FUNCTION susx.review_queue(regclass, text, anyelement, integer) ROWS 20;
COMMENT ON FUNCTION susx.review_queue(regclass, text, anyelement, integer) IS
    'The rows of a query that are most worth checking, and why; key sets the type of the keys';
CREATE FUNCTION susx."review_queue"(
    "classifier" regclass,
    "query" TEXT,
    "n" INT DEFAULT 20
) RETURNS TABLE (
    "key" bigint,
    "reason" TEXT,
    "category" TEXT,
    "probability" real,
    "suggestion" TEXT,
    "priority" real,
    "alike" bigint
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'review_bigint_queue_wrapper';
ALTER FUNCTION susx.review_queue(regclass, text, integer) ROWS 20;
COMMENT ON FUNCTION susx.review_queue(regclass, text, integer) IS
    'The rows of a query with bigint keys that are most worth checking, and why';
-- Labels that stay up to date.
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
COMMENT ON TABLE susx.refreshed_column IS
    'Up to which transaction embed_table with refresh has compared embeddings with images; only susx writes to this table';
COMMENT ON COLUMN susx.refreshed_column.relation IS 'Table of images, or a partition';
COMMENT ON COLUMN susx.refreshed_column.image_column IS 'Number (attnum) of the image column';
COMMENT ON COLUMN susx.refreshed_column.embedding_column IS 'Number (attnum) of the embedding column';
COMMENT ON COLUMN susx.refreshed_column.checked_before IS
    'Rows written by transactions before this one have the embedding of their current image';

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
    DELETE FROM susx.row_label r
    USING susx.labelling l, pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND l.relation = d.objid AND r.labelling = l.id;
    DELETE FROM susx.labelling l
    USING pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND l.relation = d.objid;
    DELETE FROM susx.refreshed_column r
    USING pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND r.relation = d.objid;
    UPDATE susx.labelling l SET classifier = 0
    FROM pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND l.classifier = d.objid;
END
$$;

CREATE PROCEDURE susx.label_table(
    rel regclass,
    classifier regclass,
    label_column name DEFAULT 'label',
    probability_column name DEFAULT NULL,
    known_column name DEFAULT NULL,
    embedding_column name DEFAULT 'embedding',
    likeness_column name DEFAULT NULL,
    method text DEFAULT NULL,
    batch_size integer DEFAULT NULL,
    only_new boolean DEFAULT false,
    first_key text DEFAULT NULL,
    last_key text DEFAULT NULL
) LANGUAGE c AS 'MODULE_PATHNAME', 'label_table_wrapper';
COMMENT ON PROCEDURE susx.label_table(
    regclass, regclass, name, name, name, name, name, text, integer, boolean, text, text) IS
    'Label a table of images and keep its labels up to date, with a COMMIT per batch';
CREATE FUNCTION susx."label_counts"(
    "rel" regclass,
    "label_column" name DEFAULT 'label'
) RETURNS TABLE (
    "labelled" bigint,
    "outdated" bigint,
    "rejected" bigint,
    "corrected" bigint,
    "unlabelled" bigint
)
STABLE PARALLEL UNSAFE  COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'label_counts_wrapper';
COMMENT ON FUNCTION susx.label_counts(regclass, name) IS
    'How many labels of a column are up to date, outdated or corrected; reads the whole table';
CREATE FUNCTION susx.label_on_write() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'label_on_write_wrapper';
COMMENT ON FUNCTION susx.label_on_write() IS
    'Statement trigger for a table of images: labels rows without a label and rows whose vectors have changed';
CREATE FUNCTION susx."correct"(
    "classifier" regclass,
    "rel" regclass,
    "key" TEXT,
    "category" TEXT,
    "label_column" name DEFAULT 'label',
    "undo" bool DEFAULT false
) RETURNS TEXT
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'correct_wrapper';
COMMENT ON FUNCTION susx.correct(regclass, regclass, text, text, name, boolean) IS
    'Set the right label of a row, and add the row to the support set as a labelled example';

CREATE VIEW susx.label_column WITH (security_invoker = true) AS
    SELECT l.relation, l.label_column, l.classifier, l.method, c.labelled, c.outdated, c.rejected, c.corrected,
           c.unlabelled
    FROM susx.labelling l LEFT JOIN LATERAL susx.label_counts(l.relation, l.label_column) c ON true;
GRANT SELECT ON susx.label_column TO PUBLIC;

COMMENT ON VIEW susx.label_column IS
    'Columns that susx labels, and how many of their labels are up to date; a query reads the whole tables and the classifiers';
COMMENT ON COLUMN susx.label_column.relation IS 'Table of images, as named in the call';
COMMENT ON COLUMN susx.label_column.label_column IS 'Column of labels';
COMMENT ON COLUMN susx.label_column.classifier IS 'Classifier of the labels; - if it was dropped';
COMMENT ON COLUMN susx.label_column.method IS 'Method that the call named; NULL: the classifier''s own';
COMMENT ON COLUMN susx.label_column.labelled IS 'Rows whose label is up to date';
COMMENT ON COLUMN susx.label_column.outdated IS
    'Rows whose label was made with an earlier state of the classifier, or from other vectors';
COMMENT ON COLUMN susx.label_column.rejected IS
    'Rows without a label because they show none of the categories';
COMMENT ON COLUMN susx.label_column.corrected IS
    'Rows whose label susx did not write; susx does not change it';
COMMENT ON COLUMN susx.label_column.unlabelled IS 'All other rows without a label';
COMMENT ON SEQUENCE susx.labelling_id_seq IS 'Numbers for susx.labelling.id';
COMMENT ON TABLE susx.labelling IS
    'How the labels of a column are made, as recorded by label_table and label_on_write';
COMMENT ON COLUMN susx.labelling.id IS 'Number of the column in susx.row_label';
COMMENT ON COLUMN susx.labelling.relation IS 'Table of images, as named in the call';
COMMENT ON COLUMN susx.labelling.label_column IS 'Column of labels';
COMMENT ON COLUMN susx.labelling.classifier IS 'Classifier of the labels; 0 if it was dropped';
COMMENT ON COLUMN susx.labelling.method IS 'Method that the call named; NULL: the classifier''s own';
COMMENT ON COLUMN susx.labelling.state IS
    'Digest of everything the labels depend on, at the last call of label_table';
COMMENT ON COLUMN susx.labelling.embedding_column IS 'Column of embeddings';
COMMENT ON COLUMN susx.labelling.likeness_column IS 'Column of likeness vectors; NULL: none';
COMMENT ON COLUMN susx.labelling.probability_column IS
    'Column for the probabilities of the labels; NULL: none';
COMMENT ON COLUMN susx.labelling.known_column IS 'Column for the score known; NULL: none';
COMMENT ON TABLE susx.row_label IS 'What susx last wrote to each row; only susx writes to this table';
COMMENT ON COLUMN susx.row_label.labelling IS 'Number of the column in susx.labelling';
COMMENT ON COLUMN susx.row_label.key IS
    'Primary key of the row; a record as text if the key has several columns';
COMMENT ON COLUMN susx.row_label.version IS
    'Digest of the classifier and the row''s vectors; NULL: the label was removed together with the embedding';
COMMENT ON COLUMN susx.row_label.label IS 'The label that susx wrote; NULL: none';
COMMENT ON COLUMN susx.row_label.is_corrected IS 'Whether susx.correct was called for the row';
CREATE FUNCTION susx."report"(
    "classifier" regclass,
    "query" TEXT,
    "title" TEXT DEFAULT NULL,
    "thumbnails_per_category" INT DEFAULT 24,
    "size" INT DEFAULT 160,
    "method" TEXT DEFAULT NULL
) RETURNS TEXT
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'report_wrapper';
COMMENT ON FUNCTION susx.report(regclass, text, text, integer, integer, text) IS
    'Label the rows of a query and return an HTML page with their images';

CREATE FUNCTION susx."image_info"(
    "image" bytea
) RETURNS TABLE (
    "format" TEXT,
    "width" INT,
    "height" INT,
    "orientation" INT,
    "frames" INT,
    "mode" TEXT,
    "bytes" bigint,
    "error" TEXT
)
STABLE PARALLEL SAFE COST 10000
LANGUAGE c
AS 'MODULE_PATHNAME', 'image_info_wrapper';
COMMENT ON FUNCTION susx.image_info(bytea) IS
    'Read format, size and colour mode from the header of an image file, or why it cannot be read';
ALTER FUNCTION susx.image_info(bytea) ROWS 1;

CREATE FUNCTION susx."thumbnail"(
    "image" bytea,
    "size" INT DEFAULT 160,
    "format" TEXT DEFAULT 'jpeg'
) RETURNS bytea
STABLE PARALLEL SAFE COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'thumbnail_wrapper';
COMMENT ON FUNCTION susx.thumbnail(bytea, integer, text) IS
    'Make a small copy of an image file, as JPEG or PNG';

CREATE FUNCTION susx."contact_sheet"(
    "query" TEXT,
    "columns" INT DEFAULT 8,
    "size" INT DEFAULT 160
) RETURNS bytea
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'contact_sheet_wrapper';
COMMENT ON FUNCTION susx.contact_sheet(text, integer, integer) IS
    'Make a PNG with thumbnails of the images of a query and their labels';

COMMENT ON COLUMN susx.stat_progress.phase IS
    'preparing, reading, embedding, classifying, searching, generating, writing or making thumbnails';

-- How many rows the planner expects.
CREATE FUNCTION susx.classify_support(internal) RETURNS internal
    LANGUAGE c STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'classify_support_wrapper';
COMMENT ON FUNCTION susx.classify_support(internal) IS
    'Planner support function: estimates how many rows classify and explain return';
ALTER FUNCTION susx.classify(regclass, vector, integer, text, vector) SUPPORT susx.classify_support ROWS 5;
ALTER FUNCTION susx.classify(regclass, bytea, integer, text) SUPPORT susx.classify_support ROWS 5;
ALTER FUNCTION susx.explain(regclass, vector, integer, text, integer, vector) SUPPORT susx.classify_support ROWS 9;
ALTER FUNCTION susx.explain(regclass, bytea, integer, text, integer) SUPPORT susx.classify_support ROWS 9;
ALTER FUNCTION susx.embed_images(bytea[], text) ROWS 100;
ALTER FUNCTION susx.embed_texts(text[], text) ROWS 100;
ALTER FUNCTION susx.build_support_set(
    regclass, regclass, integer, text, text, text, text, boolean, text, double precision, boolean) ROWS 20;
ALTER FUNCTION susx.evaluate(regclass, text, text) ROWS 20;
ALTER FUNCTION susx.confusion_matrix(regclass, text, text) ROWS 50;
ALTER FUNCTION susx.calibration(regclass, text, text, integer) ROWS 15;
ALTER FUNCTION susx.label_counts(regclass, name) ROWS 1;
ALTER FUNCTION susx.models() ROWS 5;
ALTER FUNCTION susx.stat_get_server() ROWS 1;

DROP PROCEDURE susx.embed_table(regclass, name, name, integer, text, text);
CREATE PROCEDURE susx.embed_table(
    rel regclass,
    image_column name DEFAULT 'image',
    embedding_column name DEFAULT 'embedding',
    batch_size integer DEFAULT NULL,
    model text DEFAULT NULL,
    on_error text DEFAULT 'record',
    refresh boolean DEFAULT false
) LANGUAGE c AS 'MODULE_PATHNAME', 'embed_table_wrapper';
COMMENT ON PROCEDURE susx.embed_table(regclass, name, name, integer, text, text, boolean) IS
    'Fill the NULL embeddings of a table of images, with a COMMIT per batch; refresh => true also embeds images that have changed';

-- Comments that 0.2.0 has in other words.
COMMENT ON VIEW susx.stat_server IS
    'The inference process: one row if it is running, otherwise none; counts are since it started';
COMMENT ON COLUMN susx.stat_server.status IS
    'answering, or not answering; then all other columns but pid are NULL, see susx.hang_timeout';
COMMENT ON COLUMN susx.stat_server.started IS 'Time when it started';
COMMENT ON COLUMN susx.stat_server.uptime IS 'Time since it started';
COMMENT ON COLUMN susx.stat_server.restarts IS
    'How often it was restarted, for any reason, since its supervisor started';
COMMENT ON COLUMN susx.stat_server.connections IS 'Sessions that are connected and have sent a request';
COMMENT ON COLUMN susx.stat_server.models IS
    'Loaded models, each with the execution provider it actually runs on, or with (loading) or (unloading)';
COMMENT ON COLUMN susx.stat_server.queue_inputs IS
    'Images, texts and prompts of generators that were received and not answered yet';
COMMENT ON COLUMN susx.stat_server.queue_bytes IS
    'Memory of these requests in bytes, limited by susx.queue_memory';
COMMENT ON COLUMN susx.stat_server.images IS 'Number of images that were embedded';
COMMENT ON COLUMN susx.stat_server.texts IS 'Number of texts that were embedded';
COMMENT ON COLUMN susx.stat_server.generated IS 'Number of images that were generated';
COMMENT ON COLUMN susx.stat_server.failed IS 'Number of images, texts and prompts of generators that failed';
COMMENT ON COLUMN susx.stat_server.batches IS
    'Number of batches of images and texts, including failed inputs; a batch of texts holds up to four times susx.batch_size and runs in parts of similar length';
COMMENT ON COLUMN susx.stat_server.images_per_second IS
    'Images embedded per second over the last ten seconds';
COMMENT ON COLUMN susx.stat_server.texts_per_second IS 'Texts embedded per second over the last ten seconds';
COMMENT ON COLUMN susx.stat_server.steps_per_second IS
    'Denoising steps of generators per second over the last ten seconds, counted per image';
COMMENT ON COLUMN susx.stat_server.batch_sizes IS
    'Number of batches with 1, 2, 3 to 4, 5 to 8, ... inputs, for example {"1": 7, "3-4": 2}; sizes that did not occur are omitted';
COMMENT ON COLUMN susx.stat_server.p50_ms IS
    'Median time from receiving a request for embeddings to the reply, in milliseconds, over the last one to two minutes';
COMMENT ON COLUMN susx.stat_server.p95_ms IS '95th percentile of the same time';
COMMENT ON COLUMN susx.stat_server.last_error IS
    'The last error of any session; NULL unless you are a member of pg_read_all_stats';
COMMENT ON COLUMN susx.stat_server.last_error_at IS 'Time of the last error';
COMMENT ON TABLE susx.errors IS
    'Rows whose image could not be embedded or whose vector could not be classified; they are tried again when the row changes, or after susx.forget_errors()';
COMMENT ON COLUMN susx.errors.relation IS 'Table of images, as named in the call';
COMMENT ON COLUMN susx.errors.embedding_column IS 'Column of embeddings or labels that could not be filled';
COMMENT ON COLUMN susx.errors.key IS
    'Primary key of the row; a record as text if the key has several columns';
COMMENT ON COLUMN susx.errors.message IS 'Why the row could not be embedded or labelled';
COMMENT ON COLUMN susx.errors.sqlstate IS 'SQLSTATE of this error';
COMMENT ON COLUMN susx.errors.row_version IS 'xmin of the row; if it is different now, the row has changed';
COMMENT ON COLUMN susx.errors."time" IS 'Time of the last attempt';
COMMENT ON TABLE susx.embedding_column IS
    'The model that made the embeddings of a column, as recorded by embed_table and embed_on_write';
COMMENT ON COLUMN susx.embedding_column.relation IS 'Table of images, as named in the call';
COMMENT ON COLUMN susx.embedding_column.embedding_column IS 'Column of embeddings';
COMMENT ON COLUMN susx.embedding_column.model IS 'Name of the model';
COMMENT ON COLUMN susx.embedding_column.model_sha256 IS 'Digest of the model''s files; NULL: not checked';
COMMENT ON FUNCTION susx.stat_get_server() IS 'Used by the view susx.stat_server; query that instead';
COMMENT ON FUNCTION susx.embed_image(bytea, text) IS 'Embed an image file; the result has unit length';
COMMENT ON FUNCTION susx.embed_text(text, text) IS 'Embed a text; the result has unit length';
COMMENT ON FUNCTION susx.embed_images(bytea[], text) IS
    'Embed many image files; one row each, with the embedding or an error';
COMMENT ON FUNCTION susx.embed_texts(text[], text) IS
    'Embed many texts; one row each, with the embedding or an error';
COMMENT ON FUNCTION susx.forget_errors(regclass, name, text) IS
    'Delete records from susx.errors, so that these rows are tried again; returns their number';
COMMENT ON FUNCTION susx.embed_on_write() IS
    'Statement trigger for a table of images: embeds rows that were inserted or whose image has changed';
COMMENT ON FUNCTION susx.add_prompts(regclass, jsonb) IS
    'Add sentences that describe the categories: {"category": ["sentence", ...], ...} (CuPL)';
COMMENT ON FUNCTION susx.add_support(regclass, text, bytea[]) IS
    'Add labelled images to the support set of a category, as image files';
COMMENT ON PROCEDURE susx.generate_support_set(
    regclass, text, integer, text, double precision, integer, bigint, boolean, text) IS
    'Generate the support set from the prompts with Stable Diffusion, with a COMMIT per category (SuS-SD)';
COMMENT ON FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) IS
    'Generate an image for each prompt; one row each, with the image or an error';
COMMENT ON FUNCTION susx.label(regclass, vector, text) IS
    'The most likely category of an embedding; NULL if it is rejected';
COMMENT ON FUNCTION susx.label(regclass, bytea, text) IS
    'The most likely category of an image file; NULL if it is rejected';
COMMENT ON FUNCTION susx.confusion_matrix(regclass, text, text) IS
    'Count labelled images by true and predicted category';
COMMENT ON FUNCTION susx.classifier_changed() IS
    'Trigger for tables of classifiers: makes all sessions fit the classifier again';
COMMENT ON FUNCTION susx.embed_row() IS
    'Trigger for tables of classifiers: embeds the prompt or the image of a row without an embedding';
COMMENT ON FUNCTION susx.forget_dropped() IS
    'Event trigger function: deletes the settings of dropped classifiers and the records of dropped tables';
COMMENT ON EVENT TRIGGER susx_forget_dropped IS
    'Deletes the settings of dropped classifiers and the records of dropped tables';
COMMENT ON FUNCTION susx.stat_get_progress() IS 'Used by the view susx.stat_progress; query that instead';
COMMENT ON VIEW susx.stat_progress IS
    'Progress of long calls in all sessions; to see calls of other users, you need pg_read_all_stats';
COMMENT ON COLUMN susx.stat_progress.pid IS 'Process ID of the session';
COMMENT ON COLUMN susx.stat_progress.relation IS
    'Table or classifier that the call works on; NULL: none, or in another database';
COMMENT ON COLUMN susx.stat_progress.command IS 'Function or procedure';
COMMENT ON COLUMN susx.stat_progress.done IS
    'Rows done in this phase; if an index is searched, prompts; in generating, denoising steps';
COMMENT ON COLUMN susx.stat_progress.total IS
    'Number to do in this phase, for a query an estimate by the planner; NULL: unknown';
COMMENT ON COLUMN susx.stat_progress.failed IS 'Rows of this call that failed';
COMMENT ON COLUMN susx.stat_progress.started IS 'Time when the call started';
COMMENT ON COLUMN susx.stat_progress.rate IS 'Rows, prompts or steps done per second in this phase';
COMMENT ON COLUMN susx.stat_progress.estimated_end IS 'Estimated end of this phase';

CREATE FUNCTION susx."add_embedding_column"(
    "rel" regclass,
    "embedding_column" name DEFAULT 'embedding',
    "model" TEXT DEFAULT NULL
) RETURNS TEXT
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_embedding_column_wrapper';
COMMENT ON FUNCTION susx.add_embedding_column(regclass, name, text) IS
    'Add a column for the embeddings of a model to a table of images, unless it exists; returns its type';

CREATE FUNCTION susx."check"() RETURNS TABLE (
    "item" TEXT,
    "ok" bool,
    "detail" TEXT,
    "hint" TEXT
)
STRICT VOLATILE PARALLEL RESTRICTED
LANGUAGE c
AS 'MODULE_PATHNAME', 'check_wrapper';
COMMENT ON FUNCTION susx.check() IS
    'One row for each requirement of susx: whether it is met, and what to do';

CREATE FUNCTION susx."adopt_classifier"(
    "classifier" regclass
) RETURNS regclass
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'adopt_classifier_wrapper';
COMMENT ON FUNCTION susx.adopt_classifier(regclass) IS
    'Give the table of a classifier the triggers and the row of settings that it lacks: after a restore, or from an older version';

CREATE FUNCTION susx."distribute_classifier"(
    "classifier" regclass
) RETURNS VOID
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'distribute_classifier_wrapper';
COMMENT ON FUNCTION susx.distribute_classifier(regclass) IS
    'Make the table of a classifier a reference table of Citus, with its settings';
