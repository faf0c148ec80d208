-- When a classifier's settings change, what sessions have fitted of it is out of date.
CREATE TRIGGER settings_changed
    AFTER INSERT OR UPDATE OR DELETE ON susx.classifier
    FOR EACH ROW EXECUTE FUNCTION susx.settings_changed();
-- Also when logical replication changes them.
ALTER TABLE susx.classifier ENABLE ALWAYS TRIGGER settings_changed;
-- As a trigger of another table, the function would lock and invalidate any relation that the table names.
REVOKE EXECUTE ON FUNCTION susx.settings_changed() FROM PUBLIC;

-- Deletes a classifier's settings, and the records about a table of images, when the table is dropped in any way.
-- SECURITY DEFINER, for a role that drops a schema may have no rights to the tables in it. This is safe: PostgreSQL
-- itself tells which tables were dropped, only their rows are deleted, and only the event trigger can call the function.
CREATE FUNCTION susx.forget_dropped() RETURNS event_trigger
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
REVOKE EXECUTE ON FUNCTION susx.forget_dropped() FROM PUBLIC;
CREATE EVENT TRIGGER susx_forget_dropped ON sql_drop
    WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION')
    EXECUTE FUNCTION susx.forget_dropped();

CREATE VIEW susx.stat_server AS
    SELECT pid, status, started, clock_timestamp() - started AS uptime, restarts, version, connections, models,
           queue_inputs, queue_bytes, images, texts, generated, failed, batches, images_per_second,
           texts_per_second, steps_per_second, batch_sizes::jsonb AS batch_sizes, p50_ms, p95_ms, last_error,
           last_error_at
    FROM susx.stat_get_server();
GRANT SELECT ON susx.stat_server TO PUBLIC;

COMMENT ON VIEW susx.stat_server IS
    'The inference process: one row if it is running, otherwise none; counts are since it started';
COMMENT ON COLUMN susx.stat_server.pid IS 'Process id';
COMMENT ON COLUMN susx.stat_server.status IS
    'answering, or not answering; then all other columns but pid are NULL, see susx.hang_timeout';
COMMENT ON COLUMN susx.stat_server.started IS 'Time when it started';
COMMENT ON COLUMN susx.stat_server.uptime IS 'Time since it started';
COMMENT ON COLUMN susx.stat_server.restarts IS
    'How often it was restarted, for any reason, since its supervisor started';
COMMENT ON COLUMN susx.stat_server.version IS 'Version of the program susx-server';
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

COMMENT ON TABLE susx.classifier IS 'Settings of every classifier; change them with alter_classifier';
COMMENT ON COLUMN susx.classifier.classifier IS 'The table with the prompts and the support images';
COMMENT ON COLUMN susx.classifier.model IS 'Model that embeds images for it; NULL: it classifies vectors only';
COMMENT ON COLUMN susx.classifier.model_sha256 IS 'Digest of the files of that model when the classifier was made';
COMMENT ON COLUMN susx.classifier.likeness_model IS
    'Model of the likeness vectors, by which images are compared; NULL: by their embeddings';
COMMENT ON COLUMN susx.classifier.likeness_sha256 IS
    'Digest of the files of that model when it was set';
COMMENT ON COLUMN susx.classifier.method IS
    'zero-shot, tip-adapter, tip-x, gated-tip-x, gda or likeness; NULL: likeness or gated-tip-x once there is a support set';
COMMENT ON COLUMN susx.classifier.alpha IS 'Weight of the cache term';
COMMENT ON COLUMN susx.classifier.beta IS 'Sharpness of the affinities in the cache term';
COMMENT ON COLUMN susx.classifier.gamma IS 'Weight of the KL term';
COMMENT ON COLUMN susx.classifier.temperature IS 'Softens the category distributions that the KL term compares';
COMMENT ON COLUMN susx.classifier.logit_scale IS 'Factor of the cosines in zero-shot logits';
COMMENT ON COLUMN susx.classifier.lambda IS 'Weight of the discriminant, or of the likeness, beside the names';
COMMENT ON COLUMN susx.classifier.ridge IS
    'What is added to the diagonal of the discriminant''s covariance, as a multiple of its mean';
COMMENT ON COLUMN susx.classifier.probability_temperature IS
    'What logits are divided by before they become probabilities';
