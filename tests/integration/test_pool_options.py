"""The options that say when a server is opened, checked, cleaned and closed."""
import psycopg2
import pytest
from conftest import wait_until
from protocol import login, types
from rawpg import bind, execute, parse, query, sync


def entry(cluster, **more):
    return {"app": cluster.entry(["primary"]) + "".join(f" {k}={v}" for k, v in more.items())}


def pid(client):
    return client.rows("SELECT pg_backend_pid()")[0][0]


def servers(cluster, user="app_scram"):
    return [p for p, in cluster.sql("primary", "SELECT pid FROM pg_stat_activity WHERE usename = %s ORDER BY backend_start", user)]


# pool_mode

@pytest.mark.parametrize("block", [query("BEGIN"), query("BEGIN; SELECT 1"), parse("", "BEGIN") + bind("", "") + execute() + sync(),
                                   query("BEGIN READ ONLY"), query("SELECT 1; BEGIN")])
def test_statement_pooling_refuses_transactions(cluster, pgweir, block):
    weir = pgweir(pool_mode="statement")
    client = login(weir.port)
    client.send(block)
    answers = client.read_until("E")
    assert answers[-1].fields()["C"] == "08P01" and answers[-1].fields()["S"] == "FATAL"
    assert answers[-1].fields()["M"] == "transaction blocks not allowed in statement pooling mode"
    assert "Z" not in types(answers)
    client.expect_closed()
    wait_until(lambda: not cluster.sql("primary", "SELECT 1 FROM pg_stat_activity WHERE state ~ '^idle in tr' AND usename = 'app_scram'"))


def test_statement_pooling_runs_all_else(cluster, pgweir):
    weir = pgweir(databases=entry(cluster), pool_mode="statement", default_pool_size=1)
    one, two = login(weir.port), login(weir.port)
    for client in (one, two):
        assert types(client.query("BEGIN; SELECT 1; COMMIT")) == "CTDCCZ"
        assert client.rows("SELECT 1") == [["1"]]
    assert [row["pool_mode"] for row in weir.show("POOLS") if row["database"] == "app"] == ["statement"]


# server_reset_query

def test_the_reset_query_runs_when_a_client_leaves(cluster, pgweir):
    weir = pgweir(databases=entry(cluster), pool_mode="session", default_pool_size=1, workers=1,
                  server_reset_query="SET application_name = 'was reset'")
    one = login(weir.port)
    one.rows("SELECT 1")
    assert servers(cluster)
    one.terminate()
    name = "SELECT application_name FROM pg_stat_activity WHERE usename = 'app_scram'"
    wait_until(lambda: cluster.sql("primary", name) == [("was reset",)])


@pytest.mark.parametrize("always", ["yes", "no"])
def test_the_reset_query_always(cluster, pgweir, always):
    weir = pgweir(databases=entry(cluster), default_pool_size=1, workers=1, server_reset_query_always=always)
    client = login(weir.port)
    client.send(parse("s", "SELECT 7") + sync())
    client.read_until("Z")
    # A statement that PostgreSQL counts tells that it ran: DISCARD ALL drops what the pool had prepared.
    wait_until(lambda: [s for s, in cluster.sql("primary", "SELECT query FROM pg_stat_activity WHERE usename = 'app_scram'")]
               == (["DISCARD ALL"] if always == "yes" else ["SELECT 7"]))
    client.send(bind("", "s") + execute() + sync())
    assert types(client.read_until("Z")) == "2DCZ"
    client.query("SET work_mem = '9MB'")
    assert client.rows("SHOW work_mem") == [["9MB"]]


# server_check_query

