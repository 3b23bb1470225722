"""One space of names: what Parse prepared, SQL's EXECUTE, DEALLOCATE and PREPARE know."""
import pytest
from protocol import login, types
from rawpg import bind, close, describe, execute, parse, query, sync


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=2, workers=1)


def elsewhere(weir):
    """Takes the server that was used last, so that the next transaction finds another one."""
    other = login(weir.port)
    other.query("BEGIN")
    other.query("SELECT 1")
    return other


def answer(client, *messages):
    client.send(*messages)
    return client.read_until("Z")


def error(messages):
    return next((m.fields()["C"], m.fields()["M"]) for m in messages if m.type == "E")


def prepared(weir, name="s1", text="SELECT 7 + $1::int"):
    client = login(weir.port)
    assert types(answer(client, parse(name, text), sync())) == "1Z"
    return client


@pytest.mark.parametrize("begin", [False, True])
def test_execute_in_a_query(weir, begin):
    client = prepared(weir)
    held = elsewhere(weir)
    if begin:
        client.query("BEGIN")
    for _ in range(3):
        assert client.query("execute S1 (1)")[1].row() == [b"8"]
        assert client.query('EXECUTE "s1"(2)')[1].row() == [b"9"]
    if begin:
        client.query("COMMIT")
    held.query("COMMIT")
    assert client.query("EXECUTE s1(3); ")[1].row() == [b"10"]
    assert error(client.query("EXECUTE s2")) == ("26000", 'prepared statement "s2" does not exist')
    assert error(client.query("EXECUTE s1"))[0] == "42601"


def test_execute_of_a_statement_that_does_not_work_any_more(cluster, weir):
    cluster.sql("primary", "DROP TABLE IF EXISTS gone; CREATE TABLE gone (n int); GRANT ALL ON gone TO PUBLIC")
    client = prepared(weir, text="SELECT * FROM gone")
    cluster.sql("primary", "DROP TABLE gone")
    held = elsewhere(weir)
    messages = client.query("EXECUTE s1")
    assert types(messages) == "EZ" and error(messages)[0] == "42P01"
    assert client.rows("SELECT 1") == [["1"]]
    client.query("BEGIN")
    assert types(client.query("EXECUTE s1")) == "EZ"
    assert error(client.query("EXECUTE s1"))[0] == "25P02"
    assert types(client.query("ROLLBACK")) == "CZ"
    held.query("COMMIT")


def test_what_is_executed_counts(cluster, weir):
    client = prepared(weir, text="SET work_mem = '7MB'")
    client.query("EXECUTE s1")
    held = elsewhere(weir)
    assert client.rows("SHOW work_mem") == [["7MB"]]
    held.query("COMMIT")


def test_execute_by_the_extended_protocol(weir):
    client = prepared(weir)
    held = elsewhere(weir)
    for _ in range(2):
        messages = answer(client, parse("", "EXECUTE s1(4)"), bind("", ""), describe("P", ""), execute(), sync())
        assert types(messages) == "12TDCZ" and messages[3].row() == [b"11"]
    assert types(answer(client, parse("x", "EXECUTE s1(5)"), describe("S", "x"), sync())) == "1tTZ"
    held.query("COMMIT")
    for _ in range(3):
        assert answer(client, bind("", "x"), execute(), sync())[1].row() == [b"12"]
    answer(client, close("S", "s1"), sync())
    assert error(answer(client, bind("", "x"), execute(), sync())) == ("26000", 'prepared statement "s1" does not exist')


def test_deallocate_by_the_extended_protocol(weir):
    client, other = prepared(weir), prepared(weir)
    assert types(answer(client, parse("d", "DEALLOCATE s1"), bind("", "d"), describe("P", ""), execute(), sync())) == "12nCZ"
    assert error(answer(client, bind("", "s1", [1]), sync()))[0] == "26000"
    assert error(answer(client, bind("", "d"), execute(), sync())) == ("26000", 'prepared statement "s1" does not exist')
    assert answer(other, bind("", "s1", [1]), execute(), sync())[1].row() == [b"8"]
    for _ in range(3):  # and again
        assert types(answer(client, parse("s1", "SELECT 1"), bind("", "d"), execute(), sync())) == "12CZ"


