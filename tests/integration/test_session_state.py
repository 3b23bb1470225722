"""What a client leaves on a server stays its own, and is gone with it."""
import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import PgError, bind, execute, parse, query, sync


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=2, workers=1, queue_timeout="5s")


def pids(clients):
    """The backends that these clients use, all at the same time."""
    for c in clients:
        c.query("BEGIN")
    found = [c.rows("SELECT pg_backend_pid()")[0][0] for c in clients]
    for c in clients:
        c.query("COMMIT")
    return found


SETTINGS = [("SET work_mem = '77MB'", "work_mem", "77MB"), ("SET SESSION TimeZone TO 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo"),
            ("SELECT set_config('work_mem', '78MB', false)", "work_mem", "78MB"), ("SET search_path = nowhere", "search_path", "nowhere"),
            ("BEGIN; SET work_mem = '79MB'; COMMIT", "work_mem", "79MB"), ("DO $$ BEGIN SET work_mem = '80MB'; END $$", "work_mem", "80MB"),
            ("SET ROLE app", "role", "app")]


@pytest.mark.parametrize("sql,name,value", SETTINGS, ids=[s[0] for s in SETTINGS])
def test_a_setting_stays_with_its_client(cluster, weir, sql, name, value):
    if "ROLE" in sql:
        cluster.sql("primary", "GRANT app TO app_scram")
    one, two = login(weir.port), login(weir.port)
    before = two.rows(f"SHOW {name}")
    answers = one.query(sql)
    assert "E" not in types(answers)
    kept = "DO" not in sql  # in a body we do not see it: the next transaction starts clean
    for _ in range(3):
        assert (one.rows(f"SHOW {name}") == [[value]]) or not kept
        assert two.rows(f"SHOW {name}") == before
    one.terminate()
    three, four = login(weir.port), login(weir.port)
    assert len(set(pids([three, four]))) == 2
    for c in (two, three, four):
        assert c.rows(f"SHOW {name}") == before


def test_a_setting_by_the_extended_protocol(weir):
    one, two = login(weir.port), login(weir.port)
    before = two.rows("SHOW work_mem")
    one.send(parse("", "SET work_mem = '66MB'") + bind("", "") + execute() + sync())
    one.read_until("Z")
    for _ in range(3):
        assert (one.rows("SHOW work_mem"), two.rows("SHOW work_mem")) == ([["66MB"]], before)
    one.reset()
    assert {login(weir.port).rows("SHOW work_mem")[0][0] for _ in range(3)} == {before[0][0]}


def test_reported_settings_reach_the_client(weir):
    c = login(weir.port)
    c.query("SET application_name = 'renamed'")
    assert c.params["application_name"] == "renamed"
    c.query("SET TimeZone = 'Asia/Tokyo'")
    assert c.params["TimeZone"] == "Asia/Tokyo"
    assert login(weir.port).params["TimeZone"] != "Asia/Tokyo"


def test_temporary_tables_and_held_cursors_stay_with_their_client(weir):
    one, two = login(weir.port), login(weir.port)
    one.query("CREATE TEMP TABLE mine AS SELECT 7 AS n")
    one.query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 8; COMMIT")
    one.query("PREPARE sq AS SELECT 9")
    for _ in range(3):
        assert [one.rows(q) for q in ("SELECT n FROM mine", "EXECUTE sq")] == [[["7"]], [["9"]]]
        for q in ("SELECT n FROM mine", "EXECUTE sq", "FETCH c"):
            with pytest.raises(PgError):
                two.rows(q)
    assert one.rows("FETCH c") == [["8"]]
    one.close()
    for c in (two, login(weir.port), login(weir.port)):
        for q in ("SELECT n FROM mine", "EXECUTE sq", "FETCH c"):
            with pytest.raises(PgError):
                c.rows(q)


def test_advisory_locks_are_held_and_released(weir):
    one, two = login(weir.port), login(weir.port)
    assert one.rows("SELECT pg_try_advisory_lock(42)") == [["t"]]
    for _ in range(3):
        one.rows("SELECT 1")
        assert two.rows("SELECT pg_try_advisory_xact_lock(42)") == [["f"]]
    one.close()
    wait_until(lambda: two.rows("SELECT pg_try_advisory_xact_lock(42)") == [["t"]])


def test_notifications_come_to_who_listens(weir):
    one, two = login(weir.port), login(weir.port)
    one.query("LISTEN news")
    for n in range(3):
        two.query(f"NOTIFY news, 'n{n}'")
        m = one.read_until("A")[-1]
        assert m.body[4:] == b"news\0n%d\0" % n
        assert one.rows("SELECT 1") == [["1"]]
    assert two.silent()
    one.close()
    assert "E" not in types(two.query("NOTIFY news, 'nobody'"))
    assert two.silent()


