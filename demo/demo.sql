-- From images and category names to labels. `make demo` runs it; :categories is an array of names.
\pset footer off
\timing off

\echo
\echo '1. Every image becomes a vector. susx.errors records those that cannot be read.'
\timing on
CALL susx.embed_table('photos');
\timing off
SELECT count(*) AS pictures, count(embedding) AS embedded FROM photos;
SELECT name, dimensions, image_size, provider FROM susx.models() WHERE loaded;

\echo '2. The names alone make a classifier, which is a table.'
SELECT susx.create_classifier('kinds', :'categories') AS classifier;

\echo '3. Zero-shot: the names alone.'
CREATE TEMP TABLE zero_shot AS
SELECT id, susx.label('kinds', embedding) AS label FROM photos WHERE embedding IS NOT NULL;

\echo '4. A support set is retrieved from the same unlabelled images.'
SELECT * FROM susx.build_support_set('kinds', 'photos', image_column => 'image');

\echo '5. TIP-X: the names and the support set.'
CREATE TEMP TABLE tip_x AS
SELECT id, susx.label('kinds', embedding) AS label FROM photos WHERE embedding IS NOT NULL;

\echo 'Some labels:'
SELECT p.path, c.category AS label, round(c.probability::numeric, 2) AS probability
FROM (SELECT * FROM photos WHERE embedding IS NOT NULL ORDER BY md5(path) LIMIT 12) p,
     susx.classify('kinds', p.embedding) c;

\echo 'How many labels are right, by the folder of each image:'
SELECT count(*) AS pictures,
       round(100.0 * avg((z.label = p.truth)::int), 1) AS "zero-shot %",
       round(100.0 * avg((t.label = p.truth)::int), 1) AS "tip-x %"
FROM photos p JOIN zero_shot z USING (id) JOIN tip_x t USING (id)
WHERE p.truth IS NOT NULL;