def test_a_server_is_checked_after_the_delay(cluster, pgweir):
    weir = pgweir(databases=entry(cluster), default_pool_size=1, workers=1, server_check_query="SELECT 'checked'",
                  server_check_delay=0)
    client = login(weir.port)
    first = pid(client)
    cluster.sql("primary", "CREATE TABLE IF NOT EXISTS seen (n int)")
    try:
        # The check stands before what was asked; it is the newest when nothing was asked behind it.
        assert pid(client) == first
        client.query("BEGIN")
        client.query("SELECT 1")
        client.query("COMMIT")
        assert pid(client) == first
    finally:
        cluster.sql("primary", "DROP TABLE seen")


def test_a_server_that_fails_its_check_is_replaced(cluster, pgweir):
    cluster.sql("primary", "DROP TABLE IF EXISTS health; CREATE TABLE health (n int); GRANT SELECT ON health TO PUBLIC")
    weir = pgweir(databases=entry(cluster), default_pool_size=1, workers=1, server_check_query="TABLE health", server_check_delay=0)
    client = login(weir.port)
    first = pid(client)
    assert pid(client) == first
    cluster.sql("primary", "DROP TABLE health")
    client.send(query("SELECT pg_backend_pid()"))
    wait_until(lambda: first not in [str(p) for p in servers(cluster)])
    cluster.sql("primary", "CREATE TABLE health (n int); GRANT SELECT ON health TO PUBLIC")
    try:
        assert client.read_until("Z")[1].row() != [first.encode()]
    finally:
        cluster.sql("primary", "DROP TABLE health")


@pytest.mark.parametrize("delay,same", [("1h", True), (0, True)])
def test_the_empty_check_query(cluster, pgweir, delay, same):
    weir = pgweir(databases=entry(cluster), default_pool_size=2, server_check_query="<empty>", server_check_delay=delay)
    client = login(weir.port)
    assert (len({pid(client) for _ in range(20)}) <= 2) == same


# how long servers live

def test_a_server_for_one_use(cluster, pgweir):
    weir = pgweir(databases=entry(cluster), default_pool_size=2, server_lifetime=0)
    client = login(weir.port)
    assert len({pid(client) for _ in range(5)}) == 5
    client.query("BEGIN")
    assert len({pid(client) for _ in range(3)}) == 1


def test_old_and_idle_servers_are_closed(cluster, pgweir):
    weir = pgweir(databases=entry(cluster), server_lifetime="2s")
    client = login(weir.port)
    first = pid(client)
    wait_until(lambda: pid(client) != first, 20)
    weir = pgweir(databases=entry(cluster), server_idle_timeout="1s")
    client = login(weir.port)
    first = int(pid(client))
    wait_until(lambda: first not in servers(cluster), 20)
    assert client.rows("SELECT 1") == [["1"]]


def test_min_pool_size(cluster, pgweir):
    weir = pgweir(databases=entry(cluster), min_pool_size=3, default_pool_size=5, server_idle_timeout="1s")
    client = login(weir.port)
    wait_until(lambda: len(servers(cluster)) == 3, what="they are opened")
    held = [login(weir.port) for _ in range(5)]
    for c in held:
        c.query("BEGIN")
        c.query("SELECT 1")
    assert len(servers(cluster)) == 5
    for c in held:
        c.query("COMMIT")
    wait_until(lambda: len(servers(cluster)) == 3, 20, what="the others are closed")
    cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_scram'")
    wait_until(lambda: len(servers(cluster)) == 3, 20, what="they are opened again")
    for c in [client, *held]:
        c.terminate()
    wait_until(lambda: not servers(cluster), 20, what="without clients none is kept")


def test_min_pool_size_of_a_database(cluster, pgweir):
    weir = pgweir(databases=entry(cluster, min_pool_size=2), default_pool_size=5)
    client = login(weir.port)
    wait_until(lambda: len(servers(cluster)) == 2)
    client.terminate()


