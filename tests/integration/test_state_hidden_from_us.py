"""What a client leaves on a server by SQL that pgweir cannot read, or reads in another way than PostgreSQL does."""
import os
import signal

import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import Closed, PgError, bind, cstr, execute, message, parse, query, sync


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="300ms")


def waits(client):
    return error_of(client.query("SELECT 1")).sqlstate == "53300"


def run(client, *sql):
    for one in sql:
        assert "E" not in types(client.query(one)), one


# client_encoding, and a letter of it whose second byte is a backslash or a letter.
TRAILS = [("SJIS", b"\x83\x5c"), ("BIG5", b"\xa5\x5c"), ("GBK", b"\x81\x5c"), ("UHC", b"\x81\x61"), ("GB18030", b"\x81\x5c")]
LEAVES = [
    (b"LISTEN news", b"UNLISTEN *"),
    (b"SELECT pg_advisory_lock(1)", b"SELECT pg_advisory_unlock(1)"),
    (b"CREATE TEMP TABLE mine (n int)", b"DISCARD TEMP"),
    (b"PREPARE p AS SELECT 1", b"DEALLOCATE p"),
]


@pytest.mark.parametrize("encoding,letter", TRAILS, ids=[t[0] for t in TRAILS])
@pytest.mark.parametrize("extended", [False, True], ids=["query", "extended"])
def test_an_encoding_that_cannot_be_read_hides_no_setting(weir, encoding, letter, extended):
    one, other = login(weir.port, client_encoding=encoding), login(weir.port)
    for sql in (b"SET work_mem = '5MB'", b"SET a.b = '" + letter + b"'"):
        one.send(parse("", sql) + bind("", "") + execute() + sync() if extended else message("Q", cstr(sql)))
        assert "E" not in types(one.read_until("Z")), sql
    for _ in range(3):
        assert one.rows("SELECT current_setting('work_mem'), length(current_setting('a.b'))") == [["5MB", "1"]]
        assert other.rows("SELECT current_setting('work_mem'), coalesce(current_setting('a.b', true), '')") == [["4MB", ""]]


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


def test_words_with_dots_in_parameters_pin_nobody(weir):
    """They look like names of settings, and set_config() might be given one."""
    one, other = login(weir.port), login(weir.port)
    for n in range(300):
        one.send(parse("", "SELECT set_config('search_path', $1, false)") + bind("", "", [f"mail{n}.example.org"]) + execute() + sync())
        assert "E" not in types(one.read_until("Z"))
    assert one.rows("SHOW search_path") == [["mail299.example.org"]]
    run(other, "SET my.own = 'x'")
    assert one.rows("SELECT coalesce(current_setting('my.own', true), '')") == [[""]]
    assert other.rows("SELECT current_setting('my.own')") == [["x"]]
    assert "session.pinned" not in weir.log()


def test_a_name_in_another_encoding_stops_no_question(weir):
    one, other = login(weir.port, client_encoding="LATIN1"), login(weir.port)
    one.send(message("Q", cstr(b"SELECT set_config('search_path', '\xe9.b', false)")))
    assert "E" not in types(one.read_until("Z"))
    run(other, "SET my.own = 'x'")
    assert one.rows("SELECT length(current_setting('search_path'))") == [["3"]]
    assert other.rows("SELECT current_setting('my.own')") == [["x"]]
    assert "session.look_failed" not in weir.log()


def test_a_custom_setting_of_a_login_is_nobody_elses(weir):
    one, other = login(weir.port, options="-c of.login=one"), login(weir.port)
    for client in (one, other, one):
        run(client, "SET work_mem = '5MB'")
    ask = "SELECT coalesce(current_setting('of.login', true), '')"
    for _ in range(3):
        assert one.rows(ask) == [["one"]]
        run(one, "SET work_mem = '6MB'", "SET work_mem = '5MB'")
        assert other.rows(ask) == [[""]]


def test_a_question_that_fails_is_not_asked_again_at_once(cluster, pgweir):
    """The client keeps its server until it has run something, and the question is answered."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="300ms")
    cluster.sql("primary", "ALTER FUNCTION pg_catalog.pg_listening_channels() RENAME TO pg_listening_channels_not")
    try:
        one, other = login(weir.port), login(weir.port)
        run(one, "LISTEN news", "UNLISTEN news")
        assert waits(other)
        weir.wait_log(r"session\.look_failed")
    finally:
        cluster.sql("primary", "ALTER FUNCTION pg_catalog.pg_listening_channels_not() RENAME TO pg_listening_channels")
    failed = weir.log().count("session.look_failed")
    assert failed == 2, failed
    assert one.rows("SELECT 1") == [["1"]]
    assert other.rows("SELECT 1") == [["1"]]

@pytest.mark.parametrize("what", ["number", "bytes", "one"])
def test_more_than_a_label_holds_keeps_the_server_until_it_is_less(weir, what):
    one, other = login(weir.port), login(weir.port)
    sets = {"number": [(f"my.s{i}", "x") for i in range(70)], "bytes": [(f"my.b{i}", "x" * 3000) for i in range(4)],
            "one": [("my.one", "x" * 100000)]}[what]
    for name, value in sets:
        run(one, f"SET {name} = '{value}'")
    assert waits(other)
    ask = "SELECT concat(" + ", ".join(f"length(current_setting('{name}'))" for name, _ in sets) + ")"
    lengths = "".join(str(len(value)) for _, value in sets)
    assert one.rows(ask) == [[lengths]]
    run(one, "RESET ALL")
    assert other.rows("SELECT coalesce(current_setting('my.one', true), '')") == [[""]]
    assert one.rows("SELECT 1") == [["1"]]
    run(one, *(f"SET {name} = '{value}'" for name, value in sets))
    one.close()
    assert wait_until(lambda: other.rows(f"SELECT coalesce(current_setting('{sets[0][0]}', true), '')")) == [[""]]


def test_a_server_that_ends_while_it_gets_its_settings_costs_its_client_nothing(cluster, weir):
    """What the client asked has not been sent yet: another server runs it."""
    one, other = login(weir.port), login(weir.port)
    run(one, "SET work_mem = '5MB'")
    pid = int(one.rows("SELECT pg_backend_pid()")[0][0])
    os.kill(pid, signal.SIGSTOP)
    try:
        other.send(query("SELECT current_setting('work_mem')"))
        cluster.sql("primary", f"SELECT pg_terminate_backend({pid})")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [m.row()[0] for m in other.read_until("Z") if m.type == "D"] == [b"4MB"]
    assert one.rows("SHOW work_mem") == [["5MB"]]


def test_a_server_that_ends_while_it_is_asked_what_is_left(cluster, weir):
    """Whether the client's setting has come to be is not known then: it hears that its server is lost."""
    one, other = login(weir.port), login(weir.port)
    pid = int(one.rows("SELECT pg_backend_pid()")[0][0])
    run(one, "BEGIN")
    run(one, "SET work_mem = '5MB'")
    cluster.sql("primary", f"SELECT pg_terminate_backend({pid})")
    with pytest.raises((Closed, PgError)):
        one.rows("COMMIT")
        one.rows("SHOW work_mem")
    assert other.rows("SHOW work_mem") == [["4MB"]]
