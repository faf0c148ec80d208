"""CALL susx.embed_table(..., refresh => true): images that have changed since they were embedded get a new embedding,
wherever no trigger has seen the change, and nothing else is embedded again."""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually
from helpers.session import Session, in_background
from helpers.work import images_embedded

MODEL = "model => 'tiny_split'"
CALL = f"CALL susx.embed_table('photos', {MODEL}, refresh => true)"
# The rows whose embedding is not that of their image, made one by one.
WRONG = "SELECT id FROM {0} WHERE (embedding <=> susx.embed_image(image, 'tiny_split')) > 1e-5 ORDER BY id"
ROWS = 60

TRIGGERS = """
    CREATE TRIGGER embed_insert AFTER INSERT ON {0} REFERENCING NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split');
    CREATE TRIGGER embed_update AFTER UPDATE ON {0} REFERENCING OLD TABLE AS old NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split')"""


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encode(picture(seed, (40, 30))) for seed in range(ROWS + 10)]


@pytest.fixture
def photos(sql, images) -> Session:
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32), note text)")
    sql.copy("photos", ["id", "image"], ((i, images[i]) for i in range(ROWS)))
    # What an older transaction writes is looked at once more: none of another test must be left.
    assert eventually(lambda: sql.one("SELECT pg_snapshot_xmin(s) = pg_snapshot_xmax(s) FROM pg_current_snapshot() s"))
    return sql


def refresh(sql: Session, call: str = CALL) -> int:
    """Calls it, and returns how many images the inference process has embedded meanwhile. Nobody else uses it."""
    sql.run("SELECT susx.embed_text('x', 'tiny_split')")
    before = images_embedded(sql)
    sql.run(call)
    return images_embedded(sql) - before


def test_a_night_after_another(photos, images):
    """The first call embeds all images, the next ones only what was written since."""
    assert refresh(photos) == ROWS
    assert photos.column(WRONG.format("photos")) == []
    assert refresh(photos) == 0
    # Somebody replaces pictures, and others change something else.
    photos.run("UPDATE photos SET image = %s WHERE id = 7", images[ROWS])
    photos.run("UPDATE photos SET image = (SELECT image FROM photos WHERE id = 1) WHERE id = 8")
    photos.run("UPDATE photos SET note = 'seen' WHERE id = 9")
    photos.run("INSERT INTO photos VALUES (100, %s)", images[ROWS + 1])
    assert photos.column(WRONG.format("photos")) == [7, 8]
    kept = photos.rows("SELECT id, xmin::text FROM photos WHERE id NOT IN (7, 8, 100)")
    photos.run("SET client_min_messages = notice")
    assert refresh(photos) == 4
    assert photos.column(WRONG.format("photos")) == []
    assert photos.notices[-1].startswith('"photos": 3 of 3 images embedded in ')
    assert "2 of them because the image had changed; 1 embeddings were up to date; none is left" in photos.notices[-1]
    # A row with the right embedding is not written.
    assert photos.rows("SELECT id, xmin::text FROM photos WHERE id NOT IN (7, 8, 100)") == kept
    assert refresh(photos) == 0


def test_without_it_a_replaced_image_keeps_its_embedding(photos, images):
    """As documented: a NULL is what embed_table looks for."""
    photos.run(f"CALL susx.embed_table('photos', {MODEL})")
    photos.run("UPDATE photos SET image = %s WHERE id = 7", images[ROWS])
    photos.run(f"CALL susx.embed_table('photos', {MODEL})")
    assert photos.column(WRONG.format("photos")) == [7]
    # The first call with it compares all of them, once.
    assert refresh(photos) == ROWS
    assert photos.column(WRONG.format("photos")) == []
    assert refresh(photos) == 0


def test_exchanged_images_and_keys(photos):
    refresh(photos)
    photos.run("UPDATE photos p SET image = o.image FROM photos o WHERE (p.id, o.id) IN ((1, 2), (2, 1))")
    photos.run("UPDATE photos SET id = 1000 - id WHERE id IN (3, 4)")
    assert refresh(photos) == 4
    assert photos.column(WRONG.format("photos")) == []


def test_an_image_that_can_no_longer_be_embedded(photos):
    """It loses the embedding of the former image, and is recorded."""
    refresh(photos)
    photos.run("UPDATE photos SET image = 'no image' WHERE id = 5")
    photos.run("UPDATE photos SET image = NULL WHERE id = 6")
    refresh(photos)
    assert photos.column("SELECT id FROM photos WHERE embedding IS NULL") == [5]
    assert photos.column("SELECT key FROM susx.errors WHERE relation = 'photos'::regclass") == ["5"]
    # An embedding whose image is gone may have come from elsewhere, and could not be made again.
    assert photos.one("SELECT count(*) FROM photos WHERE id = 6 AND embedding IS NOT NULL") == 1


def test_a_row_that_others_hold_is_looked_at_by_the_next_call(photos, connect, schema, images):
    """Also where they give up their change: its transaction is then no newer than the others."""
    refresh(photos)
    photos.run("UPDATE photos SET image = %s WHERE id IN (7, 8)", images[ROWS])
    other = connect()
    other.run(f"SET search_path = {schema}, public; BEGIN; UPDATE photos SET note = 'x' WHERE id = 7")
    photos.run("SET client_min_messages = notice")
    photos.run(CALL)
    assert "1 were changed by other sessions" in photos.notices[-1]
    assert photos.column(WRONG.format("photos")) == [7]
    other.run("ROLLBACK")
    photos.run(CALL)
    assert photos.column(WRONG.format("photos")) == [] and "none is left" in photos.notices[-1]
    assert refresh(photos) == 0


