-- From images and category names to labels. `make demo` runs it; :categories is an array of names, and
-- :no_truth says what a picture without a truth shows.
\pset footer off
\pset null '-'
\pset pager off
\timing off
SELECT set_config('search_path', 'demo, ' || current_setting('search_path'), false) \g /dev/null

\echo
\echo '1. Every image becomes two vectors: one to compare with names, one to compare with other images.'
\echo 'susx.errors records the images that cannot be read.'
\timing on
CALL susx.embed_table('photos');
CALL susx.embed_table('photos', embedding_column => 'likeness', model => 'efficientnet-lite2');
\timing off
SELECT embedding_column AS "column", pictures, embedded, model, dimensions, provider
FROM (SELECT 'embedding'::name AS embedding_column, count(*) AS pictures, count(embedding) AS embedded FROM photos
      UNION ALL SELECT 'likeness', count(*), count(likeness) FROM photos) p
JOIN susx.embedding_column USING (embedding_column) JOIN susx.models() ON name = model
WHERE relation = 'photos'::regclass ORDER BY 1;

\echo '2. Names are enough to create a classifier, which is a table. Names of other things help to recognise pictures of none of them.'
SELECT susx.create_classifier('kinds', :'categories', likeness_model => 'efficientnet-lite2') AS classifier;
SELECT susx.add_negatives('kinds') AS "names of other things";

\echo '3. A support set is retrieved from the same unlabelled images.'
SELECT count(*) AS categories, sum(images) AS "support images"
FROM susx.build_support_set('kinds', 'photos', image_column => 'image');

\echo '4. Every picture gets a label and its probability.'
CREATE TEMP TABLE labels AS
SELECT p.id, p.path, p.truth, d.category AS label, d.probability, d.known,
       n.category AS by_names, n.probability AS by_names_probability,
       g.category AS by_one_vector, g.probability AS by_one_vector_probability
FROM photos p, susx.classify('kinds', p.embedding, likeness => p.likeness) d,
     susx.classify('kinds', p.embedding, method => 'zero-shot') n, susx.classify('kinds', p.embedding) g;
SELECT path, label, round(probability::numeric, 2) AS probability
FROM labels ORDER BY truth IS NULL, md5(path) LIMIT 12;

\echo '5. The share of right labels, of all and of those with a probability of 0.9 or more, and how many these are:'
SELECT method, count(*) AS pictures, round(100 * avg(is_right::int), 1) AS "right %",
       round(100 * avg((p >= 0.9)::int), 1) AS "0.9 or more: %",
       round(100 * avg(is_right::int) FILTER (WHERE p >= 0.9), 1) AS "of these, right %"
FROM labels, LATERAL (VALUES (1, 'names alone', by_names = truth, by_names_probability),
                             (2, 'gated TIP-X, by one vector', by_one_vector = truth, by_one_vector_probability),
                             (3, 'likeness, by both', label = truth, probability)) AS l (place, method, is_right, p)
WHERE truth IS NOT NULL GROUP BY place, method ORDER BY place;

\echo 'Are labels with a probability of 0.9 right nine times in ten?'
SELECT format('%s to %s', round(low::numeric, 1), round(high::numeric, 1)) AS probability, n AS pictures,
       round(100 * probability::numeric, 1) AS "expected %", round(100 * accuracy::numeric, 1) AS "right %"
FROM susx.calibration('kinds', 'SELECT embedding, truth, likeness FROM photos WHERE truth IS NOT NULL', bins => 5)
WHERE n > 0;

\echo '6. Pictures that show none of the names get a label too, but a low `known`. The lowest:'
SELECT path, truth, label, round(probability::numeric, 2) AS probability, round(known::numeric, 2) AS known
FROM labels ORDER BY labels.known, path LIMIT 10;

\echo '7. Pictures whose `known` is below a threshold get no label. Most of them show none of the names:'
SELECT susx.suggest_reject('kinds', 'photos') AS reject \gset
SELECT susx.alter_classifier('kinds', reject => :reject) \g /dev/null
SELECT CASE WHEN truth IS NULL THEN :'no_truth' ELSE 'one of the names' END AS "it shows", count(*) AS pictures,
       count(*) - count(now.label) AS "no label", count(now.label) AS label,
       count(*) FILTER (WHERE now.label = truth) AS "right",
       count(now.label) FILTER (WHERE probability >= 0.9) AS "0.9 or more",
       count(*) FILTER (WHERE now.label = truth AND probability >= 0.9) AS "of these, right"
FROM labels JOIN (SELECT id, susx.label('kinds', embedding, likeness) AS label FROM photos) now USING (id)
GROUP BY truth IS NULL, 1 ORDER BY truth IS NULL;
