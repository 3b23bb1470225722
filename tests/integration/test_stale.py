"""A table is altered under prepared statements: PostgreSQL's 0A000 comes through pgweir too, and never a row that the client
would read by an old description, whichever server its next Bind finds."""
import pytest
from protocol import error_of, login, types
from rawpg import RawPg, bind, close, describe, execute, flush, parse, sync

SELECT = "SELECT * FROM stale_t"
ADD, DROP, TEXT = ("ALTER TABLE stale_t " + change for change in ("ADD b int DEFAULT 2", "DROP b", "ALTER a TYPE text"))
PREPARED = parse("s", SELECT) + describe("S", "s") + sync()
UNNAMED = parse("", SELECT) + describe("S") + sync()
AGAIN = bind("", "s") + execute() + sync()
PORTAL = bind("", "s") + describe("P") + execute() + sync()
ANEW = close("S", "s") + PREPARED

# What the client sends; a text is what another one does to the table.
SCRIPTS = {
    "described by Describe of the statement": [PREPARED, AGAIN, ADD, AGAIN, AGAIN, ANEW, AGAIN, AGAIN],
    "described by its portals": [parse("s", SELECT) + sync(), PORTAL, ADD, PORTAL, AGAIN, ANEW, PORTAL],
    "as it was again": [PREPARED, AGAIN, ADD, AGAIN, DROP, AGAIN, AGAIN],
    "another type": [PREPARED, AGAIN, TEXT, AGAIN, ANEW, AGAIN],
    "a table of the same columns": [PREPARED, AGAIN, "DROP TABLE stale_t; CREATE TABLE stale_t (a int); GRANT ALL ON stale_t TO PUBLIC", AGAIN, AGAIN],
    "no table": [PREPARED, AGAIN, "ALTER TABLE stale_t RENAME TO stale_u", AGAIN, AGAIN, "ALTER TABLE stale_u RENAME TO stale_t", AGAIN],
    "in a transaction": [parse("b", "BEGIN") + parse("r", "ROLLBACK") + describe("S", "r") + sync(), PREPARED, ADD,
                         bind("", "b") + execute() + sync(), AGAIN, AGAIN, bind("", "r") + execute() + sync(), AGAIN],
    "segments at once": [PREPARED, ADD, AGAIN + AGAIN + AGAIN, ANEW + AGAIN + AGAIN],
    "messages behind it": [PREPARED, ADD, parse("", "INSERT INTO stale_t VALUES (5)") + bind("", "") + execute() + AGAIN, parse("t", "SELECT count(*) FROM stale_t") + bind("", "t") + execute() + sync()],
    "Flush": [PREPARED, ADD, (bind("", "s") + flush(), "E"), sync(), ANEW, (bind("", "s") + execute() + flush(), "C"), sync()],
    "unnamed": [UNNAMED, TEXT, UNNAMED, bind("", "") + execute() + sync()],
    "unnamed, read by what was told before": [UNNAMED, bind("", "") + execute() + sync(), ADD, bind("", "") + execute() + sync(), bind("", "") + execute() + sync(),
                                               UNNAMED, bind("", "") + execute() + sync()],
    "what FETCH returns may change": [
        parse("s", "FETCH ALL FROM k") + sync(), *[
            parse("", "BEGIN") + bind("", "") + execute() + parse("", f"DECLARE k CURSOR FOR SELECT {columns}") + bind("", "") + execute() +
            bind("", "s") + describe("P") + execute() + parse("", "COMMIT") + bind("", "") + execute() + sync() for columns in ("1", "2, 'two'")]],
    "parameters": [parse("s", "SELECT a FROM stale_t WHERE a = $1") + describe("S", "s") + sync(), bind("", "s", [1]) + execute() + sync(), ADD, bind("", "s", [1]) + execute() + sync()],
    "no rows": [parse("s", "INSERT INTO stale_t VALUES (7)") + describe("S", "s") + sync(), AGAIN, ADD, AGAIN, AGAIN],
}


@pytest.fixture
def weir(cluster, pgweir):
    """A server that has never what the client used last."""
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, max_prepared_statements=1, workers=1)


def make_table(cluster):
    cluster.sql("primary", "DROP TABLE IF EXISTS stale_t; CREATE TABLE stale_t (a int); GRANT ALL ON stale_t TO PUBLIC; INSERT INTO stale_t VALUES (1)")


def columns(message):
    count, rest, found = int.from_bytes(message.body[:2]), message.body[2:], []
    for _ in range(count):
        name, rest = rest.split(b"\0", 1)
        found.append((name, rest[6:10]))
        rest = rest[18:]
    return found


def shown(m):
    if m.type == "E":
        return {k: m.fields().get(k) for k in ("SVCM" if m.fields()["C"] == "25P02" else "SVCMFR")}
    return m.type, m.row() if m.type == "D" else columns(m) if m.type == "T" else m.body


def play(cluster, port, script, between):
    make_table(cluster)
    seen, free = [], True
    with login(port) as c:
        for step in script:
            if isinstance(step, str):
                cluster.sql("primary", step)
                continue
            if free and c.status == "I":
                between()
            data, until = step if isinstance(step, tuple) else (step, "Z" * step.count(sync()))
            free = sync() in data
            c.send(data)
            seen.append([shown(m) for last in until for m in c.read_until(last)])
    return seen


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same server", "another server"])
def test_what_is_seen_is_what_postgres_shows(cluster, weir, script, elsewhere):
    expected = play(cluster, cluster.ports["primary"], script, lambda: None)
    with login(weir.port) as other:
        def between():
            if elsewhere:
                other.send(parse("o", "SELECT 'other'") + bind("", "o") + execute() + parse("", "SELECT 'x'") + close("S", "o") + sync())
                assert "E" not in types(other.read_until("Z"))
        assert play(cluster, weir.port, script, between) == expected


