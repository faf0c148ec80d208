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
    ADD COLUMN likeness_sha256 bytea;
GRANT INSERT (probability_temperature, likeness_model, likeness_sha256, reject),
      UPDATE (probability_temperature, likeness_model, likeness_sha256, reject)
    ON susx.classifier TO PUBLIC;
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
    "likeness_model" TEXT DEFAULT NULL
) RETURNS VOID
VOLATILE PARALLEL UNSAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'alter_classifier_wrapper';
COMMENT ON FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text,
    double precision, double precision, double precision, double precision, text) IS
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
    'Create the table of a classifier from category names; zero-shot works at once';

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
    'Add labelled images, by their embeddings and likeness vectors, to the support set of a category';

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
    "skip_duplicates" double precision DEFAULT NULL
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
    regclass, regclass, integer, text, text, text, text, boolean, text, double precision) IS
    'Retrieve the support set from a table of unlabelled images, by the category names alone (SuS-LC)';

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
    'Find the best parameters on a query of labelled images, or on the support set itself, and store them';

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
    "embedding" vector,
    "likeness" vector DEFAULT NULL
) RETURNS real
STABLE PARALLEL SAFE  COST 1000
LANGUAGE c
AS 'MODULE_PATHNAME', 'known_vector_wrapper';
COMMENT ON FUNCTION susx.known(regclass, vector, vector) IS
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
    "embedding_column" TEXT DEFAULT 'embedding',
    "likeness_column" TEXT DEFAULT NULL
) RETURNS real
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'suggest_reject_wrapper';
COMMENT ON FUNCTION susx.suggest_reject(regclass, regclass, text, text) IS
    'A value for the parameter reject that divides the images of a table best; changes nothing';

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
    'The k best categories of an embedding with their scores and probabilities';

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
    'The best category of an embedding with a likeness vector';

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
    "rejected" bigint,
    "none" bigint
)
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION susx.evaluate(regclass, text, text) IS
    'How right a classifier is on a query of images or embeddings with their categories';

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
    'How often a classifier is right on a query of labelled images, by the probability that it gives';

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
    'Groups of near-duplicates in a table of images, and which image of each to keep';
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
    'Which rows of a query to look at first, and why; key gives the keys'' type';
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
    'Which rows of a query of bigint keys to look at first, and why';
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
    'Label a table of images and bring its labels up to date, with a COMMIT per batch';
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
    'Statement trigger of a table of images: labels the rows without a label, or with other vectors';
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
    'Give a row its right label, and the classifier the row''s image as an example of it';

CREATE VIEW susx.label_column WITH (security_invoker = true) AS
    SELECT l.relation, l.label_column, l.classifier, l.method, c.labelled, c.outdated, c.rejected, c.corrected,
           c.unlabelled
    FROM susx.labelling l LEFT JOIN LATERAL susx.label_counts(l.relation, l.label_column) c ON true;
GRANT SELECT ON susx.label_column TO PUBLIC;

COMMENT ON VIEW susx.label_column IS
    'Columns that susx labels, and how far they are up to date; counting reads the whole table, and the classifier';
COMMENT ON COLUMN susx.label_column.relation IS 'Table of images, as it was named in the call';
COMMENT ON COLUMN susx.label_column.label_column IS 'Column of its labels';
COMMENT ON COLUMN susx.label_column.classifier IS 'Classifier that labels it; -: it was dropped';
COMMENT ON COLUMN susx.label_column.method IS 'Method that was named in the call; NULL: the classifier''s own';
COMMENT ON COLUMN susx.label_column.labelled IS 'Rows whose label is up to date';
COMMENT ON COLUMN susx.label_column.outdated IS
    'Rows whose label was made by another state of the classifier, or from other vectors';
COMMENT ON COLUMN susx.label_column.rejected IS 'Rows without a label, because they show none of the categories';
COMMENT ON COLUMN susx.label_column.corrected IS 'Rows whose label somebody else wrote; susx leaves it';
COMMENT ON COLUMN susx.label_column.unlabelled IS 'All other rows without a label';
COMMENT ON SEQUENCE susx.labelling_id_seq IS 'Numbers of columns of labels';
COMMENT ON TABLE susx.labelling IS
    'What the labels of a column are made with, as label_table and label_on_write wrote down';
COMMENT ON COLUMN susx.labelling.id IS 'Number of the column in susx.row_label';
COMMENT ON COLUMN susx.labelling.relation IS 'Table of images, as it was named in the call';
COMMENT ON COLUMN susx.labelling.label_column IS 'Column of its labels';
COMMENT ON COLUMN susx.labelling.classifier IS 'Classifier that labels it; 0: it was dropped';
COMMENT ON COLUMN susx.labelling.method IS 'Method that was named in the call; NULL: the classifier''s own';
COMMENT ON COLUMN susx.labelling.state IS
    'Digest of everything that decides the labels, when label_table was called last';
COMMENT ON COLUMN susx.labelling.embedding_column IS 'Column of the embeddings that are classified';
COMMENT ON COLUMN susx.labelling.likeness_column IS 'Column of the likeness vectors; NULL: none';
COMMENT ON COLUMN susx.labelling.probability_column IS 'Column of the labels'' probabilities; NULL: none';
COMMENT ON COLUMN susx.labelling.known_column IS
    'Column of how likely rows are to be of any category; NULL: none';
COMMENT ON TABLE susx.row_label IS 'What susx wrote to rows last; only susx''s functions write it';
COMMENT ON COLUMN susx.row_label.labelling IS 'Number of the column in susx.labelling';
COMMENT ON COLUMN susx.row_label.key IS 'Primary key of the row; of several columns, as text of a record';
COMMENT ON COLUMN susx.row_label.version IS
    'Digest of the classifier and the row''s vectors; NULL: the label was taken away with the embedding';
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
    'Page of HTML to look at the labels of the rows of a query';

CREATE FUNCTION susx."thumbnail"(
    "image" bytea,
    "size" INT DEFAULT 160,
    "format" TEXT DEFAULT 'jpeg'
) RETURNS bytea
STABLE PARALLEL SAFE COST 100000
LANGUAGE c
AS 'MODULE_PATHNAME', 'thumbnail_wrapper';
COMMENT ON FUNCTION susx.thumbnail(bytea, integer, text) IS
    'Small copy of an image file, as JPEG or PNG';

CREATE FUNCTION susx."contact_sheet"(
    "query" TEXT,
    "columns" INT DEFAULT 8,
    "size" INT DEFAULT 160
) RETURNS bytea
STABLE PARALLEL UNSAFE COST 1000000
LANGUAGE c
AS 'MODULE_PATHNAME', 'contact_sheet_wrapper';
COMMENT ON FUNCTION susx.contact_sheet(text, integer, integer) IS
    'PNG file with thumbnails of the images of a query and their labels';

COMMENT ON COLUMN susx.stat_progress.phase IS
    'preparing, reading, embedding, classifying, searching, generating, writing or making thumbnails';