@pytest.mark.parametrize("robin", ["no", "yes"])
def test_round_robin(cluster, pgweir, robin):
    weir = pgweir(databases=entry(cluster), workers=1, default_pool_size=3, server_round_robin=robin)
    clients = [login(weir.port) for _ in range(3)]
    for c in clients:
        c.query("BEGIN")
        c.query("SELECT 1")
    for c in clients:
        c.query("COMMIT")
    assert len({pid(clients[0]) for _ in range(6)}) == (3 if robin == "yes" else 1)


# connect_query and the entry's settings

def test_connect_query_outlives_other_settings(cluster, pgweir):
    weir = pgweir(databases=entry(cluster, connect_query="'SET work_mem = ''11MB''; SET my.own = ''x'''"), default_pool_size=1, workers=2)
    one, two = login(weir.port), login(weir.port, work_mem="12MB")
    for _ in range(3):
        assert one.rows("SHOW work_mem") == [["11MB"]] and one.rows("SHOW my.own") == [["x"]]
        assert two.rows("SHOW work_mem") == [["12MB"]] and two.rows("SHOW my.own") == [["x"]]
    one.query("SET work_mem = '13MB'")
    assert two.rows("SHOW work_mem") == [["12MB"]]
    assert one.rows("SHOW work_mem") == [["13MB"]]
    for reset in ("RESET work_mem", "RESET ALL", "DISCARD ALL"):
        one.query("SET work_mem = '13MB'")
        one.query(reset)
        assert two.rows("SHOW work_mem") == [["12MB"]]
        assert one.rows("SHOW work_mem") == [["11MB"]], reset


def test_connect_query_in_session_pooling(cluster, pgweir):
    weir = pgweir(databases=entry(cluster, connect_query="'SET work_mem = ''11MB'''"), pool_mode="session", default_pool_size=1)
    for _ in range(3):
        client = login(weir.port)
        assert client.rows("SHOW work_mem") == [["11MB"]]
        client.query("SET work_mem = '12MB'")
        client.terminate()


def test_connect_query_runs_once_for_a_server(cluster, pgweir):
    cluster.sql("primary", "DROP TABLE IF EXISTS greeted; CREATE TABLE greeted (pid int); GRANT ALL ON greeted TO PUBLIC")
    weir = pgweir(databases=entry(cluster, connect_query="'INSERT INTO greeted VALUES (pg_backend_pid())'"), default_pool_size=2)
    clients = [login(weir.port, work_mem=f"{n}MB") for n in (5, 6, 7)]
    try:
        for c in clients * 3:
            pid(c)
        rows = cluster.sql("primary", "SELECT pid FROM greeted")
        assert len(rows) == len(set(rows)) and 1 <= len(rows) <= 2
    finally:
        cluster.sql("primary", "DROP TABLE greeted")


def test_the_errors_of_connect_query_are_logged(cluster, pgweir):
    weir = pgweir(databases=entry(cluster, connect_query="'SELECT nothing_like_it'"))
    assert login(weir.port).rows("SELECT 1") == [["1"]]
    weir.wait_log('connect_query_failed.*column .*nothing_like_it.* does not exist')
    weir = pgweir(databases=entry(cluster, connect_query="BEGIN"), queue_timeout="1s")
    with pytest.raises(psycopg2.OperationalError):
        weir.connect()
    weir.wait_log("connect_query leaves a transaction open")


def test_settings_of_the_entry(cluster, pgweir):
    weir = pgweir(databases=entry(cluster, application_name="weir", timezone="Asia/Tokyo", datestyle="German", client_encoding="LATIN1"),
                  default_pool_size=1)
    one, two = login(weir.port), login(weir.port, TimeZone="UTC")
    for _ in range(2):
        assert one.rows("SELECT current_setting('application_name'), current_setting('TimeZone'), current_setting('client_encoding')") \
            == [["weir", "Asia/Tokyo", "LATIN1"]]
        assert one.rows("SHOW DateStyle")[0][0].startswith("German")
        assert two.rows("SELECT current_setting('TimeZone'), current_setting('application_name')") == [["UTC", "weir"]]
        one.query("RESET ALL")