COMMENT ON COLUMN susx.classifier.reject IS
    'Images whose chance of showing any of the categories is below this get no label; 0: never';
COMMENT ON COLUMN susx.classifier.tag_threshold IS
    'Categories that an image shows with at least this probability are its tags';

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

COMMENT ON FUNCTION susx.library_version() IS
    'Version of the library that this session has loaded; \dx shows the version of the extension in the database';
COMMENT ON FUNCTION susx.models() IS
    'Models in susx.model_dir, with the files used and, if a model is loaded, its execution provider';
COMMENT ON FUNCTION susx.stat_get_server() IS 'Used by the view susx.stat_server; query that instead';
COMMENT ON FUNCTION susx.embed_image(bytea, text) IS 'Embed an image file; the result has unit length';
COMMENT ON FUNCTION susx.embed_text(text, text) IS 'Embed a text; the result has unit length';
COMMENT ON FUNCTION susx.embed_images(bytea[], text) IS
    'Embed many image files; one row each, with the embedding or an error';
COMMENT ON FUNCTION susx.embed_texts(text[], text) IS
    'Embed many texts; one row each, with the embedding or an error';
COMMENT ON PROCEDURE susx.embed_table(regclass, name, name, integer, text, text, boolean) IS
    'Fill the NULL embeddings of a table of images, with a COMMIT per batch; refresh => true also embeds images that have changed';
COMMENT ON FUNCTION susx.add_embedding_column(regclass, name, text) IS
    'Add a column for the embeddings of a model to a table of images, unless it exists; returns its type';
COMMENT ON FUNCTION susx.check() IS
    'One row for each requirement of susx: whether it is met, and what to do';
COMMENT ON FUNCTION susx.forget_errors(regclass, name, text) IS
    'Delete records from susx.errors, so that these rows are tried again; returns their number';
COMMENT ON FUNCTION susx.embed_on_write() IS
    'Statement trigger for a table of images: embeds rows that were inserted or whose image has changed';
COMMENT ON FUNCTION susx.create_classifier(text, text[], text[], text, text) IS
    'Create the table of a classifier from category names; label works at once, and build_support_set improves it';
COMMENT ON FUNCTION susx.create_classifier(text, text[], vector[]) IS
    'Create the table of a classifier from one text embedding per category; no model is needed';
COMMENT ON FUNCTION susx.adopt_classifier(regclass) IS
    'Give the table of a classifier the triggers and the row of settings that it lacks: after a restore, or from an older version';
COMMENT ON FUNCTION susx.distribute_classifier(regclass) IS
    'Make the table of a classifier a reference table of Citus, with its settings';
COMMENT ON FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text,
    double precision, double precision, double precision, double precision, text, double precision) IS
    'Change the settings of a classifier; NULL leaves one as it is';
COMMENT ON FUNCTION susx.add_prompts(regclass, jsonb) IS
    'Add sentences that describe the categories: {"category": ["sentence", ...], ...} (CuPL)';
COMMENT ON FUNCTION susx.add_support(regclass, text, vector[], vector[]) IS
    'Add labelled images to the support set of a category, as embeddings and likeness vectors';
COMMENT ON FUNCTION susx.add_support(regclass, text, bytea[]) IS
    'Add labelled images to the support set of a category, as image files';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[]) IS
    'Add names of things that are not categories; without names, adds common nouns';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[], vector[]) IS
    'Add names of things that are not categories, with their text embeddings';
COMMENT ON FUNCTION susx.known(regclass, vector, vector) IS
    'Estimate the probability, 0 to 1, that an embedding shows any of the categories';
COMMENT ON FUNCTION susx.known(regclass, bytea) IS
    'Estimate the probability, 0 to 1, that an image file shows any of the categories';
COMMENT ON FUNCTION susx.suggest_reject(regclass, regclass, text, text) IS
    'Suggest a value for the setting reject, from the images of a table; changes nothing';
COMMENT ON FUNCTION susx.build_support_set(
    regclass, regclass, integer, text, text, text, text, boolean, text, double precision, boolean) IS
    'Retrieve the support set from a table of unlabelled images, by the category names (SuS-LC)';
COMMENT ON PROCEDURE susx.generate_support_set(
    regclass, text, integer, text, double precision, integer, bigint, boolean, text) IS
    'Generate the support set from the prompts with Stable Diffusion, with a COMMIT per category (SuS-SD)';