def test_each_client_reads_by_what_it_was_told(cluster, weir):
    make_table(cluster)
    old, new = login(weir.port), login(weir.port)
    old.send(PREPARED)
    old.read_until("Z")
    cluster.sql("primary", ADD)
    new.send(parse("n", SELECT) + describe("S", "n") + sync())
    error_free = types(new.read_until("Z"))
    for _ in range(3):
        old.send(AGAIN)
        assert error_of(old.read_until("Z")).sqlstate == "0A000"
        new.send(bind("", "n") + execute() + sync())
        assert [m.row() for m in new.read_until("Z") if m.type == "D"] == [[b"1", b"2"]], error_free


@pytest.mark.parametrize("read", [PREPARED, parse("s", SELECT) + bind("", "s") + describe("P") + execute() + sync()], ids=["statement", "portal"])
def test_who_prepares_after_the_change_finds_no_plan_of_before(cluster, weir, read):
    make_table(cluster)
    one, two, third = (login(weir.port) for _ in range(3))
    one.send(parse("s", SELECT) + AGAIN)
    one.read_until("Z")
    cluster.sql("primary", "ALTER TABLE stale_t OWNER TO app_scram")
    assert types(two.query(ADD)) == "CZ"
    third.send(read)
    answers = third.read_until("Z")
    assert "E" not in types(answers) and [len(columns(m)) for m in answers if m.type == "T"] == [2]


def test_a_table_that_is_gone_is_missed_at_parse(cluster, weir):
    make_table(cluster)
    cluster.sql("primary", "ALTER TABLE stale_t OWNER TO app_scram")
    one, two = login(weir.port), login(weir.port)
    one.send(PREPARED)
    one.read_until("Z")
    two.query("DROP TABLE stale_t")
    for c in (one, two):
        c.send(parse("u", SELECT) + sync())
        assert error_of(c.read_until("Z")).sqlstate == "42P01"


def test_rows_of_a_replica_that_is_behind_are_the_primarys(cluster, pgweir):
    """The client was told of the new column; what the replica has is not wrong, but not what it was told."""
    make_table(cluster)
    cluster.wait_replayed("replica1")
    weir = pgweir(cluster, consistency="eventual", max_lag=0, catalog_poll_interval="60s", workers=1, log_routes="all")
    weir.wait_reads_on_replica()
    cluster.pause("replica1")
    cluster.sql("primary", ADD)
    with login(weir.port) as c:
        c.query("BEGIN")
        c.send(parse("w", "UPDATE stale_t SET a = 1") + bind("", "w") + execute() + PREPARED)
        assert "E" not in types(c.read_until("Z"))
        c.query("COMMIT")
        for _ in range(3):
            c.send(AGAIN)
            assert [m.row() for m in c.read_until("Z") if m.type == "D"] == [[b"1", b"2"]]
    assert "reason=rerun" in weir.log()


def test_one_text_in_two_databases_is_parsed_once_in_each(cluster, pgweir):
    """What its rows are in one of them is no news in the other."""
    weir = pgweir(databases={"app": cluster.entry(["primary"]), "post": cluster.entry(["primary"], dbname="postgres")}, default_pool_size=1, workers=1)
    make_table(cluster)
    db = cluster.connect("primary", dbname="postgres")
    db.cursor().execute("DROP TABLE IF EXISTS stale_t; CREATE TABLE stale_t (x text, y text); GRANT ALL ON stale_t TO PUBLIC")
    db.close()
    parsed_at = f"SELECT prepare_time FROM pg_prepared_statements WHERE statement = '{SELECT}'"
    with login(weir.port) as app, RawPg(weir.port).login("app_scram", "post", "secret") as post:
        times = []
        for n in range(4):
            for c, name in ((app, "app"), (post, "post")):
                c.send((PREPARED if n == 0 else AGAIN) + AGAIN)
                assert "E" not in types(c.read_until("Z") + c.read_until("Z"))
                c.send(parse("", parsed_at) + bind("", "") + execute() + sync())  # a Query would show this client's names
                times.append((name, c.read_until("Z")[2].row()[0]))
        assert len(times) == 8 and len(set(times)) == 2, times


def test_a_known_text_is_prepared_without_a_server_and_parsed_when_it_is_used(cluster, weir):
    """A program that prepares for one connection after the other while its own transaction holds the only server."""
    make_table(cluster)
    one, two = login(weir.port), login(weir.port)
    one.send(PREPARED)
    one.read_until("Z")
    one.query("BEGIN")
    one.query("SELECT 1")
    two.send(parse("t", SELECT) + sync())
    assert types(two.read_until("Z")) == "1Z"
    cluster.sql("primary", ADD)
    one.query("COMMIT")
    two.send(bind("", "t") + execute() + sync())
    assert [m.row() for m in two.read_until("Z") if m.type == "D"] == [[b"1", b"2"]]
    one.send(AGAIN)
    assert error_of(one.read_until("Z")).sqlstate == "0A000"


def test_what_describe_says_of_a_stale_statement(cluster, weir):
    make_table(cluster)
    c = login(weir.port)
    c.send(parse("s", SELECT) + sync())
    c.read_until("Z")
    cluster.sql("primary", ADD)
    c.send(describe("S", "s") + sync())
    assert types(c.read_until("Z")) == "tEZ"
