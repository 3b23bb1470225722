"""pool_mode = session: a client has one server from its first statement to its end, as if it were its own."""
import pytest
from conftest import PASSWORDS, wait_until
from protocol import error_of, login, types
from rawpg import RawPg, bind, close, execute, parse, query, sync


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, pool_mode="session", default_pool_size=1, workers=1, queue_timeout="10s")


def told(client, *messages):
    client.send(*messages, sync())
    return client.read_until("Z")


def pid(client):
    return client.rows("SELECT pg_backend_pid()")[0][0]


def test_statements_have_the_names_that_the_client_gave_them(weir):
    client = login(weir.port)
    told(client, parse("mine", "SELECT 1"))
    assert client.rows("SELECT name, from_sql FROM pg_prepared_statements") == [["mine", "f"]]
    assert client.rows("EXECUTE mine") == [["1"]]
    client.query("PREPARE yours AS SELECT 2")
    assert error_of(told(client, parse("yours", "SELECT 3"))).sqlstate == "42P05"
    assert types(told(client, bind("", "yours"), execute())) == "2DCZ"
    client.query("DEALLOCATE mine")
    assert error_of(told(client, bind("", "mine"))).sqlstate == "26000"
    assert "session.pinned" not in weir.log()


def test_a_plan_that_ddl_broke_is_broken_until_the_client_parses_again(cluster, weir):
    cluster.sql("primary", "DROP TABLE IF EXISTS sp; CREATE TABLE sp AS SELECT 1 AS a; GRANT SELECT ON sp TO PUBLIC")
    client, look = login(weir.port), [bind("", "look"), execute()]
    told(client, parse("look", "SELECT * FROM sp"))
    assert types(told(client, *look)) == "2DCZ"
    cluster.sql("primary", "ALTER TABLE sp ADD b int")
    for _ in range(2):
        assert error_of(told(client, *look)).sqlstate == "0A000"
    assert types(told(client, close("S", "look"), parse("look", "SELECT * FROM sp"), *look)) == "312DCZ"
    cluster.sql("primary", "DROP TABLE sp")


def test_discard_all_goes_back_to_what_the_login_set(weir):
    client = login(weir.port, DateStyle="German", options="-c work_mem=5MB")
    told(client, parse("mine", "SELECT 1"))
    for _ in range(2):
        client.query("SET work_mem = '6MB'; SET TimeZone = 'Asia/Tokyo'; CREATE TEMP TABLE mine (n int)")
        client.query("DISCARD ALL")
        assert client.rows("SHOW work_mem") == [["5MB"]]
        assert client.rows("SHOW DateStyle")[0][0].startswith("German")
        assert client.rows("SHOW TimeZone") != [["Asia/Tokyo"]]
        assert error_of(told(client, bind("", "mine"))).sqlstate == "26000"
        assert error_of(client.query("TABLE mine")).sqlstate == "42P01"


@pytest.mark.parametrize("statement,same", [("SELECT 1", True), ("SET work_mem = '7MB'", True), ("SELECT pg_advisory_lock(3)", True),
                                            ("SELECT setseed(0.5)", False), ("SET SEED TO 0.5", False), ("LOAD 'auto_explain'", False)])
def test_what_the_reset_query_does_not_clean_costs_the_server(weir, statement, same):
    user = "postgres" if statement.startswith("LOAD") else "app_scram"
    client = RawPg(weir.port).login(user, "app", PASSWORDS[user])
    first = pid(client)
    client.send(query(statement))
    assert "E" not in types(client.read_until("Z"))
    assert pid(client) == first
    client.terminate()
    assert (pid(RawPg(weir.port).login(user, "app", PASSWORDS[user])) == first) == same


def test_the_next_client_waits_for_the_end_of_the_first(weir):
    one, two = login(weir.port), login(weir.port)
    first = pid(one)
    two.send(query("SELECT pg_backend_pid()"))
    wait_until(lambda: int(next(row["cl_waiting"] for row in weir.show("POOLS") if row["database"] == "app")) == 1)
    one.query("BEGIN; COMMIT")
    assert two.silent()
    one.terminate()
    assert two.read_until("Z")[1].row() == [first.encode()]