COMMENT ON FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) IS
    'Generate an image for each prompt; one row each, with the image or an error';
COMMENT ON FUNCTION susx.classify(regclass, vector, integer, text, vector) IS
    'The k most likely categories of an embedding, with scores and probabilities';
COMMENT ON FUNCTION susx.classify(regclass, bytea, integer, text) IS
    'The k most likely categories of an image file, with scores and probabilities';
COMMENT ON FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text) IS
    'The k most likely categories of each row of a query that returns keys and images or embeddings; key sets the type of the keys';
COMMENT ON FUNCTION susx.classify_rows(regclass, text, integer, text) IS
    'The k most likely categories of each row of a query that returns bigint keys and images or embeddings';
COMMENT ON FUNCTION susx.duplicates(regclass, double precision, name, name, boolean) IS
    'Find groups of near-duplicates in a table of images, and which image of each group to keep';
COMMENT ON FUNCTION susx.review_queue(regclass, text, anyelement, integer) IS
    'The rows of a query that are most worth checking, and why; key sets the type of the keys';
COMMENT ON FUNCTION susx.review_queue(regclass, text, integer) IS
    'The rows of a query with bigint keys that are most worth checking, and why';
COMMENT ON FUNCTION susx.label(regclass, vector, text) IS
    'The most likely category of an embedding; NULL if it is rejected';
COMMENT ON FUNCTION susx.label(regclass, vector, vector, text) IS
    'The most likely category of an embedding with a likeness vector; NULL if it is rejected';
COMMENT ON FUNCTION susx.label(regclass, bytea, text) IS
    'The most likely category of an image file; NULL if it is rejected';
COMMENT ON FUNCTION susx.tags(regclass, vector, double precision, vector) IS
    'All categories that an embedding shows, each judged on its own, the most likely first';
COMMENT ON FUNCTION susx.tags(regclass, bytea, double precision) IS
    'All categories that an image file shows, each judged on its own, the most likely first';
COMMENT ON FUNCTION susx.tag_probabilities(regclass, vector, vector) IS
    'For each category, the probability that an embedding shows it, each judged on its own';
COMMENT ON FUNCTION susx.tag_probabilities(regclass, bytea) IS
    'For each category, the probability that an image file shows it, each judged on its own';
COMMENT ON PROCEDURE susx.label_table(
    regclass, regclass, name, name, name, name, name, text, integer, boolean, text, text) IS
    'Label a table of images and keep its labels up to date, with a COMMIT per batch';
COMMENT ON FUNCTION susx.label_counts(regclass, name) IS
    'How many labels of a column are up to date, outdated or corrected; reads the whole table';
COMMENT ON FUNCTION susx.label_on_write() IS
    'Statement trigger for a table of images: labels rows without a label and rows whose vectors have changed';
COMMENT ON FUNCTION susx.correct(regclass, regclass, text, text, name, boolean) IS
    'Set the right label of a row, and add the row to the support set as a labelled example';
COMMENT ON FUNCTION susx.explain(regclass, vector, integer, text, integer, vector) IS
    'The terms of the scores of the k best categories of an embedding, and the support images that contribute most';
COMMENT ON FUNCTION susx.explain(regclass, bytea, integer, text, integer) IS
    'The terms of the scores of the k best categories of an image file, and the support images that contribute most';
COMMENT ON FUNCTION susx.tune(regclass, text) IS
    'Find the best parameters on a query of labelled images, or on the support set, and store them';
COMMENT ON FUNCTION susx.evaluate(regclass, text, text) IS
    'Accuracy, precision, recall and calibration error on a query of labelled images';
COMMENT ON FUNCTION susx.image_info(bytea) IS
    'Read format, size and colour mode from the header of an image file, or why it cannot be read';
COMMENT ON FUNCTION susx.thumbnail(bytea, integer, text) IS
    'Make a small copy of an image file, as JPEG or PNG';
COMMENT ON FUNCTION susx.contact_sheet(text, integer, integer) IS
    'Make a PNG with thumbnails of the images of a query and their labels';
COMMENT ON FUNCTION susx.report(regclass, text, text, integer, integer, text) IS
    'Label the rows of a query and return an HTML page with their images';
