"""Two sessions that give a column its first embeddings at the same time use one model, and no long transaction holds up
others. No other role can hold the lock that decides."""

from __future__ import annotations

import threading

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.session import Session, in_background

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
NOT_NOW = "55000"
MADE_BY = "SELECT relation::text, model FROM susx.embedding_column WHERE relation::text LIKE '%photos%' OR relation::text = 'part'"
BOTH = ("tiny_split", "tiny_siglip")
TRIGGER = """
    CREATE OR REPLACE TRIGGER embed_new AFTER INSERT ON {0} REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', '{1}')"""
INSERT = "INSERT INTO {0} (id, image) VALUES (%s, %s)"


@pytest.fixture
def session(connect, schema):
    def open_session() -> Session:
        session = connect()
        session.run(f"SET search_path = {schema}, public; SET client_min_messages = warning; SET statement_timeout = '2min'")
        return session

    return open_session


@pytest.fixture
def photos(sql):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector)")
    return sql


def insert(session: Session, row: int) -> None:
    session.run(INSERT.format("photos"), row, IMAGE)


def use(session: Session, model: str) -> None:
    session.run(f"SET susx.model = '{model}'")


@pytest.fixture
def triggered(photos):
    """The trigger embeds with the session's model."""
    photos.run(TRIGGER.format("photos", ""))
    return photos


def wrong(sql: Session, model: str, table: str = "photos") -> int:
    """Embeddings that are not of this model."""
    return sql.one(
        f"SELECT count(*) FROM {table} WHERE embedding IS NOT NULL "
        f"AND embedding <=> susx.embed_image(image, '{model}') > 1e-5"
    )


def only_one_model(sql: Session, table: str = "photos") -> str:
    ((relation, model),) = sql.rows(MADE_BY)
    assert relation == table
    assert wrong(sql, model, table) == 0
    return model


def test_the_two_models_differ(sql):
    """Otherwise, the tests below could not fail."""
    one, other = (sql.one("SELECT susx.embed_image(%s, %s)::text", IMAGE, model) for model in BOTH)
    assert sql.one("SELECT %s::vector <=> %s::vector", one, other) > 0.01


def test_two_first_calls_of_embed_table(photos, session):
    sql = photos
    for attempt in range(6):
        sql.run("TRUNCATE photos; DELETE FROM susx.embedding_column WHERE relation = 'photos'::regclass")
        sql.run("INSERT INTO photos SELECT i, %s FROM generate_series(1, 40) i", IMAGE)
        sessions = [session(), session()]
        barrier = threading.Barrier(2)

        def call(place: int):
            barrier.wait()
            sessions[place].run(f"CALL susx.embed_table('photos', model => '{BOTH[place]}', batch_size => 4)")
            return BOTH[place]

        with in_background(lambda: call(0), lambda: call(1)) as results:
            pass
        winners = [result for result in results if isinstance(result, str)]
        losers = [result for result in results if isinstance(result, psycopg.Error)]
        assert len(winners) == len(losers) == 1, results
        assert losers[0].sqlstate == NOT_NOW and "tiny_" in losers[0].diag.message_primary and losers[0].diag.message_hint
        assert only_one_model(sql) == winners[0]
        assert sql.one("SELECT count(embedding) FROM photos") == 40
        for one in sessions:
            one.close()


def test_two_first_triggers(triggered, session):
    """The second is refused at once, and is not when the first one has been rolled back."""
    sql, first, second = triggered, session(), session()
    use(first, BOTH[0])
    use(second, BOTH[1])
    first.run("BEGIN")
    insert(first, 1)
    refusal = second.fails(INSERT.format("photos"), 2, IMAGE)
    assert refusal.sqlstate == NOT_NOW
    assert refusal.message == (
        'column "embedding" of relation "photos" is being filled with embeddings of another model than "tiny_siglip" by '
        "another transaction"
    )
    assert "ended" in refusal.hint
    first.run("ROLLBACK")
    insert(second, 2)
    assert only_one_model(sql) == BOTH[1]
    assert first.fails(INSERT.format("photos"), 1, IMAGE).sqlstate == NOT_NOW


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_a_trigger_and_embed_table(triggered, session, level):
    sql, first, second = triggered, session(), session()
    first.run(f"SET default_transaction_isolation = '{level}'")
    use(first, BOTH[0])
    sql.run("ALTER TABLE photos DISABLE TRIGGER embed_new")
    sql.run("INSERT INTO photos (id, image) VALUES (9, %s)", IMAGE)
    sql.run("ALTER TABLE photos ENABLE TRIGGER embed_new")
    # Its snapshot is older than what the other one commits.
    first.run("BEGIN; SELECT count(*) FROM photos")
    second.run(f"CALL susx.embed_table('photos', model => '{BOTH[1]}')")
    assert first.fails(INSERT.format("photos"), 1, IMAGE).sqlstate == NOT_NOW
    first.run("ROLLBACK")
    assert only_one_model(sql) == BOTH[1]
    sql.run("UPDATE photos SET embedding = NULL")
    first.run("BEGIN")
    insert(first, 2)
    assert second.fails(f"CALL susx.embed_table('photos', model => '{BOTH[1]}')").sqlstate == NOT_NOW
    first.run("COMMIT")
    assert only_one_model(sql) == BOTH[0]


