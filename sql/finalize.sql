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

COMMENT ON TABLE susx.classifier IS
    'Settings of every classifier: model, method and the parameters of TIP-X and of the discriminant';
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

COMMENT ON TABLE susx.errors IS
    'Images that could not be embedded; they are tried again when their row changes, and after susx.forget_errors()';
COMMENT ON COLUMN susx.errors.relation IS 'Table of images, as it was named in the call';
COMMENT ON COLUMN susx.errors.embedding_column IS 'Column that stays NULL';
COMMENT ON COLUMN susx.errors.key IS 'Primary key of the row; of several columns, as text of a record';
COMMENT ON COLUMN susx.errors.message IS 'Why the image could not be embedded';
COMMENT ON COLUMN susx.errors.sqlstate IS 'Code of that error';
COMMENT ON COLUMN susx.errors.row_version IS 'xmin of the row: with another one it has changed since';
COMMENT ON COLUMN susx.errors."time" IS 'When it was tried last';

COMMENT ON TABLE susx.embedding_column IS
    'Which model made the embeddings of a column, as embed_table and embed_on_write wrote down';
COMMENT ON COLUMN susx.embedding_column.relation IS 'Table of images, as it was named in the call';
COMMENT ON COLUMN susx.embedding_column.embedding_column IS 'Column of its embeddings';
COMMENT ON COLUMN susx.embedding_column.model IS 'Name of that model';
COMMENT ON COLUMN susx.embedding_column.model_sha256 IS 'Digest of its files; NULL: any files of that name will do';

COMMENT ON FUNCTION susx.library_version() IS
    'Version of the library that this session has loaded; \dx shows the version of the extension in the database';
COMMENT ON FUNCTION susx.models() IS
    'Models below susx.model_dir, and the execution provider that the loaded ones really run on';
COMMENT ON FUNCTION susx.stat_get_server() IS
    'What the view susx.stat_server shows';
COMMENT ON FUNCTION susx.embed_image(bytea, text) IS
    'Embedding of an image file, of unit length';
COMMENT ON FUNCTION susx.embed_text(text, text) IS
    'Embedding of a text, of unit length';
COMMENT ON FUNCTION susx.embed_images(bytea[], text) IS
    'Embeddings of many image files; one that cannot be embedded costs one error';
COMMENT ON FUNCTION susx.embed_texts(text[], text) IS
    'Embeddings of many texts';
COMMENT ON PROCEDURE susx.embed_table(regclass, name, name, integer, text, text) IS
    'Fill the NULL embeddings of a table of images, with a COMMIT per batch';
COMMENT ON FUNCTION susx.forget_errors(regclass, name, text) IS
    'Delete records of images that could not be embedded, so that they are tried again; returns how many';
COMMENT ON FUNCTION susx.embed_on_write() IS
    'Statement trigger of a table of images: embeds the rows that were inserted, or whose image has changed';
COMMENT ON FUNCTION susx.create_classifier(text, text[], text[], text, text) IS
    'Create the table of a classifier from category names; zero-shot works at once';
COMMENT ON FUNCTION susx.create_classifier(text, text[], vector[]) IS
    'Create the table of a classifier from one text embedding per category; no model is needed';
COMMENT ON FUNCTION susx.alter_classifier(
    regclass, double precision, double precision, double precision, double precision, double precision, text, text,
    double precision, double precision, double precision, double precision, text) IS
    'Change the settings of a classifier; NULL leaves one as it is';
COMMENT ON FUNCTION susx.add_prompts(regclass, jsonb) IS
    'Add sentences that describe the categories, {"category": ["sentence", ...], ...} (CuPL)';
COMMENT ON FUNCTION susx.add_support(regclass, text, vector[], vector[]) IS
    'Add labelled images, by their embeddings and likeness vectors, to the support set of a category';
COMMENT ON FUNCTION susx.add_support(regclass, text, bytea[]) IS
    'Add labelled image files to the support set of a category';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[]) IS
    'Add names of things that are none of the categories, or common nouns where no names are given';