COMMENT ON FUNCTION susx.calibration(regclass, text, text, integer) IS
    'Compare probabilities with the share of correct labels, on a query of labelled images';
COMMENT ON FUNCTION susx.confusion_matrix(regclass, text, text) IS
    'Count labelled images by true and predicted category';
COMMENT ON FUNCTION susx.classifier_changed() IS
    'Trigger for tables of classifiers: makes all sessions fit the classifier again';
COMMENT ON FUNCTION susx.embed_row() IS
    'Trigger for tables of classifiers: embeds the prompt or the image of a row without an embedding';
COMMENT ON FUNCTION susx.classify_support(internal) IS
    'Planner support function: estimates how many rows classify and explain return';
COMMENT ON FUNCTION susx.settings_changed() IS
    'Trigger of susx.classifier: lets every session fit the classifier anew';
COMMENT ON FUNCTION susx.forget_dropped() IS
    'Event trigger function: deletes the settings of dropped classifiers and the records of dropped tables';
COMMENT ON EVENT TRIGGER susx_forget_dropped IS
    'Deletes the settings of dropped classifiers and the records of dropped tables';

-- How many rows the planner expects. The support function knows it where k is a constant.
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
ALTER FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text) ROWS 10000;
ALTER FUNCTION susx.classify_rows(regclass, text, integer, text) ROWS 10000;
ALTER FUNCTION susx.review_queue(regclass, text, anyelement, integer) ROWS 20;
ALTER FUNCTION susx.review_queue(regclass, text, integer) ROWS 20;
ALTER FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) ROWS 10;
ALTER FUNCTION susx.stat_get_progress() ROWS 10;
ALTER FUNCTION susx.image_info(bytea) ROWS 1;

-- The progress of long calls in all sessions.
CREATE VIEW susx.stat_progress AS
    SELECT p.pid, d.datname AS database, pg_catalog.pg_get_userbyid(p.usesysid) AS usename, p.relation,
           p.command, p.phase, p.done, p.total, p.failed, p.started, p.rate, p.estimated_end
    FROM susx.stat_get_progress() p
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;
GRANT SELECT ON susx.stat_progress TO PUBLIC;

COMMENT ON FUNCTION susx.stat_get_progress() IS 'Used by the view susx.stat_progress; query that instead';
COMMENT ON VIEW susx.stat_progress IS
    'Progress of long calls in all sessions; to see calls of other users, you need pg_read_all_stats';
COMMENT ON COLUMN susx.stat_progress.pid IS 'Process ID of the session';
COMMENT ON COLUMN susx.stat_progress.database IS 'Database of the session';
COMMENT ON COLUMN susx.stat_progress.usename IS 'User of the session';
COMMENT ON COLUMN susx.stat_progress.relation IS
    'Table or classifier that the call works on; NULL: none, or in another database';
COMMENT ON COLUMN susx.stat_progress.command IS 'Function or procedure';
COMMENT ON COLUMN susx.stat_progress.phase IS 'preparing, reading, embedding, classifying, searching, generating, writing or making thumbnails';
COMMENT ON COLUMN susx.stat_progress.done IS
    'Rows done in this phase; if an index is searched, prompts; in generating, denoising steps';
COMMENT ON COLUMN susx.stat_progress.total IS
    'Number to do in this phase, for a query an estimate by the planner; NULL: unknown';
COMMENT ON COLUMN susx.stat_progress.failed IS 'Rows of this call that failed';
COMMENT ON COLUMN susx.stat_progress.started IS 'Time when the call started';
COMMENT ON COLUMN susx.stat_progress.rate IS 'Rows, prompts or steps done per second in this phase';
COMMENT ON COLUMN susx.stat_progress.estimated_end IS 'Estimated end of this phase';

-- The columns that susx labels.
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
COMMENT ON TABLE susx.refreshed_column IS
    'Up to which transaction embed_table with refresh has compared embeddings with images; only susx writes to this table';
COMMENT ON COLUMN susx.refreshed_column.relation IS 'Table of images, or a partition';
COMMENT ON COLUMN susx.refreshed_column.image_column IS 'Number (attnum) of the image column';
COMMENT ON COLUMN susx.refreshed_column.embedding_column IS 'Number (attnum) of the embedding column';
COMMENT ON COLUMN susx.refreshed_column.checked_before IS
    'Rows written by transactions before this one have the embedding of their current image';
