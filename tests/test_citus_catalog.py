"""What susx does with tables of Citus, on one node with made-up catalogs: plain tables of the same names and columns.

tests/test_citus.py does the same with a real Citus, where there is one.
"""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture
from helpers.session import Session
from helpers.toy import create_compass

SHARD = 102016

CATALOGS = """
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_partition (
        logicalrelid regclass PRIMARY KEY, partmethod "char" NOT NULL, partkey text, colocationid int NOT NULL DEFAULT 0,
        repmodel "char" NOT NULL DEFAULT 's', autoconverted bool NOT NULL DEFAULT false);
    CREATE TABLE pg_catalog.pg_dist_shard (
        logicalrelid regclass NOT NULL, shardid int8 PRIMARY KEY, shardstorage "char" NOT NULL DEFAULT 't',
        shardminvalue text, shardmaxvalue text);
    CREATE TABLE pg_catalog.pg_dist_placement (
        placementid int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shardid int8 NOT NULL, shardstate int4 NOT NULL DEFAULT 1,
        shardlength int8 NOT NULL DEFAULT 0, groupid int4 NOT NULL DEFAULT 0);
    GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement TO PUBLIC;
    CREATE FUNCTION pg_catalog.shard_name(object_name regclass, shard_id int8) RETURNS text STABLE LANGUAGE sql AS $$
        SELECT format('%I.%I', n.nspname, left(c.relname, 40) || '_' || substr(md5(c.relname), 1, 8) || '_' || shard_id)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = object_name $$;
    -- On the local shards, one after another.
    CREATE FUNCTION pg_catalog.run_command_on_shards(
        table_name regclass, command text, parallel bool DEFAULT true, OUT shardid int8, OUT success bool, OUT result text)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
    BEGIN
        FOR shardid IN SELECT s.shardid FROM pg_dist_shard s WHERE s.logicalrelid = table_name ORDER BY 1 LOOP
            BEGIN
                EXECUTE replace(command, '%s', table_name::text || '_' || shardid) INTO result;
                success := true;
                result := coalesce(result, '');
            EXCEPTION WHEN OTHERS THEN
                success := false;
                result := 'ERROR: ' || SQLERRM;
            END;
            RETURN NEXT;
        END LOOP;
    END $$;
    -- As create_reference_table does on one node: the rows move to a shard, and the shell stays empty.
    CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        shell text := table_name::text;
        shard text := table_name::text || '_102016';
    BEGIN
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = table_name AND NOT tgisinternal)
           AND current_setting('citus.enable_unsafe_triggers', true) IS DISTINCT FROM 'on' THEN
            RAISE EXCEPTION 'triggers are not supported on reference tables';
        END IF;
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', shard, shell);
        EXECUTE format('INSERT INTO %s SELECT * FROM %s', shard, shell);
        EXECUTE format('CREATE TRIGGER susx_classifier_changed_102016 AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                       'FOR EACH STATEMENT EXECUTE FUNCTION susx.classifier_changed()', shard);
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', shell);
        EXECUTE format('DELETE FROM %s', shell);
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', shell);
        INSERT INTO pg_catalog.pg_dist_partition (logicalrelid, partmethod, repmodel) VALUES (table_name, 'n', 't');
        INSERT INTO pg_catalog.pg_dist_shard (logicalrelid, shardid) VALUES (table_name, 102016);
        INSERT INTO pg_catalog.pg_dist_placement (shardid) VALUES (102016);
    END $$;
    RESET allow_system_table_mods"""

# Citus itself sends a statement on the shell to the shards. Here a statement names the shard.
SCORES = "SELECT category, score FROM susx.classify('compass', '[1,0.9]'::vector, 2, method => 'tip-x')"


@pytest.fixture
def coordinator(connect, fresh_database) -> Session:
    session = connect(fresh_database)
    session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    session.run(CATALOGS)
    create_compass(session)
    session.run("SELECT susx.add_support('compass', 'north', ARRAY['[1,1]', '[1,2]']::vector[])")
    session.run("SELECT susx.alter_classifier('compass', alpha => 0.3, method => 'tip-x')")
    return session


@pytest.fixture
def distributed(coordinator) -> Session:
    coordinator.run("SELECT susx.distribute_classifier('compass')")
    return coordinator


def test_a_classifier_is_distributed(coordinator):
    scores = coordinator.rows(SCORES)
    coordinator.run("SET client_min_messages = notice; SELECT susx.distribute_classifier('compass')")
    assert "every node has its rows and settings" in coordinator.notices[-1]
    assert coordinator.one("SELECT count(*) FROM ONLY compass") == 0
    assert coordinator.one("SELECT count(*) FROM compass_102016") == 5
    assert coordinator.rows(SCORES) == scores
    # The permission that Citus needs is not left behind.
    assert coordinator.one("SELECT current_setting('citus.enable_unsafe_triggers', true)") in (None, "", "off")
    coordinator.run("SELECT susx.distribute_classifier('compass')")
    assert "already" in coordinator.notices[-1]