def test_names_beside_other_statements(weir):
    client = prepared(weir)
    held = elsewhere(weir)
    assert types(client.query("SELECT 1; EXECUTE s1(1); EXPLAIN EXECUTE s1(2)")).replace("D", "") == "TCTCTCZ"
    assert types(client.query("DEALLOCATE s1; EXECUTE s1(1)")) == "CEZ"
    assert error(answer(client, bind("", "s1", [1]), sync()))[0] == "26000"
    held.query("COMMIT")


@pytest.mark.parametrize("sql, there", [("SELECT 1/0; DEALLOCATE s1", True), ("DEALLOCATE s1; SELECT 1/0", False), ("INSERT INTO later VALUES (1); DEALLOCATE s1", False),
                                        ("INSERT INTO later VALUES (1); DEALLOCATE ALL", False), ("SELECT 1/0; DEALLOCATE ALL", True)])
def test_what_is_deallocated_when_the_query_fails(cluster, weir, sql, there):
    """The third and fourth fail in their commit, behind the DEALLOCATE and before its tag."""
    cluster.sql("primary", "DROP TABLE IF EXISTS later; CREATE TABLE later (n int PRIMARY KEY, m int REFERENCES later DEFERRABLE INITIALLY DEFERRED DEFAULT 9);"
                           "GRANT ALL ON later TO PUBLIC")
    client = prepared(weir)
    answer(client, parse("s2", "SELECT 5"), bind("", "s2"), execute(), sync())
    assert "E" in types(client.query(sql))
    assert types(answer(client, bind("", "s1", [1]), execute(), sync())) == ("2DCZ" if there else "EZ")
    stranger = prepared(weir)
    assert types(answer(stranger, bind("", "s1", [1]), execute(), sync())) == "2DCZ"


def test_execute_in_a_query_that_ends_a_segment(weir):
    client = prepared(weir)
    assert types(answer(client, parse("", "SELECT 1"), bind("", ""), execute(), query("EXECUTE s1(1)"))) == "12DCTDCZ"
    assert types(answer(client, parse("s2", "SELECT * FROM pg_class LIMIT 0"), query("EXECUTE s2"))) == "1TCZ"


def test_the_view_shows_the_clients_own(weir):
    client, other = prepared(weir), prepared(weir, "s2", "SELECT 'other'")
    held = elsewhere(weir)
    for _ in range(2):
        assert client.rows("SELECT name, statement, from_sql FROM pg_prepared_statements") == [["s1", "SELECT 7 + $1::int", "f"]]
    assert types(answer(client, bind("", "s1", [1]), execute(), sync())) == "2DCZ"
    assert types(answer(other, bind("", "s2"), execute(), sync())) == "2DCZ"
    held.query("COMMIT")


def test_what_is_executed_is_remembered_by_what_it_is(weir):
    """Both say EXECUTE s1, and mean two settings."""
    for value in ("7MB", "9MB", "7MB", "9MB"):
        client = prepared(weir, text=f"SET work_mem = '{value}'")
        client.query("EXECUTE s1")
        held = elsewhere(weir)
        assert client.rows("SHOW work_mem") == [[value]]
        held.close()


def test_execute_of_an_execute(weir):
    client = prepared(weir)
    answer(client, parse("s2", "EXECUTE s1(1)"), parse("s3", "EXECUTE s2"), parse("self", "EXECUTE self"), sync())
    for name in ("s2", "s3"):
        assert client.query(f"EXECUTE {name}")[1].row() == [b"8"]
        assert answer(client, bind("", name), execute(), sync())[1].row() == [b"8"]
    assert error(client.query("EXECUTE self"))[0] == "54001"
    assert error(answer(client, bind("", "self"), execute(), sync()))[0] == "54001"


