"""What the extension puts into a database has comments and the right declarations, and is dropped with it."""

from __future__ import annotations

import pytest

# name(argument types): (volatility, parallel safety)
STABLE, VOLATILE = "s", "v"
SAFE, RESTRICTED, UNSAFE = "s", "r", "u"
FUNCTIONS = {
    "add_embedding_column(regclass,name,text)": (VOLATILE, UNSAFE),
    "add_negatives(regclass,text[])": (VOLATILE, UNSAFE),
    "add_negatives(regclass,text[],vector[])": (VOLATILE, UNSAFE),
    "add_prompts(regclass,jsonb)": (VOLATILE, UNSAFE),
    "add_support(regclass,text,bytea[])": (VOLATILE, UNSAFE),
    "add_support(regclass,text,vector[],vector[])": (VOLATILE, UNSAFE),
    "adopt_classifier(regclass)": (VOLATILE, UNSAFE),
    f"alter_classifier(regclass,{','.join(['double precision'] * 5)},text,text,{','.join(['double precision'] * 4)},text,double precision)": (
        VOLATILE,
        UNSAFE,
    ),
    "build_support_set(regclass,regclass,integer,text,text,text,text,boolean,text,double precision,boolean)": (VOLATILE, UNSAFE),
    "calibration(regclass,text,text,integer)": (STABLE, UNSAFE),
    '"check"()': (VOLATILE, RESTRICTED),
    "classify(regclass,bytea,integer,text)": (STABLE, SAFE),
    "classify(regclass,vector,integer,text,vector)": (STABLE, SAFE),
    "classify_rows(regclass,text,anyelement,integer,text)": (STABLE, UNSAFE),
    "classify_rows(regclass,text,integer,text)": (STABLE, UNSAFE),
    "confusion_matrix(regclass,text,text)": (STABLE, UNSAFE),
    "contact_sheet(text,integer,integer)": (STABLE, UNSAFE),
    "correct(regclass,regclass,text,text,name,boolean)": (VOLATILE, UNSAFE),
    "create_classifier(text,text[],text[],text,text)": (VOLATILE, UNSAFE),
    "create_classifier(text,text[],vector[])": (VOLATILE, UNSAFE),
    "distribute_classifier(regclass)": (VOLATILE, UNSAFE),
    "duplicates(regclass,double precision,name,name,boolean)": (STABLE, UNSAFE),
    "embed_image(bytea,text)": (STABLE, SAFE),
    "embed_images(bytea[],text)": (STABLE, SAFE),
    "embed_table(regclass,name,name,integer,text,text,boolean)": (VOLATILE, UNSAFE),
    "embed_text(text,text)": (STABLE, SAFE),
    "embed_texts(text[],text)": (STABLE, SAFE),
    "evaluate(regclass,text,text)": (STABLE, UNSAFE),
    "explain(regclass,bytea,integer,text,integer)": (STABLE, SAFE),
    "explain(regclass,vector,integer,text,integer,vector)": (STABLE, SAFE),
    "forget_errors(regclass,name,text)": (VOLATILE, UNSAFE),
    "generate_images(text[],text,double precision,integer,bigint,text,integer,integer)": (STABLE, RESTRICTED),
    "generate_support_set(regclass,text,integer,text,double precision,integer,bigint,boolean,text)": (VOLATILE, UNSAFE),
    "known(regclass,bytea)": (STABLE, SAFE),
    "known(regclass,vector,vector)": (STABLE, SAFE),
    "image_info(bytea)": (STABLE, SAFE),
    "label(regclass,bytea,text)": (STABLE, SAFE),
    "label(regclass,vector,text)": (STABLE, SAFE),
    "label(regclass,vector,vector,text)": (STABLE, SAFE),
    "label_counts(regclass,name)": (STABLE, UNSAFE),
    "label_table(regclass,regclass,name,name,name,name,name,text,integer,boolean,text,text)": (VOLATILE, UNSAFE),
    "library_version()": (STABLE, SAFE),
    "models()": (VOLATILE, RESTRICTED),
    "review_queue(regclass,text,anyelement,integer)": (STABLE, UNSAFE),
    "review_queue(regclass,text,integer)": (STABLE, UNSAFE),
    "report(regclass,text,text,integer,integer,text)": (STABLE, UNSAFE),
    "stat_get_server()": (VOLATILE, RESTRICTED),
    "stat_get_progress()": (VOLATILE, RESTRICTED),
    "suggest_reject(regclass,regclass,text,text)": (STABLE, UNSAFE),
    "tag_probabilities(regclass,bytea)": (STABLE, SAFE),
    "tag_probabilities(regclass,vector,vector)": (STABLE, SAFE),
    "tags(regclass,bytea,double precision)": (STABLE, SAFE),
    "tags(regclass,vector,double precision,vector)": (STABLE, SAFE),
    "thumbnail(bytea,integer,text)": (STABLE, SAFE),
    "tune(regclass,text)": (VOLATILE, UNSAFE),
}
TRIGGER_FUNCTIONS = {
    "classifier_changed()",
    "embed_on_write()",
    "embed_row()",
    "label_on_write()",
    "settings_changed()",
    # The planner calls it.
    "classify_support(internal)",
    "forget_dropped()",
}