def test_a_node_that_has_only_the_tables(distributed):
    """As a worker does: the settings are in the shard."""
    scores = distributed.rows(SCORES)
    distributed.run("DELETE FROM susx.classifier")
    assert distributed.rows(SCORES) == scores


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE compass_102016 SET embedding = '[1,-3]' WHERE kind = 'prompt' AND category = 'east'",
        "DELETE FROM compass_102016 WHERE kind = 'image' AND embedding = '[1,1]'",
        "UPDATE compass_102016 SET settings = settings || '{\"alpha\": 7}' WHERE kind = 'settings'",
        "UPDATE compass_102016 SET settings = settings || '{\"logit_scale\": 7}' WHERE id = 0",
    ],
)
def test_a_change_of_the_shard_counts_at_once(distributed, connect, fresh_database, change):
    """In a session that has fitted the classifier, whoever has changed it."""
    reader = connect(fresh_database)
    before = reader.rows(SCORES)
    assert reader.rows(SCORES) == before
    distributed.run(change)
    after = reader.rows(SCORES)
    assert after != before
    assert after == distributed.rows(SCORES) == connect(fresh_database).rows(SCORES)


def test_a_fit_is_kept(distributed):
    """Also where the trigger of the shard is one that announces its changes."""
    distributed.run("SET client_min_messages = debug1")
    distributed.rows(SCORES)
    assert distributed.fits() == ["compass"]
    distributed.rows(SCORES)
    assert distributed.fits() == []
    distributed.run("ALTER TABLE compass_102016 ENABLE ALWAYS TRIGGER susx_classifier_changed_102016")
    distributed.rows(SCORES)
    distributed.fits()
    distributed.rows(SCORES)
    assert distributed.fits() == []
    distributed.run("DELETE FROM compass_102016 WHERE kind = 'image' AND embedding = '[1,1]'")
    distributed.rows(SCORES)
    assert distributed.fits() == ["compass"]


def test_a_long_name(coordinator):
    """Citus shortens the names of shards that would be too long."""
    name = "n" * 60
    create_compass(coordinator, name)
    label = f"SELECT susx.label('{name}', '[0,1]'::vector)"
    # The name and the number of the shard have 67 bytes together.
    shard = coordinator.one("SELECT pg_catalog.shard_name(%s::regclass, 102016)", name)
    coordinator.run(f"CREATE TABLE {shard} (LIKE {name} INCLUDING ALL); INSERT INTO {shard} TABLE {name}")
    coordinator.run(f"UPDATE {shard} SET category = 'up' WHERE category = 'north'")
    assert coordinator.one(label) == "north"
    coordinator.run("INSERT INTO pg_dist_partition (logicalrelid, partmethod) VALUES (%s::regclass, 'n')", name)
    coordinator.run("INSERT INTO pg_dist_shard (logicalrelid, shardid) VALUES (%s::regclass, 102016)", name)
    assert coordinator.one(label) == "up"


def test_a_shard_that_is_elsewhere(distributed):
    """Then the shell is queried, and Citus finds the rows. Here there is no Citus, so the shell has them."""
    distributed.run("INSERT INTO compass SELECT * FROM compass_102016; DROP TABLE compass_102016")
    scores = distributed.rows(SCORES)
    distributed.run("DELETE FROM susx.classifier")
    assert distributed.rows(SCORES) == scores


def test_tables_of_several_shards(coordinator):
    """Whose rows cannot be locked from here: the error is the first thing that happens, and says what to call."""
    coordinator.run(
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(2), label text); "
        "INSERT INTO pg_dist_partition (logicalrelid, partmethod) VALUES ('photos', 'h')"
    )
    for call, hint in (
        ("susx.embed_table('photos', model => 'tiny_split')", "$$CALL susx.embed_table('%s')$$"),
        ("susx.label_table('photos', 'compass')", "$$CALL susx.label_table('%s', 'classifier')$$"),
    ):
        refusal = coordinator.fails(f"CALL {call}")
        assert refusal.sqlstate == "0A000" and "several shards of Citus" in refusal.message
        assert hint in refusal.hint and "run_command_on_shards('public.photos'" in refusal.hint
    assert coordinator.one("SELECT count(*) FROM susx.embedding_column") == 0
    coordinator.run("INSERT INTO pg_dist_partition (logicalrelid, partmethod) VALUES ('compass', 'h')")
    refusal = coordinator.fails("SELECT susx.distribute_classifier('compass')")
    assert refusal.sqlstate == "42809" and "undistribute" in refusal.hint


@pytest.fixture
def photos(coordinator) -> Session:
    """A table of three shards; a node of the third one does not answer."""
    coordinator.run(
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(2), other vector(2)); "
        "CREATE TABLE photos_102020 (LIKE photos INCLUDING ALL); CREATE TABLE photos_102021 (LIKE photos INCLUDING ALL); "
        "INSERT INTO pg_dist_partition (logicalrelid, partmethod) VALUES ('photos', 'h'); "
        "INSERT INTO pg_dist_shard (logicalrelid, shardid) SELECT 'photos', i FROM generate_series(102020, 102022) i; "
        "INSERT INTO photos SELECT i, 'x', ARRAY[cosd(i), sind(i)]::vector, ARRAY[sind(i), cosd(i)]::vector "
        "FROM generate_series(0, 89) i"
    )
    return coordinator