def test_a_long_transaction_holds_up_nobody(triggered, session):
    """Of the same model everybody goes on, and what they write down stays when the first one is rolled back."""
    sql, first, second, third = triggered, session(), session(), session()
    for one in (first, second, third):
        use(one, BOTH[0])
    first.run("BEGIN")
    insert(first, 1)
    insert(second, 2)
    third.run("BEGIN")
    insert(third, 3)
    second.run("CALL susx.embed_table('photos')")
    assert second.rows(MADE_BY) == [("photos", BOTH[0])]
    insert(second, 4)
    first.run("ROLLBACK")
    third.run("COMMIT")
    assert only_one_model(sql) == BOTH[0]


def test_a_savepoint_gives_up_the_claim(triggered, session):
    sql, first, second = triggered, session(), session()
    use(first, BOTH[0])
    use(second, BOTH[1])
    first.run("BEGIN; SAVEPOINT s")
    insert(first, 1)
    first.run("ROLLBACK TO s")
    insert(second, 2)
    first.run("COMMIT")
    assert only_one_model(sql) == BOTH[1]
    # In one transaction, too.
    sql.run("TRUNCATE photos")
    first.run("BEGIN; SAVEPOINT s")
    insert(first, 1)
    first.run("ROLLBACK TO s")
    use(first, BOTH[1])
    insert(first, 1)
    first.run("COMMIT")
    assert only_one_model(sql) == BOTH[1]


def test_two_models_in_one_transaction(triggered, session):
    first = session()
    use(first, BOTH[0])
    first.run("BEGIN")
    insert(first, 1)
    first.run("SAVEPOINT s")
    use(first, BOTH[1])
    assert first.fails(INSERT.format("photos"), 2, IMAGE).sqlstate == NOT_NOW
    first.run("ROLLBACK TO s; COMMIT")
    assert only_one_model(triggered) == BOTH[0]


def test_a_change_of_models(triggered, session):
    """When no embedding is left, one changes the model while another still embeds with the old one."""
    sql, old, new = triggered, session(), session()
    use(old, BOTH[0])
    use(new, BOTH[1])
    insert(old, 1)
    sql.run("UPDATE photos SET embedding = NULL")
    new.run("BEGIN")
    insert(new, 2)
    assert old.fails(INSERT.format("photos"), 3, IMAGE).sqlstate == NOT_NOW
    new.run("COMMIT")
    assert only_one_model(sql) == BOTH[1]
    assert old.fails(INSERT.format("photos"), 3, IMAGE).sqlstate == NOT_NOW


def test_partitions(sql, session):
    first, second = session(), session()
    sql.run(
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector) PARTITION BY RANGE (id); "
        "CREATE TABLE part PARTITION OF photos FOR VALUES FROM (0) TO (10); "
        "CREATE TABLE rest PARTITION OF photos DEFAULT"
    )
    sql.run(TRIGGER.format("photos", BOTH[0]))
    first.run("BEGIN")
    insert(first, 1)
    sql.run("INSERT INTO part (id, image) VALUES (2, %s)", IMAGE)
    assert second.fails(f"CALL susx.embed_table('part', model => '{BOTH[1]}')").sqlstate == NOT_NOW
    first.run("ROLLBACK")
    second.run(f"CALL susx.embed_table('part', model => '{BOTH[1]}')")
    sql.run("INSERT INTO part (id, image) VALUES (3, %s)", IMAGE)
    assert second.fails(f"CALL susx.embed_table('photos', model => '{BOTH[0]}')").sqlstate == NOT_NOW
    sql.run("UPDATE photos SET embedding = NULL")
    second.run(f"CALL susx.embed_table('photos', model => '{BOTH[0]}')")
    second.run(f"CALL susx.embed_table('part', model => '{BOTH[0]}')")
    assert sorted(sql.rows(MADE_BY)) == [("part", BOTH[0]), ("photos", BOTH[0])]
    assert wrong(sql, BOTH[0]) == 0


def test_strangers_hold_no_lock_that_matters(triggered, session, connect):
    """Advisory locks of every number that was once used, and whatever pg_locks shows."""
    sql, first, stranger = triggered, session(), session()
    use(first, BOTH[0])
    oid = sql.one("SELECT 'photos'::regclass::oid")
    stranger.run("BEGIN; SELECT pg_advisory_xact_lock(hashtext('susx.embedding_column'), hashoid(%s))" % oid)
    stranger.run("SELECT pg_advisory_xact_lock(%s)" % oid)
    insert(first, 1)
    assert only_one_model(sql) == BOTH[0]
    stranger.run("ROLLBACK")


def test_a_table_that_is_gone_at_the_end(session, sql):
    one = session()
    use(one, BOTH[0])
    one.run("BEGIN; CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector)")
    one.run(TRIGGER.format("photos", ""))
    insert(one, 1)
    oid = one.one("SELECT 'photos'::regclass::oid")
    one.run("DROP TABLE photos; COMMIT")
    assert sql.one("SELECT count(*) FROM susx.embedding_column WHERE relation::oid = %s", oid) == 0


def test_what_is_written_down_is_there_after_the_commit(triggered, session):
    """Also in a function with an exception block, and by a role without rights to susx's tables."""
    sql, one = triggered, session()
    use(one, BOTH[0])
    one.run(
        "DO $$ BEGIN BEGIN INSERT INTO photos (id, image) SELECT 1, 'bad'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$"
    )
    assert sql.rows(MADE_BY) == []
    insert(one, 1)
    assert only_one_model(sql) == BOTH[0]