MEMBERS = """
    SELECT d.classid::regclass::text, d.objid, pg_describe_object(d.classid, d.objid, 0),
           obj_description(d.objid, d.classid::regclass::text)
    FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE e.extname = 'susx' AND d.deptype = 'e'
      AND d.classid::regclass::text IN ('pg_proc', 'pg_class', 'pg_event_trigger', 'pg_namespace')"""


@pytest.mark.parametrize("database", ["public", "fresh"])
def test_functions(connect, fresh_database, database):
    session = connect()
    if database == "fresh":
        session = connect(fresh_database)
        session.run(
            "CREATE SCHEMA vectors; CREATE EXTENSION vector SCHEMA vectors; CREATE EXTENSION susx; "
            "SET search_path = vectors"
        )
    rows = session.rows(
        """
        SELECT p.oid::regprocedure::text, p.provolatile, p.proparallel FROM pg_proc p
        WHERE p.pronamespace = 'susx'::regnamespace"""
    )
    found = {name.removeprefix("susx."): declared for name, *declared in rows}
    assert set(found) == set(FUNCTIONS) | TRIGGER_FUNCTIONS
    for name, (volatility, parallel) in FUNCTIONS.items():
        assert found[name] == [volatility, parallel], name


def test_everything_has_a_comment(sql):
    members = sql.rows(MEMBERS)
    assert {kind for kind, *_ in members} >= {"pg_proc", "pg_class", "pg_event_trigger"}
    undescribed = [what for kind, _, what, comment in members if not comment]
    assert undescribed == []
    columns = sql.rows(
        """
        SELECT attrelid::regclass::text, attname, col_description(attrelid, attnum) FROM pg_attribute
        WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'susx'::regnamespace AND relkind IN ('r', 'v'))
        AND attnum > 0 AND NOT attisdropped"""
    )
    assert len(columns) >= 9
    assert [column for column in columns if not column[2]] == []
    assert sql.one("SELECT obj_description(oid) FROM pg_extension WHERE extname = 'susx'")


def test_settings_are_described(sql):
    sql.run("LOAD 'susx'")
    rows = dict(sql.rows("SELECT name, short_desc FROM pg_settings WHERE name LIKE 'susx.%'"))
    expected = {
        "model",
        "model_dir",
        "onnxruntime_library",
        "execution_provider",
        "require_gpu",
        "scaled_decoding",
        "max_image_bytes",
        "max_image_pixels",
    }
    assert {f"susx.{name}" for name in expected} <= set(rows)
    assert all(rows.values())


def test_arguments_have_the_names_of_the_manual(sql):
    names = dict(
        sql.rows(
            """
        SELECT proname || pronargs, array_to_string(proargnames[1:pronargs], ' ') FROM pg_proc
        WHERE pronamespace = 'susx'::regnamespace AND pronargs > 0
          AND prorettype NOT IN ('trigger'::regtype, 'internal'::regtype)"""
        )
    )
    assert names == {
        "add_embedding_column3": "rel embedding_column model",
        "add_negatives2": "classifier names",
        "add_negatives3": "classifier names text_embeddings",
        "add_prompts2": "classifier prompts",
        "add_support3": "classifier category images",
        "add_support4": "classifier category embeddings likenesses",
        "adopt_classifier1": "classifier",
        "distribute_classifier1": "classifier",
        "alter_classifier14": "classifier alpha beta gamma temperature logit_scale method model lambda ridge "
        "probability_temperature reject likeness_model tag_threshold",
        "build_support_set11": "classifier pool per_class prompting embedding_column image_column key_column exclusive "
        "likeness_column skip_duplicates use_index",
        "calibration4": "classifier labelled_query method bins",
        "classify4": "classifier image k method",
        "classify5": "classifier embedding k method likeness",
        "classify_rows5": "classifier query key k method",
        "classify_rows4": "classifier query k method",
        "confusion_matrix3": "classifier labelled_query method",
        "contact_sheet3": "query columns size",
        "correct6": "classifier rel key category label_column undo",
        "create_classifier5": "name categories templates model likeness_model",
        "create_classifier3": "name categories text_embeddings",
        "duplicates5": "pool threshold embedding_column key_column exact",
        "embed_image2": "image model",
        "embed_images2": "images model",
        "embed_table7": "rel image_column embedding_column batch_size model on_error refresh",
        "embed_text2": "text model",
        "embed_texts2": "texts model",
        "evaluate3": "classifier labelled_query method",
        "explain5": "classifier image k method support_rows",
        "explain6": "classifier embedding k method support_rows likeness",
        "forget_errors3": "rel embedding_column key",
        "generate_images8": "prompts generator guidance_scale steps seed negative_prompt width height",
        "generate_support_set9": "classifier generator per_class prompting guidance_scale steps seed keep_images "
        "negative_prompt",
        "image_info1": "image",
        "known2": "classifier image",
        "known3": "classifier embedding likeness",
        "label3": names["label3"],
        "label4": "classifier embedding likeness method",
        "review_queue3": "classifier query n",
        "review_queue4": "classifier query key n",
        "label_counts2": "rel label_column",
        "label_table12": "rel classifier label_column probability_column known_column embedding_column likeness_column "
        "method batch_size only_new first_key last_key",
        "report6": "classifier query title thumbnails_per_category size method",
        "suggest_reject4": "classifier pool embedding_column likeness_column",
        "tag_probabilities2": "classifier image",
        "tag_probabilities3": "classifier embedding likeness",
        "tags3": "classifier image min_probability",
        "tags4": "classifier embedding min_probability likeness",
        "thumbnail3": "image size format",
        "tune2": "classifier validation_query",
    }
    assert names["label3"] in ("classifier embedding method", "classifier image method")