def record(session: Session, shard: str, column: str, model: str, sha256: str | None = None) -> None:
    session.run("INSERT INTO susx.embedding_column VALUES (%s::regclass, %s, %s, %s::bytea)", shard, column, model, sha256)


BUILD = "SELECT count(*) FROM susx.build_support_set('compass', 'photos', per_class => 3)"


def test_a_pool_is_checked_on_every_node(photos):
    """Each node knows which model has embedded its shards."""
    photos.run("UPDATE compass SET settings = settings || '{\"model\": \"good\", \"model_sha256\": \"0a\"}' WHERE id = 0")
    assert photos.one(BUILD) == 2
    record(photos, "photos_102020", "embedding", "good", "\\x0a")
    record(photos, "photos_102021", "other", "bad", "\\x0b")
    assert photos.one(BUILD) == 2
    record(photos, "photos_102021", "embedding", "bad", "\\x0b")
    refusal = photos.fails(BUILD)
    assert refusal.sqlstate == "55000" and 'has embeddings of model "bad"' in refusal.message
    # The same files under another name.
    photos.run("UPDATE susx.embedding_column SET model_sha256 = '\\x0a' WHERE model = 'bad'")
    assert photos.one(BUILD) == 2


def test_the_column_of_likeness_vectors_is_known_on_the_nodes(photos):
    photos.run("UPDATE compass SET settings = settings || '{\"likeness_model\": \"eyes\"}' WHERE id = 0")
    assert "no column with embeddings" in photos.fails(BUILD).message
    record(photos, "photos_102020", "other", "eyes")
    assert photos.one(BUILD) == 2
    # Where two shards disagree, the column is of no model.
    record(photos, "photos_102021", "other", "ears")
    assert "no column with embeddings" in photos.fails(BUILD).message


@pytest.mark.parametrize("name", ["photos", "My photos"])
def test_a_shard_that_has_moved(coordinator, name):
    """Its record stays on the old node, so those of the other shards on its new node count."""
    image = encode(picture(1, (40, 30)))
    shell, moved, other, plain = (f'"{name}{number}"' for number in ("", "_102020", "_102021", "_102024"))
    for table in (shell, moved, other, plain):
        coordinator.run(f"CREATE TABLE {table} (id int PRIMARY KEY, image bytea, embedding vector(32))")
        coordinator.run(f"INSERT INTO {table} VALUES (1, %s, array_fill(1, '{{32}}')::real[]::vector)", image)
        coordinator.run(f"INSERT INTO {table} VALUES (2, %s)", image)
    coordinator.run("INSERT INTO pg_dist_partition (logicalrelid, partmethod) VALUES (%s::regclass, 'h')", shell)
    shards = "INSERT INTO pg_dist_shard (logicalrelid, shardid) SELECT %s::regclass, generate_series(102020, 102022)"
    coordinator.run(shards, shell)
    record(coordinator, other, "embedding", "tiny_fused")
    record(coordinator, other, "other", "tiny_split")
    embed = "CALL susx.embed_table(%s::regclass, model => %s)"
    refusal = coordinator.fails(embed, moved, "tiny_split")
    assert refusal.sqlstate == "55000" and 'has embeddings of model "tiny_fused", not "tiny_split"' in refusal.message
    coordinator.run(embed, moved, "tiny_fused")
    recorded = "SELECT model FROM susx.embedding_column WHERE relation = %s::regclass"
    assert coordinator.column(recorded, moved) == ["tiny_fused"]
    # Its own record comes first.
    coordinator.run(f"UPDATE {moved} SET embedding = NULL")
    coordinator.run(embed, moved, "tiny_split")
    assert coordinator.column(recorded, moved) == ["tiny_split"]
    # A table that only has the name of a shard.
    coordinator.run(embed, plain, "tiny_split")
    assert coordinator.column(recorded, plain) == ["tiny_split"]


def test_columnar_tables(coordinator):
    coordinator.run(
        "CREATE ACCESS METHOD columnar TYPE TABLE HANDLER heap_tableam_handler; "
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(2), label text) USING columnar"
    )
    for call in ("embed_table('photos', model => 'tiny_split')", "label_table('photos', 'compass')"):
        refusal = coordinator.fails(f"CALL susx.{call}")
        assert refusal.sqlstate == "0A000" and "columnar" in refusal.message and "heap" in refusal.hint


def test_without_citus(sql):
    create_compass(sql)
    refusal = sql.fails("SELECT susx.distribute_classifier('compass')")
    assert refusal.sqlstate == "0A000" and "no Citus" in refusal.message
    sql.run("CREATE TABLE plain (id int)")
    assert sql.fails("SELECT susx.distribute_classifier('plain')").sqlstate == "42704"
