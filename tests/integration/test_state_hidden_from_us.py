"""What a client leaves on a server by SQL that pgweir cannot read, or reads in another way than PostgreSQL does."""
import pytest
from protocol import error_of, login, types
from rawpg import bind, cstr, execute, message, parse, query, sync


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="300ms")


def waits(client):
    return error_of(client.query("SELECT 1")).sqlstate == "53300"


def run(client, *sql):
    for one in sql:
        assert "E" not in types(client.query(one)), one


LEAVES = [
    (b"LISTEN news", b"UNLISTEN *"),
    (b"SELECT pg_advisory_lock(1)", b"SELECT pg_advisory_unlock(1)"),
    (b"CREATE TEMP TABLE mine (n int)", b"DISCARD TEMP"),
    (b"PREPARE p AS SELECT 1", b"DEALLOCATE p"),
]


@pytest.mark.parametrize("begins,ends", LEAVES, ids=[x[0].decode() for x in LEAVES])
@pytest.mark.parametrize("letter", [b"", b" /* \x83\x5c */"], ids=["ascii", "letters"])
def test_an_encoding_that_cannot_be_read_hides_nothing_else(weir, begins, ends, letter):
    one, other = login(weir.port, client_encoding="SJIS"), login(weir.port)
    one.send(message("Q", cstr(begins + letter)))
    assert "E" not in types(one.read_until("Z"))
    assert waits(other)
    one.send(message("Q", cstr(ends + letter)))
    assert "E" not in types(one.read_until("Z"))
    assert other.rows("SELECT 1") == [["1"]]


HIDDEN = "SELECT '\\'', pg_advisory_lock(1) --'"  # with backslashes a call, without them one string


@pytest.mark.parametrize("how", ["query", "segment", "transaction"])
def test_a_set_that_is_still_unanswered_hides_nothing(weir, how):
    """The statement behind it is read in the way that held before."""
    one, other = login(weir.port), login(weir.port)
    change = "SET LOCAL standard_conforming_strings = off"
    if how == "query":
        script = query("BEGIN") + query(change) + query(HIDDEN) + query("COMMIT")
    elif how == "transaction":
        script = query("BEGIN") + parse("", change) + bind("", "") + execute() + sync() + query(HIDDEN) + query("COMMIT")
    else:
        script = (parse("", change) + bind("", "") + execute() + parse("", HIDDEN) + bind("", "") + execute() + sync())
    one.send(script)
    for _ in range(how == "segment" or 4):
        one.read_until("Z")
    assert one.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [["1"]]
    assert waits(other)
    run(one, "SELECT pg_advisory_unlock(1)")
    assert other.rows("SELECT 1") == [["1"]]


def test_a_text_of_two_transactions_is_two_statements(weir):
    """Each reads it in its own way."""
    one = login(weir.port)
    text = "SELECT '\\\\'"
    got = []
    for name, sql in (("s1", "SET LOCAL standard_conforming_strings = off"), ("s2", "SET work_mem = '5MB'")):
        run(one, "BEGIN", sql)
        one.send(parse(name, text) + bind("", name) + execute() + sync())
        got += [m.row()[0] for m in one.read_until("Z") if m.type == "D"]
        run(one, "COMMIT")
    assert got == [b"\\", b"\\\\"]