def test_a_transaction_that_began_before_the_call(photos, connect, schema, images):
    """What it commits later has a number from before the call, and is looked at all the same."""
    refresh(photos)
    other = connect()
    other.run(f"SET search_path = {schema}, public; BEGIN; UPDATE photos SET note = 'x' WHERE id = 1")
    # Others write, and are looked at, while that one goes on.
    photos.run("UPDATE photos SET image = %s WHERE id = 7", images[ROWS])
    photos.run(CALL)
    other.run("UPDATE photos SET image = (SELECT image FROM photos WHERE id = 3) WHERE id = 2; COMMIT")
    assert photos.column(WRONG.format("photos")) == [2]
    photos.run(CALL)
    assert photos.column(WRONG.format("photos")) == []


def test_other_columns_are_compared_for_themselves(photos):
    refresh(photos)
    photos.run("ALTER TABLE photos ADD picture bytea, ADD vector vector(32); UPDATE photos SET picture = image, note = 'x'")
    call = CALL.replace("'photos'", "'photos', 'picture', 'vector'")
    assert refresh(photos, call) == ROWS
    # A column that is dropped and made anew is another one, although no row was written.
    photos.run("ALTER TABLE photos DROP COLUMN picture; ALTER TABLE photos RENAME image TO picture")
    assert refresh(photos, call) == ROWS
    assert refresh(photos, call) == 0


def test_the_record_goes_with_the_table(photos):
    refresh(photos)
    found = "SELECT count(*) FROM susx.refreshed_column WHERE relation = %s::oid"
    oid = photos.one("SELECT 'photos'::regclass::oid::text")
    assert photos.one(found, oid) == 1
    photos.run("DROP TABLE photos")
    assert photos.one(found, oid) == 0


def test_an_update_of_a_partition(sql, images):
    """PostgreSQL fires the partition's own triggers alone: those of the parent do not see the change."""
    sql.run(
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32)) PARTITION BY RANGE (id); "
        "CREATE TABLE low PARTITION OF photos FOR VALUES FROM (0) TO (30); "
        "CREATE TABLE high PARTITION OF photos FOR VALUES FROM (30) TO (1000)"
    )
    sql.run(TRIGGERS.format("photos"))
    sql.copy("photos", ["id", "image"], ((i, images[i]) for i in range(ROWS)))
    assert sql.column(WRONG.format("photos")) == []
    sql.run("UPDATE low SET image = %s WHERE id = 7", images[ROWS])
    assert sql.column(WRONG.format("photos")) == [7]
    refresh(sql)
    assert sql.column(WRONG.format("photos")) == [] and refresh(sql) == 0
    # A partition that is attached later has rows that nobody has compared, however old they are.
    sql.run("CREATE TABLE old (LIKE photos INCLUDING ALL); INSERT INTO old SELECT 2000 + id, image, NULL FROM photos")
    sql.run("UPDATE old SET embedding = (SELECT embedding FROM photos WHERE id = 3)")
    refresh(sql)
    sql.run("ALTER TABLE photos ATTACH PARTITION old FOR VALUES FROM (2000) TO (3000)")
    assert refresh(sql) == ROWS
    assert sql.column(WRONG.format("photos")) == [] and refresh(sql) == 0


def test_an_inheritance_child(sql, images):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32)); CREATE TABLE child () INHERITS (photos)")
    sql.run(TRIGGERS.format("photos"))
    sql.copy("child", ["id", "image"], ((i, images[i]) for i in range(10)))
    assert sql.one("SELECT count(embedding) FROM photos") == 0
    assert refresh(sql) == 10
    sql.run("UPDATE child SET image = %s WHERE id = 7", images[ROWS])
    assert refresh(sql) == 1
    assert sql.column(WRONG.format("photos")) == []


def test_under_row_level_security(photos, connect, schema, images):
    """Who does not see all rows refreshes those that it sees, and says nothing about the others."""
    refresh(photos)
    photos.run(
        f"CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {schema} TO guest; GRANT SELECT, UPDATE ON photos TO guest; "
        "ALTER TABLE photos ENABLE ROW LEVEL SECURITY; CREATE POLICY lower ON photos TO guest USING (id < 10)"
    )
    try:
        photos.run("UPDATE photos SET image = %s WHERE id IN (7, 50)", images[ROWS])
        guest = connect(user="guest")
        guest.run(f"SET search_path = {schema}, public; SET client_min_messages = warning")
        assert refresh(guest) == 1
        assert photos.column(WRONG.format("photos")) == [50]
        assert refresh(photos) >= 1
        assert photos.column(WRONG.format("photos")) == []
        guest.close()
    finally:
        photos.run("DROP OWNED BY guest; DROP ROLE guest")


def test_beside_writers(photos, connect, schema, images):
    """Images change while it works: one call after the last change makes all of them right."""
    others = [connect() for _ in range(2)]

    def write(session: Session, parity: int) -> None:
        session.run(f"SET search_path = {schema}, public")
        for i in range(60):
            session.run("UPDATE photos SET image = %s WHERE id = %s", images[(7 * i) % 60], 2 * (i * 11 % 30) + parity)

    with in_background(*(lambda s=s, p=p: write(s, p) for p, s in enumerate(others))) as results:
        for _ in range(6):
            photos.run(CALL.replace("refresh", "batch_size => 7, refresh"))
    assert results == [None, None]
    photos.run(CALL)
    assert photos.column(WRONG.format("photos")) == []
    assert eventually(lambda: refresh(photos) == 0)