def test_session_state_of_one_transaction_pins_nobody(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="2s")
    one, two = login(weir.port), login(weir.port)
    for sql in ("BEGIN; SET LOCAL work_mem = '5MB'; SELECT 1; COMMIT", "SELECT pg_advisory_xact_lock(1)",
                "BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; COMMIT", "SHOW work_mem", "SELECT 1/0"):
        one.query(sql)
        assert two.rows("SELECT 1") == [["1"]], sql


def test_discard_all_gives_the_server_back(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="2s")
    one, two = login(weir.port, application_name="one"), login(weir.port)
    one.query("SET work_mem = '5MB'")
    one.query("DISCARD ALL")
    assert two.rows("SHOW work_mem") != [["5MB"]]
    assert one.rows("SHOW application_name") == [["one"]]


def test_a_transaction_left_open_is_rolled_back(cluster, weir):
    cluster.sql("primary", "DROP TABLE IF EXISTS left_open; CREATE TABLE left_open (n int); GRANT ALL ON left_open TO PUBLIC")
    for leave in ("terminate", "close", "reset"):
        for n in range(3):
            c = login(weir.port)
            c.query("BEGIN")
            c.query("INSERT INTO left_open VALUES (1)")
            if n == 1:
                c.query("SELECT 1/0")
            getattr(c, leave)()
    c = login(weir.port)
    assert c.rows("SELECT count(*) FROM left_open") == [["0"]]
    assert c.query("COMMIT")[0].type == "N"
    wait_until(lambda: cluster.sql("primary", "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%%'")[0][0] == 0)
    cluster.sql("primary", "DROP TABLE left_open")


@pytest.mark.parametrize("at", ["segment", "result", "flush", "copy in", "half a message"])
def test_clients_that_leave_in_the_middle_leave_nothing(cluster, weir, at):
    what = {"segment": (parse("", "SELECT 1") + bind("", ""), None), "result": (query("SELECT generate_series(1, 300000)"), "D"),
            "flush": (parse("", "SELECT 1") + b"H\0\0\0\4", "1"),
            "copy in": (query("COPY copy_left FROM STDIN"), "G"), "half a message": (query("SELECT 1")[:-3], None)}[at]
    cluster.sql("primary", "DROP TABLE IF EXISTS copy_left; CREATE TABLE copy_left (n int); GRANT ALL ON copy_left TO PUBLIC")
    for n in range(8):
        c = login(weir.port)
        c.send(what[0])
        if what[1]:
            c.read_until(what[1])
        c.reset() if n % 2 else c.close()
        other = login(weir.port)
        assert other.rows(f"SELECT {n}") == [[str(n)]]
        other.send(bind("", "") + execute() + sync())
        assert error_of(other.read_until("Z")).sqlstate == "26000"
    wait_until(lambda: cluster.active("generate_series(1, 300000)") == 0)
    cluster.sql("primary", "DROP TABLE copy_left")


def test_session_pooling_keeps_everything(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry()}, pool_mode="session", default_pool_size=2, queue_timeout="5s")
    one = login(weir.port)
    one.query("SET work_mem = '5MB'")
    one.query("CREATE TEMP TABLE st AS SELECT 1 AS n")
    pid = one.rows("SELECT pg_backend_pid()")
    for _ in range(3):
        assert one.rows("SELECT n FROM st") == [["1"]] and one.rows("SHOW work_mem") == [["5MB"]]
        assert one.rows("SELECT pg_backend_pid()") == pid
    one.terminate()
    for _ in range(4):
        c = login(weir.port)
        assert c.rows("SHOW work_mem") != [["5MB"]]
        with pytest.raises(PgError):
            c.rows("SELECT n FROM st")
        c.close()


def test_a_client_that_reads_nothing_and_leaves_frees_its_server(cluster, pgweir):
    """The server was paused because of it; what cleans the server must be heard nevertheless."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, pool_mode="session", default_pool_size=1, queue_timeout="10s")
    for _ in range(3):
        c = login(weir.port)
        c.send(query("SELECT repeat('x', 1000000)"))
        wait_until(lambda: cluster.sql("primary", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%repeat(%%1000000%%'"
                                       " AND state = 'idle' AND pid <> pg_backend_pid()")[0][0] == 1)
        c.reset()
    assert login(weir.port).rows("SELECT 1") == [["1"]]


def test_as_many_long_custom_settings_as_are_followed(cluster, weir):
    client = login(weir.port)
    names = [f"{'a' * 58}{n:05}.{'b' * 63}" for n in range(250)]
    client.query("; ".join(f"SET {name} = 'x'" for name in names))
    assert client.rows(f"SHOW {names[-1]}") == [["x"]]