def test_drop_and_create_again(connect, fresh_database):
    """DROP EXTENSION leaves users' own tables. A classifier's has its settings, so a new extension can use it."""
    session = connect(fresh_database)
    session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    create = "SELECT susx.create_classifier('c', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
    session.run(create)
    # The classifier's trigger is a function of the extension.
    assert session.fails("DROP EXTENSION susx").sqlstate == "2BP01"
    session.run("DROP EXTENSION susx CASCADE")
    assert session.one("SELECT count(category) FROM c") == 2
    assert session.rows("SELECT 1 FROM pg_event_trigger") == []
    session.run("CREATE EXTENSION susx")
    assert session.rows("SELECT * FROM susx.classifier") == []
    assert session.one("SELECT susx.label('c', '[1,0]'::vector)") == "a"
    session.run("DROP TABLE c")
    session.run(create)
    assert session.one("SELECT susx.label('c', '[1,0]'::vector)") == "a"
    # In the same session, with pgvector's type under another OID.
    session.run("DROP EXTENSION vector CASCADE; CREATE EXTENSION susx CASCADE; DROP TABLE IF EXISTS c")
    session.run(create)
    assert session.one("SELECT susx.label('c', '[0,1]'::vector)") == "b"
    session.run("BEGIN; DROP EXTENSION susx CASCADE; ROLLBACK")
    assert session.one("SELECT susx.label('c', '[0,1]'::vector)") == "b"


def test_pgvector_in_a_schema_of_its_own(connect, fresh_database):
    session = connect(fresh_database)
    session.run("CREATE SCHEMA vectors; CREATE EXTENSION vector SCHEMA vectors; CREATE EXTENSION susx")
    session.run(
        "SELECT susx.create_classifier('c', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vectors.vector[])"
    )
    session.run(
        "CREATE TABLE pool (id int PRIMARY KEY, embedding vectors.vector(2)); "
        "INSERT INTO pool VALUES (1, '[1,0]'), (2, '[0,1]')"
    )
    for index in (
        "",
        "CREATE INDEX ON pool USING hnsw (embedding vectors.vector_cosine_ops); SET enable_seqscan = off",
    ):
        session.run(index)
        assert [row[1] for row in session.rows("SELECT * FROM susx.build_support_set('c', 'pool')")] == [1, 1]
    assert session.one("SELECT susx.label('c', '[1,0]'::vectors.vector)") == "a"


def test_another_type_called_vector(connect, fresh_database):
    """It is pgvector's type by its extension, not by its name."""
    session = connect(fresh_database)
    session.run(
        "SET client_min_messages = warning; CREATE SCHEMA mine; CREATE DOMAIN mine.vector AS text; "
        "CREATE EXTENSION susx CASCADE"
    )
    session.run("SET search_path = mine, public")
    session.run(
        "SELECT susx.create_classifier('c', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::public.vector[])"
    )
    session.run("CREATE TABLE pool (id int PRIMARY KEY, embedding mine.vector)")
    assert "vector" in session.fails("SELECT susx.build_support_set('c', 'pool')").message
    assert session.one("SELECT susx.label('c', '[1,0]'::public.vector)") == "a"