COMMENT ON FUNCTION susx.add_negatives(regclass, text[], vector[]) IS
    'Add names of things that are none of the categories, by their text embeddings';
COMMENT ON FUNCTION susx.known(regclass, vector, vector) IS
    'How likely an embedding is to be of any category, 0 to 1';
COMMENT ON FUNCTION susx.known(regclass, bytea) IS
    'How likely an image file is to be of any category, 0 to 1';
COMMENT ON FUNCTION susx.suggest_reject(regclass, regclass, text, text) IS
    'A value for the parameter reject that divides the images of a table best; changes nothing';
COMMENT ON FUNCTION susx.build_support_set(
    regclass, regclass, integer, text, text, text, text, boolean, text, double precision) IS
    'Retrieve the support set from a table of unlabelled images, by the category names alone (SuS-LC)';
COMMENT ON PROCEDURE susx.generate_support_set(
    regclass, text, integer, text, double precision, integer, bigint, boolean, text) IS
    'Generate the support set from the prompts by Stable Diffusion, with a COMMIT per category (SuS-SD)';
COMMENT ON FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) IS
    'Images that a generator makes of texts; a prompt of which it makes none costs one error';
COMMENT ON FUNCTION susx.classify(regclass, vector, integer, text, vector) IS
    'The k best categories of an embedding with their scores and probabilities';
COMMENT ON FUNCTION susx.classify(regclass, bytea, integer, text) IS
    'The k best categories of an image file with their scores and probabilities';
COMMENT ON FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text) IS
    'The k best categories of every row of a query of keys with images or embeddings; key gives the keys'' type';
COMMENT ON FUNCTION susx.classify_rows(regclass, text, integer, text) IS
    'The k best categories of every row of a query of bigint keys with images or embeddings';
COMMENT ON FUNCTION susx.duplicates(regclass, double precision, name, name, boolean) IS
    'Groups of near-duplicates in a table of images, and which image of each to keep';
COMMENT ON FUNCTION susx.review_queue(regclass, text, anyelement, integer) IS
    'Which rows of a query to look at first, and why; key gives the keys'' type';
COMMENT ON FUNCTION susx.review_queue(regclass, text, integer) IS
    'Which rows of a query of bigint keys to look at first, and why';
COMMENT ON FUNCTION susx.label(regclass, vector, text) IS
    'The best category of an embedding';
COMMENT ON FUNCTION susx.label(regclass, vector, vector, text) IS
    'The best category of an embedding with a likeness vector';
COMMENT ON FUNCTION susx.label(regclass, bytea, text) IS
    'The best category of an image file';
COMMENT ON PROCEDURE susx.label_table(
    regclass, regclass, name, name, name, name, name, text, integer, boolean, text, text) IS
    'Label a table of images and bring its labels up to date, with a COMMIT per batch';
COMMENT ON FUNCTION susx.label_counts(regclass, name) IS
    'How many labels of a column are up to date, outdated or corrected; reads the whole table';
COMMENT ON FUNCTION susx.label_on_write() IS
    'Statement trigger of a table of images: labels the rows without a label, or with other vectors';
COMMENT ON FUNCTION susx.correct(regclass, regclass, text, text, name, boolean) IS
    'Give a row its right label, and the classifier the row''s image as an example of it';
COMMENT ON FUNCTION susx.explain(regclass, vector, integer, text, integer, vector) IS
    'The terms of the k best categories of an embedding and the support rows that weighed most';
COMMENT ON FUNCTION susx.explain(regclass, bytea, integer, text, integer) IS
    'The terms of the k best categories of an image file and the support rows that weighed most';
COMMENT ON FUNCTION susx.tune(regclass, text) IS
    'Find the best parameters on a query of labelled images, or on the support set itself, and store them';
COMMENT ON FUNCTION susx.evaluate(regclass, text, text) IS
    'How right a classifier is on a query of images or embeddings with their categories';
COMMENT ON FUNCTION susx.thumbnail(bytea, integer, text) IS
    'Small copy of an image file, as JPEG or PNG';