def test_prepare_by_the_extended_protocol_of_a_name_that_parse_took(weir):
    client = prepared(weir)
    for _ in range(2):
        assert error(answer(client, parse("", "PREPARE s1 AS SELECT 2"), bind("", ""), execute(), sync())) == ("42P05", 'prepared statement "s1" already exists')
    assert answer(client, bind("", "s1", [1]), execute(), sync())[1].row() == [b"8"]


def test_a_deallocate_that_is_bound_deallocates_nothing(weir):
    client = prepared(weir)
    answer(client, parse("", "DEALLOCATE s1"), bind("p", ""), sync())
    assert error(answer(client, execute("p"), sync()))[0] == "34000"
    assert answer(client, bind("", "s1", [1]), execute(), sync())[1].row() == [b"8"]


@pytest.mark.parametrize("sql", ["DEALLOCATE {}", "EXECUTE {}(1)"])
@pytest.mark.parametrize("extended", [False, True])
def test_nobody_reaches_anothers(weir, sql, extended):
    one, two = prepared(weir), login(weir.port)
    held = elsewhere(weir)
    [[name]] = one.rows("SELECT name FROM pg_prepared_statements WHERE name LIKE '\\_pgweir%' LIMIT 1") or [["_pgweir_0_1"]]
    text = sql.format(name)
    messages = answer(two, parse("", text), bind("", ""), execute(), sync()) if extended else two.query(text)
    assert error(messages)[0] == "26000"
    assert answer(one, bind("", "s1", [1]), execute(), sync())[1].row() == [b"8"]
    held.query("COMMIT")


@pytest.mark.parametrize("begin", [False, True])
def test_prepare_of_a_name_that_parse_took(weir, begin):
    client = prepared(weir)
    if begin:
        client.query("BEGIN")
    assert error(client.query("PREPARE s1 AS SELECT 2")) == ("42P05", 'prepared statement "s1" already exists')
    if begin:
        client.query("ROLLBACK")
    assert error(client.query("PREPARE s1 AS SELEC 2"))[0] == "42601"
    assert answer(client, bind("", "s1", [1]), execute(), sync())[1].row() == [b"8"]
    assert types(client.query("PREPARE s2 AS SELECT 2")) == "CZ"
    assert client.rows("EXECUTE s2") == [["2"]]


def test_parse_of_a_name_that_prepare_took(weir):
    client = login(weir.port)
    client.query("PREPARE s1 AS SELECT 2")
    for _ in range(2):
        assert error(answer(client, parse("s1", "SELECT 1"), sync())) == ("42P05", 'prepared statement "s1" already exists')
    assert types(answer(client, parse("s2", "SELECT 1"), bind("", "s2"), execute(), sync())) == "12DCZ"
    assert client.rows("EXECUTE s1") == [["2"]]
    client.query("DEALLOCATE s1")
    assert types(answer(client, parse("s1", "SELECT 1"), sync())) == "1Z"


def test_a_notice_comes_once(weir):
    client = login(weir.port)
    assert types(answer(client, parse("s1", f"SELECT 1 AS {'x' * 80}"), sync())) == "N1Z"
    held = elsewhere(weir)
    for _ in range(2):
        assert types(answer(client, bind("", "s1"), execute(), sync())) == "2DCZ"
    held.query("COMMIT")


def test_a_deallocate_that_fails_leaves_no_name_at_the_server(cluster, pgweir):
    """Its server had the client's name for a moment, and skips what takes it away."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1)
    client = prepared(weir)
    answer(client, parse("s2", "DEALLOCATE s1"), sync())
    messages = answer(client, bind("p1", "s2"), close("P", "p1"), execute("p1"), sync())
    assert error(messages)[0] == "34000"
    assert client.query("EXECUTE s1 (1)")[1].row() == [b"8"]
    stranger = login(weir.port)
    assert stranger.rows("SELECT name FROM pg_prepared_statements WHERE name !~ '^_pgweir_'") == []
    assert types(stranger.query("PREPARE s1 AS SELECT 1")) == "CZ"