COMMENT ON FUNCTION susx.contact_sheet(text, integer, integer) IS
    'PNG file with thumbnails of the images of a query and their labels';
COMMENT ON FUNCTION susx.report(regclass, text, text, integer, integer, text) IS
    'Page of HTML to look at the labels of the rows of a query';
COMMENT ON FUNCTION susx.calibration(regclass, text, text, integer) IS
    'How often a classifier is right on a query of labelled images, by the probability that it gives';
COMMENT ON FUNCTION susx.confusion_matrix(regclass, text, text) IS
    'Which categories of a query of labelled images a classifier takes for which';
COMMENT ON FUNCTION susx.classifier_changed() IS
    'Trigger of classifiers'' tables: lets every session fit the classifier anew';
COMMENT ON FUNCTION susx.embed_row() IS
    'Trigger of classifiers'' tables: embeds the prompt or the image of a row without an embedding';
COMMENT ON FUNCTION susx.settings_changed() IS
    'Trigger of susx.classifier: lets every session fit the classifier anew';
COMMENT ON FUNCTION susx.forget_dropped() IS
    'Event trigger: deletes the settings of dropped classifiers and the errors of dropped tables';
COMMENT ON EVENT TRIGGER susx_forget_dropped IS
    'Deletes the settings of dropped classifiers and the errors of dropped tables';

ALTER FUNCTION susx.classify_rows(regclass, text, anyelement, integer, text) ROWS 10000;
ALTER FUNCTION susx.classify_rows(regclass, text, integer, text) ROWS 10000;
ALTER FUNCTION susx.review_queue(regclass, text, anyelement, integer) ROWS 20;
ALTER FUNCTION susx.review_queue(regclass, text, integer) ROWS 20;
ALTER FUNCTION susx.generate_images(
    text[], text, double precision, integer, bigint, text, integer, integer) ROWS 10;
ALTER FUNCTION susx.stat_get_progress() ROWS 10;

-- The progress of long calls in all sessions.
CREATE VIEW susx.stat_progress AS
    SELECT p.pid, d.datname AS database, pg_catalog.pg_get_userbyid(p.usesysid) AS usename, p.relation,
           p.command, p.phase, p.done, p.total, p.failed, p.started, p.rate, p.estimated_end
    FROM susx.stat_get_progress() p
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;
GRANT SELECT ON susx.stat_progress TO PUBLIC;

COMMENT ON FUNCTION susx.stat_get_progress() IS
    'What susx.stat_progress shows';
COMMENT ON VIEW susx.stat_progress IS
    'How far long calls have come, in all sessions; another user''s work is seen with pg_read_all_stats';
COMMENT ON COLUMN susx.stat_progress.pid IS 'Process of the session';
COMMENT ON COLUMN susx.stat_progress.database IS 'Database of the session';
COMMENT ON COLUMN susx.stat_progress.usename IS 'User of the session';
COMMENT ON COLUMN susx.stat_progress.relation IS
    'The table or the classifier that is worked on; NULL: none, or in another database';
COMMENT ON COLUMN susx.stat_progress.command IS 'Function or procedure that was called';
COMMENT ON COLUMN susx.stat_progress.phase IS 'preparing, reading, embedding, classifying, searching, generating, writing or making thumbnails';
COMMENT ON COLUMN susx.stat_progress.done IS 'Rows of this phase that are done, prompts where an index is asked, or denoising steps';
COMMENT ON COLUMN susx.stat_progress.total IS 'How many there are, for a query of the caller''s as the planner expects; NULL: not known';
COMMENT ON COLUMN susx.stat_progress.failed IS 'Rows of the call that failed';
COMMENT ON COLUMN susx.stat_progress.started IS 'When the call began';
COMMENT ON COLUMN susx.stat_progress.rate IS 'Done per second in this phase';
COMMENT ON COLUMN susx.stat_progress.estimated_end IS 'When this phase will end at that rate';

-- The columns that susx labels.
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
