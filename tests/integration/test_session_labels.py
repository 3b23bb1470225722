"""Two clients, one server: what each of them has set, prepared, locked or listened to is its own, and costs the other nothing
once nothing of it is left."""
import pytest
from conftest import Cluster, wait_until
from protocol import error_of, login, types
from rawpg import PgError, bind, close, execute, message as any_message, parse, query, sync


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="3s")


@pytest.fixture(scope="module")
def three(work_dir):
    one = Cluster(work_dir / "cluster-labels", "--replicas", 2)
    yield one
    one.stop()


@pytest.fixture
def two(weir):
    return login(weir.port), login(weir.port)


def pins(weir):
    return {line.split("reason=")[1].split()[0] for line in weir.log().splitlines() if "session.pinned" in line}


def shared(a, b):
    """Both use the one server, and neither waits for the other."""
    for c in (a, b, a):
        assert c.rows("SELECT 1") == [["1"]]


# Each: what is run (a list: one message each), the setting, its value afterwards; None: as it was.
SETTINGS = [
    (["SET work_mem = '77MB'"], "work_mem", "77MB"),
    (["SET SESSION TimeZone TO 'Asia/Tokyo'"], "TimeZone", "Asia/Tokyo"),
    (["SET TIME ZONE INTERVAL '+02:30' HOUR TO MINUTE"], "TimeZone", "<+02:30>-02:30"),
    (["SET TIME ZONE 3"], "TimeZone", "<+03>-03"),
    (["SET search_path = \"Odd, name\", public"], "search_path", '"Odd, name", public'),
    (["SET NAMES 'LATIN1'"], "client_encoding", "LATIN1"),
    (["SET a.b = 'it''s \\ odd'"], "a.b", "it's \\ odd"),
    (["SET \"Mixed\".\"Case\" = 'x'"], "mixed.case", "x"),
    (["SET a.long = '%s'" % ("x" * 900)], "a.long", "x" * 900),
    (["SET a.one = 1", "SET a.two = 2"], "a.one", "1"),
    (["SET work_mem = '3MB'; SET work_mem = '5MB'"], "work_mem", "5MB"),
    (["SELECT set_config('work_mem', '78MB', false)"], "work_mem", "78MB"),
    (["SELECT set_config('c.' || 'd', 'x', false), 'c.d'"], "c.d", "x"),
    (["BEGIN; SET work_mem = '79MB'; COMMIT"], "work_mem", "79MB"),
    (["BEGIN", "SET work_mem = '79MB'", "COMMIT"], "work_mem", "79MB"),
    (["BEGIN", "SET work_mem = '79MB'", "ROLLBACK"], "work_mem", None),
    (["BEGIN", "SET work_mem = '5MB'", "SAVEPOINT s", "SET work_mem = '6MB'", "ROLLBACK TO s", "COMMIT"], "work_mem", "5MB"),
    (["BEGIN", "SET work_mem = '5MB'", "SELECT 1/0", "COMMIT"], "work_mem", None),
    (["SET work_mem = '5MB'; SELECT 1/0"], "work_mem", None),
    (["SET work_mem = '5MB'", "SET work_mem = 'nonsense'"], "work_mem", "5MB"),
    (["SET work_mem = '5MB'", "RESET work_mem"], "work_mem", None),
    (["SET work_mem = '5MB'", "SET work_mem TO DEFAULT"], "work_mem", None),
    (["SET work_mem = '5MB'", "RESET ALL"], "work_mem", None),
    (["SET work_mem = '5MB'", "DISCARD ALL"], "work_mem", None),
    (["SET work_mem = '5MB'", "SET work_mem FROM CURRENT"], "work_mem", "5MB"),
    (["SET LOCAL work_mem = '5MB'"], "work_mem", None),
    (["DO $$ BEGIN SET work_mem = '80MB'; PERFORM set_config('in.body', 'x', false); END $$"], "work_mem", "80MB"),
    (["DO $$ BEGIN PERFORM set_config('in.body', 'x', false); END $$"], "in.body", "x"),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"], "default_transaction_isolation", "serializable"),
    (["SET ROLE app"], "role", "app"),
    (["SET ROLE app", "RESET ROLE"], "role", None),
    (["SET statement_timeout = '50s'", "SET lock_timeout = 40000"], "lock_timeout", "40s"),
]


@pytest.mark.parametrize("statements,name,value", SETTINGS, ids=[" | ".join(s[0])[:60] for s in SETTINGS])
@pytest.mark.parametrize("how", ["query", "extended"])
def test_a_setting_follows_its_client(cluster, weir, statements, name, value, how):
    cluster.sql("primary", "GRANT app TO app_scram")
    one, other = login(weir.port), login(weir.port)
    show = f"SELECT current_setting('{name}', true)"
    before = one.rows(show)
    for sql in statements:
        if how == "query" or ";" in sql:
            one.query(sql)
        else:
            one.send(parse("", sql) + bind("", "") + execute() + sync())
            one.read_until("Z")
    expected = [[value]] if value is not None else before
    for _ in range(3):
        assert one.rows(show) == expected
        assert other.rows(show) in (before, [[""]])  # a custom one that was known here once is empty, in PostgreSQL too
    assert pins(weir) == set()
    shared(one, other)


def test_the_unnamed_statement_is_there_after_other_settings(two):
    """Both have the same one, and the server has it; what sets their settings on it is a Query, which destroys it."""
    for n, c in enumerate(two):
        assert types(c.query(f"SET work_mem = '{n + 5}MB'")) == "CZ"
    for c in two:
        c.send(parse("", "SELECT current_setting('work_mem')") + sync())
        assert types(c.read_until("Z")) == "1Z"
    for n, c in [*enumerate(two)] * 2:
        c.send(bind("", "") + execute() + sync())
        answers = c.read_until("Z")
        assert types(answers) == "2DCZ" and answers[1].row() == [f"{n + 5}MB".encode()]


@pytest.mark.parametrize("how", ["startup", "set", "set in a transaction"])
def test_an_idle_session_is_ended_and_its_server_is_not(weir, how):
    other = login(weir.port)
    pid = other.rows("SELECT pg_backend_pid()")
    one = login(weir.port, **({"idle_session_timeout": "400"} if how == "startup" else {}))
    if how != "startup":
        one.query("SET idle_session_timeout = '400ms'" if how == "set" else "BEGIN; SET idle_session_timeout = '400ms'; COMMIT")
    for _ in range(3):
        assert one.rows("SHOW idle_session_timeout") == [["400ms"]]
        assert other.rows("SHOW idle_session_timeout") == [["0"]]
        one.query("SELECT pg_sleep(0.3)")  # it does something
    one.query("BEGIN")
    one.query("ROLLBACK")
    told = [m.fields() for m in one.expect_closed() if m.type == "E"]
    assert [(f["S"], f["C"], f["M"]) for f in told] == [("FATAL", "57P05", "terminating connection due to idle-session timeout")]
    assert other.rows("SELECT pg_backend_pid()") == pid


def test_a_pinned_session_that_idles_is_ended_by_its_server(weir, two):
    one, other = two
    one.query("LISTEN news")
    one.query("SET idle_session_timeout = '200ms'")
    assert [m.fields()["C"] for m in one.expect_closed() if m.type == "E"] == ["57P05"]
    assert other.rows("SELECT 1") == [["1"]]


def test_what_a_used_server_would_not_do_gets_a_new_one(two):
    one, other = two
    other.query("CREATE TEMP TABLE mine (n int); DROP TABLE mine; DO 'BEGIN NULL; END'")
    assert other.rows("SELECT pg_my_temp_schema() <> 0") == [["t"]]
    assert "E" not in types(one.query("SET plpgsql.extra_foo_warnings = true"))
    assert one.rows("SHOW plpgsql.extra_foo_warnings") == [["true"]]
    assert "N" in types(one.query("DO 'BEGIN NULL; END'"))  # "removing it"
    one.close()
    other.query("SET search_path = pg_temp, public")
    assert other.rows("SELECT pg_my_temp_schema()") == [["0"]]
    pid = other.rows("SELECT pg_backend_pid()")
    assert other.rows("SELECT current_schema() ~ 'pg_temp', pg_backend_pid()") == [["t", pid[0][0]]]


def test_who_notified_is_called_by_what_it_was_told(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=2, workers=2)
    one, other = login(weir.port), login(weir.port)
    direct = login(cluster.ports["primary"])
    one.query("LISTEN news")
    seen = [m for m in one.query("NOTIFY news") if m.type == "A"]
    for sender in (other, direct):
        sender.query("SELECT pg_notify('news', '')")
        wait_until(lambda: not one.silent(0.05))
        seen += [m for m in one.query("SELECT 1") if m.type == "A"]
    assert [m.body[:4] for m in seen] == [c.key[:4] for c in (one, other, direct)]
    assert all(m.body[4:] == b"news\0\0" for m in seen)


def test_a_superuser_sets_what_only_it_may_and_becomes_another_role(weir):
    one, other = (weir.raw().login("postgres", "app", "postgres") for _ in range(2))
    for sql in ("SET log_min_duration_statement = 12345", "SET SESSION AUTHORIZATION app_md5", "SET work_mem = '5MB'"):
        assert "E" not in types(one.query(sql)), sql
    ask = "SELECT session_user, current_user, current_setting('work_mem')"
    for _ in range(3):
        assert one.rows(ask) == [["app_md5", "app_md5", "5MB"]]
        assert other.rows(ask) == [["postgres", "postgres", "4MB"]]
        assert other.rows("SHOW log_min_duration_statement") != [["12345ms"]]
    one.query("RESET SESSION AUTHORIZATION")
    assert one.rows(ask + ", current_setting('log_min_duration_statement')") == [["postgres", "postgres", "5MB", "12345ms"]]
    assert other.rows(ask) == [["postgres", "postgres", "4MB"]]


def test_reset_goes_back_to_what_the_login_said(weir):
    one, other = login(weir.port, work_mem="6MB", options="-c a.b=start"), login(weir.port)
    for reset in ("RESET work_mem", "RESET ALL", "DISCARD ALL", "SET work_mem TO DEFAULT"):
        one.query("SET work_mem = '7MB'")
        assert one.rows("SHOW work_mem") == [["7MB"]] and other.rows("SHOW work_mem") == [["4MB"]]
        one.query(reset)
        assert one.rows("SHOW work_mem") == [["6MB"]], reset
        assert one.rows("SHOW a.b") == [["start"]]


# What keeps the server, what ends that, and the reason.
KEEPS = [
    (["CREATE TEMP TABLE mine (n int)"], ["DROP TABLE mine"], "temporary_object"),
    (["SELECT 1 AS n INTO TEMP mine"], ["DISCARD TEMP"], "temporary_object"),
    (["CREATE TABLE pg_temp.mine (n int)"], ["DROP TABLE pg_temp.mine"], "temporary_object"),
    (["CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"], ["DROP FUNCTION pg_temp.f()"], "temporary_object"),
    (["LISTEN news"], ["UNLISTEN news"], "listen"),
    (["LISTEN a", "LISTEN b"], ["UNLISTEN a", "UNLISTEN *"], "listen"),
    (["SELECT pg_advisory_lock(1)"], ["SELECT pg_advisory_unlock(1)"], "advisory_lock"),
    (["SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2, 3)"],
     ["SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock_all()"], "advisory_lock"),
    (["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 8", "COMMIT"], ["CLOSE c"], "cursor_with_hold"),
    (["PREPARE p AS SELECT 9"], ["DEALLOCATE p"], "prepared_statement"),
    (["PREPARE p AS SELECT pg_advisory_lock($1)", "EXECUTE p(1)", "DEALLOCATE p"], ["SELECT pg_advisory_unlock(1)"],
     "prepared_statement"),
    (["DO 'BEGIN PERFORM pg_advisory_lock(7); END'"], ["DO 'BEGIN PERFORM pg_advisory_unlock(7); END'"], "advisory_lock"),
    (["DO 'BEGIN CREATE TEMP TABLE mine (n int); END'"], ["DO 'BEGIN DROP TABLE mine; END'"], "temporary_object"),
    (["CREATE TEMP TABLE mine (n int)", "LISTEN x", "SELECT pg_advisory_lock(1)"], ["DISCARD ALL"], "temporary_object"),
]


@pytest.mark.parametrize("begins,ends,reason", KEEPS, ids=[" | ".join(k[0])[:60] for k in KEEPS])
def test_what_only_a_server_has_keeps_it_until_nothing_is_left(cluster, pgweir, begins, ends, reason):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="300ms")
    one, other = login(weir.port), login(weir.port)
    shared(one, other)
    for sql in begins:
        assert "E" not in types(one.query(sql)), sql
    assert one.rows("SELECT 1") == [["1"]]
    assert error_of(other.query("SELECT 1")).sqlstate == "53300"
    for sql in ends[:-1]:
        assert "E" not in types(one.query(sql)), sql
        assert error_of(other.query("SELECT 1")).sqlstate == "53300"
    one.query(ends[-1])
    shared(other, one)
    assert reason in pins(weir)


@pytest.fixture
def hiding(cluster):
    """Functions whose calls show nothing of what they leave."""
    body = "LANGUAGE plpgsql AS $$ BEGIN {} END $$"
    sql = {
        "hide_lock(n int) RETURNS bigint": "PERFORM pg_advisory_lock(n); RETURN n;",
        "hide_unlock(n int) RETURNS bigint": "PERFORM pg_advisory_unlock(n); RETURN n;",
        "hide_temp() RETURNS int": "CREATE TEMP TABLE hidden (n int); RETURN 1;",
        "hide_listen() RETURNS int": "-- on\nLISTEN news; RETURN 1;",
        "hide_tenant(t text) RETURNS text": "RETURN set_config('hide.tenant', t, false);",
        "hide_mem(t text) RETURNS int": "/* for long */ SET SESSION work_mem = '77MB'; RETURN 1;",
        "hide_outer(n int) RETURNS int": "RETURN hide_lock(n);",
        "hide_text(t text) RETURNS int": "EXECUTE t; RETURN 1;",
        "show_local(t text) RETURNS text": "PERFORM pg_advisory_xact_lock(1); RETURN set_config('hide.local', lower(t), true);",
        "hide_by_trigger() RETURNS trigger": "PERFORM set_config('hide.by', new.n::text, false); RETURN new;",
    }
    for head, text in sql.items():
        cluster.sql("primary", f"CREATE FUNCTION {head} " + body.format(text))
    cluster.sql("primary", "CREATE VIEW hide_view AS SELECT hide_lock(11) AS n")
    cluster.sql("primary", "CREATE TABLE hide_table (n int); GRANT ALL ON hide_table, hide_view TO PUBLIC")
    yield cluster
    cluster.sql("primary", "DROP VIEW hide_view; DROP TABLE hide_table")
    for head in sql:
        cluster.sql("primary", f"DROP FUNCTION {head.split('(')[0]}")


HIDDEN = [
    (["SELECT hide_lock(1)"], ["SELECT hide_unlock(1)"], "advisory_lock"),
    (["SELECT 1 WHERE public.hide_lock(1) > 0"], ["SELECT pg_advisory_unlock(1)"], "advisory_lock"),
    (["SELECT * FROM hide_outer(1)"], ["SELECT pg_advisory_unlock(1)"], "advisory_lock"),
    (["SELECT n FROM hide_view"], ["SELECT pg_advisory_unlock(11)"], "advisory_lock"),
    (["INSERT INTO hide_table VALUES (hide_lock(1))"], ["SELECT pg_advisory_unlock(1)"], "advisory_lock"),
    (["SELECT hide_temp()"], ["DROP TABLE hidden"], "temporary_object"),
    (["SELECT hide_listen()"], ["UNLISTEN news"], "listen"),
    (["SELECT hide_text('LISTEN news')"], ["SELECT hide_text('UNLISTEN *')"], "listen"),
]


def waits(weir, client):
    return error_of(client.query("SELECT 1")).sqlstate == "53300"


@pytest.mark.parametrize("begins,ends,reason", HIDDEN, ids=[" | ".join(k[0])[:60] for k in HIDDEN])
@pytest.mark.parametrize("loaded", [True, False], ids=["known", "unknown"])
def test_what_a_function_leaves_keeps_the_server(hiding, pgweir, begins, ends, reason, loaded):
    """A catalog that cannot be loaded: any function of the user's may be one."""
    if not loaded and ("hide_view" in begins[0]):
        pytest.skip("what a view calls is not known then")
    weir = pgweir(databases={"app": hiding.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="300ms",
                  **({} if loaded else {"probe_user": "nobody_at_all"}))
    weir.wait_log(r"catalog\.loaded" if loaded else r"catalog\.load_failed")
    one, other = login(weir.port), login(weir.port)
    shared(one, other)
    for sql in begins:
        assert "E" not in types(one.query(sql)), sql
    assert waits(weir, other)
    for sql in ends:
        assert "E" not in types(one.query(sql)), sql
    shared(other, one)
    assert pins(weir) == {reason}


def test_settings_by_functions_follow_their_client(hiding, weir):
    weir.wait_log(r"catalog\.loaded")
    one, other = login(weir.port), login(weir.port)
    one.query("SELECT hide_tenant('x')")
    one.send(parse("", "SELECT hide_mem($1)") + bind("", "", [b""]) + execute() + sync())
    one.read_until("Z")
    other.query("SELECT hide_tenant('y')")
    ask = "SELECT current_setting('hide.tenant', true), current_setting('work_mem')"
    for _ in range(3):
        assert one.rows(ask) == [["x", "77MB"]]
        assert other.rows(ask) == [["y", "4MB"]]
    assert pins(weir) == set()


def test_a_trigger_that_sets_something_makes_writes_asked_about(hiding, weir):
    weir.wait_log(r"catalog\.loaded")
    one, other = login(weir.port), login(weir.port)
    hiding.sql("primary", "CREATE TRIGGER hide_it BEFORE INSERT ON hide_table FOR EACH ROW EXECUTE FUNCTION hide_by_trigger()")
    weir.sql("CREATE TABLE IF NOT EXISTS hide_table (n int)")  # DDL: what is known of the catalog is loaded again
    ask = "SELECT current_setting('hide.by', true)"

    def follows():
        one.query("INSERT INTO hide_table VALUES (7)")
        return one.rows(ask) == [["7"]] and other.rows(ask) != [["7"]]
    wait_until(follows)
    assert one.rows(ask) == [["7"]] and other.rows(ask) != [["7"]]


YOUNG = [
    ["CREATE TABLE young (n int, m bigint DEFAULT hide_lock(1)); INSERT INTO young VALUES (1)"],
    ["CREATE TABLE young (n int, m bigint DEFAULT hide_lock(1))", "INSERT INTO young VALUES (1)"],
    ["BEGIN", "CREATE TABLE young (n int, m bigint DEFAULT hide_lock(1))", "INSERT INTO young VALUES (1)", "COMMIT"],
    ["CREATE DOMAIN young AS int CHECK (hide_lock(1) = VALUE); SELECT 1::young"],
]


@pytest.mark.parametrize("statements", YOUNG, ids=[" | ".join(s)[:60] for s in YOUNG])
def test_what_ddl_has_just_brought_is_asked_about(hiding, pgweir, statements):
    weir = pgweir(databases={"app": hiding.entry(["primary"])}, default_pool_size=1, workers=1, queue_timeout="300ms")
    weir.wait_log(r"catalog\.loaded")
    one, other = (weir.raw().login("postgres", "app", "postgres") for _ in range(2))
    try:
        for sql in statements:
            assert "E" not in types(one.query(sql)), sql
        assert waits(weir, other)
        one.query("SELECT pg_advisory_unlock(1)")
        shared(other, one)
    finally:
        hiding.sql("primary", "DROP TABLE IF EXISTS young" if "TABLE" in str(statements) else "DROP DOMAIN IF EXISTS young")


def test_copy_into_a_table_whose_trigger_leaves_something(hiding, weir):
    hiding.sql("primary", "CREATE TRIGGER hide_it BEFORE INSERT ON hide_table FOR EACH ROW EXECUTE FUNCTION hide_by_trigger()")
    weir.sql("CREATE TABLE IF NOT EXISTS hide_table (n int)")  # DDL: what is known of the catalog is loaded again
    one = login(weir.port)
    one.send(query("COPY hide_table FROM STDIN"))
    one.read_until("G")
    one.send(any_message("d", b"5\n") + any_message("c") + query("SELECT current_setting('hide.by')"))
    assert types(one.read_until("Z")) == "CZ" and types(one.read_until("Z")) == "TDCZ"


def test_functions_that_leave_nothing_are_not_asked_about(hiding, weir):
    weir.wait_log(r"catalog\.loaded")
    one = login(weir.port)
    for sql in ("SELECT show_local('X')", "INSERT INTO hide_table (n) VALUES (1)", "SELECT n FROM hide_table", "SELECT lower('A')"):
        assert "E" not in types(one.query(sql)), sql
    weir.stop()
    assert " looks=0" in weir.log()


@pytest.fixture
def sequence(cluster):
    cluster.sql("primary", "CREATE SEQUENCE numbers; GRANT ALL ON numbers TO PUBLIC")
    yield "numbers"
    cluster.sql("primary", "DROP SEQUENCE numbers")


@pytest.mark.parametrize("ask", ["SELECT currval('numbers')", "SELECT lastval()"])
def test_currval_is_never_another_clients(weir, sequence, ask):
    one, other = login(weir.port), login(weir.port)
    one.rows("SELECT nextval('numbers')")
    other.query("SET work_mem = '5MB'")  # another label
    assert error_of(other.query(ask)).sqlstate == "55000"
    assert other.rows("SELECT nextval('numbers')") == [["2"]]
    assert other.rows(ask) == [["2"]]
    other.close()
    assert error_of(one.query(ask)).sqlstate == "55000"  # its server has had another's since


def test_currval_is_found_where_nextval_was(cluster, pgweir, sequence):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=2, workers=1)
    one, other = login(weir.port), login(weir.port)
    for c in (one, other):
        c.query("BEGIN")
        c.rows("SELECT nextval('numbers')")
    one.query("COMMIT")
    other.query("COMMIT")  # its server is the one that was used last
    assert one.rows("SELECT currval('numbers')") == [["1"]]
    assert other.rows("SELECT lastval()") == [["2"]]


@pytest.mark.parametrize("size", [1, 4])
def test_currval_is_there_for_who_asks_next(cluster, pgweir, sequence, size):
    """Whoever wrote on that server before; and, as long as there are others, whoever writes meanwhile."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=size, workers=1)
    others = [login(weir.port) for _ in range(2)]
    for n in range(1, 4):
        one = login(weir.port)
        for c in others:
            c.rows("SELECT nextval('numbers')")
        assert one.rows("SELECT nextval('numbers')") == [[str(3 * n)]]
        for c in others * (size > 1):
            c.query("SELECT 1 FOR UPDATE")
            c.query("INSERT INTO nowhere VALUES (1)")
        assert one.rows("SELECT currval('numbers'), lastval()") == [[str(3 * n)] * 2]
        one.close()


NOTHING_LEFT = [
    ["BEGIN", "CREATE TEMP TABLE mine (n int) ON COMMIT DROP", "COMMIT"],
    ["BEGIN", "CREATE TEMP TABLE mine (n int)", "ROLLBACK"],
    ["BEGIN", "LISTEN x", "ROLLBACK"],
    ["SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"],
    ["SELECT pg_advisory_xact_lock(1)"],
    ["BEGIN", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "COMMIT"],
    ["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c", "COMMIT"],
    ["BEGIN", "PREPARE p AS SELECT 1", "DEALLOCATE p", "COMMIT"],
    ["DO 'BEGIN PERFORM 1; END'"],
    ["UNLISTEN *", "DEALLOCATE ALL", "DISCARD TEMP", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD ALL"],
    ["BEGIN", "SELECT lo_open(lo_create(0), 131072)", "ROLLBACK"],
]


@pytest.mark.parametrize("statements", NOTHING_LEFT, ids=[" | ".join(s)[:60] for s in NOTHING_LEFT])
def test_what_has_gone_with_its_transaction_keeps_nothing(two, statements):
    one, other = two
    for sql in statements:
        one.query(sql)
    shared(other, one)


def test_what_cannot_be_undone_ends_with_its_server(weir, two):
    one, other = two
    pid = one.rows("SELECT pg_backend_pid()")
    one.query("SELECT setseed(0.5)")
    first = one.rows("SELECT random()")
    assert one.rows("SELECT pg_backend_pid()") == pid
    one.query("SELECT setseed(0.5)")
    assert one.rows("SELECT random()") == first
    one.close()
    assert wait_until(lambda: other.rows("SELECT pg_backend_pid()")) != pid
    assert pins(weir) == {"setseed_or_load"}


@pytest.mark.parametrize("sql", ["SET SEED TO 0.5", "SET SESSION seed = 0.5", "SET LOCAL seed = 0.5"])
def test_a_seed_that_is_set_ends_with_its_server(weir, two, sql):
    one, other = two
    pid = one.rows("SELECT pg_backend_pid()")
    one.query(sql)
    assert one.rows("SELECT pg_backend_pid()") == pid
    one.close()
    assert wait_until(lambda: other.rows("SELECT pg_backend_pid()")) != pid
    assert pins(weir) == {"setseed_or_load"}


def test_a_known_set_is_not_asked_about_again(weir, two):
    one, other = two
    for _ in range(5):
        one.query("SET work_mem = '5MB'")
        other.query("SET work_mem = '6MB'")
        one.query("RESET work_mem")
        assert [c.rows("SHOW work_mem") for c in two] == [[["4MB"]], [["6MB"]]]
        other.query("RESET work_mem")
    weir.stop()
    looks = int(weir.log().split(" looks=")[1].split()[0])
    assert looks <= 8, looks


def test_what_is_of_a_transaction_is_no_setting(weir, two):
    one, other = two
    for sql in ("BEGIN READ ONLY; SET TRANSACTION READ ONLY; COMMIT", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                "SET work_mem = '5MB'"):
        one.query(sql)
    for _ in range(3):
        assert one.rows("SHOW transaction_read_only") == [["on"]] and other.rows("SHOW transaction_read_only") == [["off"]]


def test_what_was_set_back_is_nothing(weir, two):
    one, other = two
    for sql in ("BEGIN READ ONLY; SET TRANSACTION READ ONLY; COMMIT", "SET work_mem = '5MB'", "RESET work_mem"):
        one.query(sql)
    shared(one, other)
    weir.stop()
    assert " label_syncs=0 " in weir.log() and " looks=0" not in weir.log()


def test_a_pipeline_of_settings(two):
    one, other = two
    one.send(query("SET work_mem = '5MB'") + query("SHOW work_mem") + query("SET work_mem = '6MB'") + query("SHOW work_mem")
             + parse("", "RESET work_mem") + bind("", "") + execute() + sync() + query("SHOW work_mem"))
    answers = [m for _ in range(6) for m in one.read_until("Z")]
    assert [m.row()[0] for m in answers if m.type == "D"] == [b"5MB", b"6MB", b"4MB"]
    assert other.rows("SHOW work_mem") == [["4MB"]]


def test_a_statement_prepared_under_other_settings_is_another_one(two):
    one, other = two
    one.query("SET standard_conforming_strings = off")
    for c, expected in ((one, b"a\nb"), (other, b"a\\nb"), (one, b"a\nb")):
        c.send(parse("", "SELECT 'a\\nb'") + bind("", "") + execute() + sync())
        assert [m.row()[0] for m in c.read_until("Z") if m.type == "D"] == [expected]
    assert one.params["standard_conforming_strings"] == "off"


def test_in_a_transaction_too(two):
    one, other = two
    for c in two:
        c.send(parse("s", "SELECT 'a\\nb'") + sync())
        c.read_until("Z")
    one.query("BEGIN")
    one.query("SET standard_conforming_strings = off")
    one.send(parse("t", "SELECT 'a\\nb'") + bind("", "t") + execute() + sync())
    assert [m.row()[0] for m in one.read_until("Z") if m.type == "D"] == [b"a\nb"]
    one.query("ROLLBACK")
    for c, name, expected in ((other, "s", b"a\\nb"), (one, "s", b"a\\nb"), (one, "t", b"a\nb")):
        c.send(bind("", name) + execute() + sync())
        got = [m.row()[0] for m in c.read_until("Z") if m.type == "D"]
        assert got == [expected], (name, got)


def test_a_client_is_told_of_a_setting_when_it_changes_for_it(cluster, weir, two):
    one, other = two
    one.query("SET TimeZone = 'Asia/Tokyo'")
    assert one.params["TimeZone"] == "Asia/Tokyo"
    for _ in range(3):  # what others have set is nobody's business
        assert "S" not in types(one.query("SELECT 1")) + types(other.query("SELECT 1"))
    one.query("DO $$ BEGIN PERFORM set_config('TimeZone', 'Europe/Oslo', false); END $$")
    assert one.params["TimeZone"] == "Europe/Oslo" and one.rows("SHOW TimeZone") == [["Europe/Oslo"]]
    one.query("RESET TimeZone")
    before = other.params["TimeZone"]
    assert one.params["TimeZone"] == before


def test_a_reset_is_told_with_the_value_of_the_login(two, weir):
    one = login(weir.port, TimeZone="Asia/Tokyo")
    one.query("SET TimeZone = 'Europe/Oslo'")
    one.query("RESET TimeZone")
    assert one.rows("SHOW TimeZone") == [["Asia/Tokyo"]] and one.params["TimeZone"] == "Asia/Tokyo"


def test_a_changed_configuration_is_told_with_the_next_server(cluster, weir, two):
    try:
        cluster.sql("primary", "ALTER ROLE app_scram SET TimeZone = 'Asia/Tokyo'")
        new = login(weir.port)
        pid = new.rows("SELECT pg_backend_pid()")[0][0]
        cluster.sql("primary", f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: all(int(pool["sv_idle"]) == 0 for pool in weir.show("POOLS")), what="the server is gone")
        for c in (*two, new):
            wait_until(lambda: c.rows("SHOW TimeZone") == [["Asia/Tokyo"]])
            assert c.params["TimeZone"] == "Asia/Tokyo"
    finally:
        cluster.sql("primary", "ALTER ROLE app_scram RESET TimeZone")


# SQL's DEALLOCATE of what the protocol prepared (PHP's PDO, Rails and psycopg do that).

def prepare(c, name, sql):
    c.send(parse(name, sql) + sync())
    assert types(c.read_until("Z")) == "1Z"


def run(c, name):
    c.send(bind("", name) + execute() + sync())
    return c.read_until("Z")


@pytest.mark.parametrize("inside", [False, True])
def test_deallocate_takes_one_clients_name_away(two, inside):
    one, other = two
    for c in two:
        prepare(c, "s", "SELECT 7")
        prepare(c, "Odd", "SELECT 8")
    if inside:
        one.query("BEGIN")
        one.rows("SELECT 1")
    for sql in ("DEALLOCATE s", 'DEALLOCATE PREPARE "Odd"'):
        answers = one.query(sql)
        assert types(answers) == "CZ" and answers[0].body == b"DEALLOCATE\0", answers
    if inside:
        one.query("COMMIT")
    assert error_of(run(one, "s")).sqlstate == "26000" and error_of(one.query("DEALLOCATE s")).sqlstate == "26000"
    prepare(one, "s", "SELECT 9")
    assert [m.row() for m in run(one, "s") if m.type == "D"] == [[b"9"]]
    assert [m.row() for m in run(other, "s") if m.type == "D"] == [[b"7"]]
    assert [m.row() for m in run(other, "Odd") if m.type == "D"] == [[b"8"]]


@pytest.mark.parametrize("sql", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_deallocate_all_takes_one_clients_names_away(two, sql):
    one, other = two
    for c in two:
        prepare(c, "s", "SELECT 7")
    answers = one.query(sql)
    assert types(answers) == "CZ" and answers[0].body == sql.encode() + b"\0"
    assert error_of(run(one, "s")).sqlstate == "26000"
    assert [m.row() for m in run(other, "s") if m.type == "D"] == [[b"7"]]


def test_names_of_ours_are_nobodys(two):
    one, other = two
    prepare(other, "s", "SELECT 7")
    one.send(parse("", "SELECT name FROM pg_prepared_statements") + bind("", "") + execute() + sync())  # a Query shows the client's own
    shared_name = one.read_until("Z")[2].row()[0].decode()
    assert error_of(one.query(f"DEALLOCATE {shared_name}")).sqlstate == "26000"
    assert [m.row() for m in run(other, "s") if m.type == "D"] == [[b"7"]]


def test_a_plan_that_does_not_fit_any_more_is_made_anew(cluster, two):
    """PostgreSQL's error comes to who has parsed before; behind a pooler it came for ever, to all clients."""
    one, other = two
    cluster.sql("primary", "DROP TABLE IF EXISTS altered; CREATE TABLE altered (a int); GRANT ALL ON altered TO PUBLIC;"
                           "INSERT INTO altered VALUES (1)")
    for c in two:
        prepare(c, "s", "SELECT * FROM altered")
        assert len(run(c, "s")) == 4
    cluster.sql("primary", "ALTER TABLE altered ADD b int DEFAULT 2")
    for c in (one, other, one):
        assert error_of(run(c, "s")).sqlstate == "0A000"
    for c in (one, other, one):
        c.send(close("S", "s") + sync())
        c.read_until("Z")
        prepare(c, "s", "SELECT * FROM altered")
        assert [m.row() for m in run(c, "s") if m.type == "D"] == [[b"1", b"2"]]
    one.send(parse("t", "SELECT * FROM altered") + bind("", "t") + execute() + sync())
    assert [m.row() for m in one.read_until("Z") if m.type == "D"] == [[b"1", b"2"]]


@pytest.mark.parametrize("inside", [False, True])
def test_a_reset_is_as_with_a_session_of_ones_own(weir, inside):
    c = login(weir.port, TimeZone="Asia/Tokyo", options="-c work_mem=6MB")
    if inside:
        c.query("BEGIN; SELECT 1")
    for sql, tag in (("RESET TimeZone -- end", "RESET"), ("SET TIME ZONE DEFAULT", "SET"), ("RESET ALL", "RESET"),
                     ("SET timezone TO DEFAULT", "SET")):
        c.query("SET TimeZone = 'Europe/Oslo'")
        c.query("SET work_mem = '7MB'")
        answers = c.query(sql)
        assert types(answers).replace("S", "") == "CZ" and answers[0].body == tag.encode() + b"\0", answers
        assert c.params["TimeZone"] == "Asia/Tokyo" and c.rows("SHOW TimeZone") == [["Asia/Tokyo"]]
        assert c.rows("SHOW work_mem") == [["6MB" if "ALL" in sql else "7MB"]]
    c.send(query("RESET work_mem") + query("SHOW work_mem") + query("RESET nonsense.") + query("SELECT 1"))
    assert [types(c.read_until("Z")) for _ in range(2)] == ["CZ", "TDCZ"]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("how", ["alone", "behind others", "ahead of others", "extended", "in a pipeline"])
def test_a_reset_tells_nothing_that_the_login_did_not_set(weir, how, inside):
    """A client that hears of another client_encoding or DateStyle may end its connection, as pgjdbc does."""
    c = login(weir.port, DateStyle="German", application_name="mine", options="-c work_mem=6MB")
    if inside:
        c.query("BEGIN; SELECT 1")
    for sql in ("RESET ALL", "RESET DateStyle", "SET DateStyle TO DEFAULT"):
        sent = parse("", sql) + bind("", "") + execute()
        c.send({"alone": query(sql), "behind others": query("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; " + sql),
                "ahead of others": query(sql + "; UNLISTEN *; SELECT pg_advisory_unlock_all()"), "extended": sent + sync(),
                "in a pipeline": parse("", "SELECT 1") + bind("", "") + execute() + sent + parse("", "SELECT 2") + bind("", "") + execute() + sync()}[how])
        answers = c.read_until("Z")
        tag = sql.split()[0]
        expected = {"alone": [tag], "behind others": ["SELECT 1", "CLOSE CURSOR ALL", "UNLISTEN", tag], "ahead of others": [tag, "UNLISTEN", "SELECT 1"],
                    "extended": [tag], "in a pipeline": ["SELECT 1", tag, "SELECT 1"]}[how]
        assert [m.body[:-1].decode() for m in answers if m.type == "C"] == expected and "S" not in types(answers) + types(c.query("SELECT 1")), answers
        assert c.rows("SHOW DateStyle") == [["German, DMY"]] and c.rows("SHOW work_mem") == [["6MB"]], sql


def test_discard_all_on_a_kept_server_tells_what_the_login_set(weir):
    c = login(weir.port, DateStyle="German")
    for discard in (query("DISCARD ALL"), parse("", "DISCARD ALL") + bind("", "") + execute() + sync()):
        c.query("LISTEN news")
        c.query("SET DateStyle = 'SQL'")
        c.send(discard)
        told = [m.body for m in c.read_until("Z") if m.type == "S"]
        assert told == [b"DateStyle\0German, DMY\0"] and "S" not in types(c.query("SELECT 1"))
        assert c.rows("SHOW DateStyle") == [["German, DMY"]] and c.rows("SELECT pg_listening_channels()") == []


@pytest.mark.parametrize("parameter", [{"nope": "1"}, {"TimeZone": "nowhere"}, {"options": "-c work_mem=much"}])
def test_a_wrong_startup_parameter_is_fatal_as_with_postgres(cluster, weir, parameter):
    told = []
    for port in (cluster.ports["primary"], weir.port):
        with pytest.raises(PgError) as refused:
            login(port, **parameter)
        told.append({k: refused.value.fields.get(k) for k in "SVCMDH"})
    assert told[0] == told[1] and told[1]["S"] == told[1]["V"] == "FATAL"
    assert login(weir.port).rows("SELECT 1") == [["1"]]


def served(weir, holder, first, second, hold_ms):
    """`first` waits for the only server, and hold_ms later `second`; the one that got it first."""
    now = "SELECT extract(epoch FROM clock_timestamp())"
    holder.query("BEGIN; SELECT 1")
    first.send(query(now))
    if hold_ms:
        wait_until(lambda: waiting(weir) == 1)
        holder.query(f"SELECT pg_sleep({hold_ms / 1000})")
    second.send(query(now))
    wait_until(lambda: waiting(weir) == 2)
    holder.query("COMMIT")
    times = [float(c.read_until("Z")[1].body[6:]) for c in (first, second)]
    return second if times[1] < times[0] else first


def waiting(weir):
    return sum(int(p["cl_waiting"]) for p in weir.show("POOLS"))


def test_a_server_goes_to_a_waiter_with_its_settings_but_not_past_one_who_came_long_before(weir):
    holder, same, other = (login(weir.port) for _ in range(3))
    for client, value in (holder, "5MB"), (same, "5MB"), (other, "6MB"):
        client.query(f"SET work_mem = '{value}'")
    # Within 5 ms: on a slow machine not at the first try.
    wait_until(lambda: served(weir, holder, other, same, 0) is same)
    assert served(weir, holder, other, same, 50) is other


def test_a_setting_beyond_ascii_follows_a_client_of_another_encoding(two):
    latin, utf8 = two
    latin.query("SET client_encoding = 'LATIN1'")
    for client, encoding, value in (latin, "latin1", "\u00e9t\u00e9"), (utf8, "utf-8", "\u043b\u0435\u0442\u043e"):
        client.send(b"Q" + message(f'SET search_path = "{value}", public'.encode(encoding)))
        client.read_until("Z")
    for client, value in (latin, b'"\xe9t\xe9", public'), (utf8, '"\u043b\u0435\u0442\u043e", public'.encode()), (latin, b'"\xe9t\xe9", public'):
        client.send(query("SHOW search_path"))
        assert [m.body[6:] for m in client.read_until("Z") if m.type == "D"] == [value]


def message(text):
    return (len(text) + 5).to_bytes(4, "big") + text + b"\0"


def test_who_has_set_nothing_or_everything_back_has_the_same_label(weir, two):
    """What pgweir asks in is a transaction with modes of its own: they are none of the client's."""
    one, other = two
    one.query("SET work_mem = '5MB'")
    one.query("RESET work_mem")
    one.query("DO $$ BEGIN END $$")
    for _ in range(5):
        shared(one, other)
    weir.stop()
    assert int(weir.log().split(" label_syncs=")[1].split()[0]) == 0


def test_parameters_of_a_sessions_start_get_a_server_of_their_own(cluster, weir):
    other = weir.raw().login("postgres", "app", "postgres")
    start = "-c log_disconnections=on -c ignore_system_indexes=on -c work_mem=5MB"
    with weir.raw().login("postgres", "app", "postgres", options=start, TimeZone="Asia/Tokyo") as one:
        pid = one.rows("SELECT pg_backend_pid()")
        assert one.params["TimeZone"] == "Asia/Tokyo"
        for _ in range(3):
            assert [one.rows(f"SHOW {name}")[0][0] for name in ("log_disconnections", "ignore_system_indexes", "work_mem")] == ["on", "on", "5MB"]
            assert [other.rows(f"SHOW {name}")[0][0] for name in ("log_disconnections", "ignore_system_indexes", "work_mem")] == ["off", "off", "4MB"]
        one.query("SET work_mem = '7MB'")
        one.query("RESET work_mem")
        assert one.rows("SHOW work_mem") == [["5MB"]] and one.rows("SELECT pg_backend_pid()") == pid != other.rows("SELECT pg_backend_pid()")
        assert error_of(one.query("SET log_disconnections = off")).sqlstate == "55P02"
    wait_until(lambda: cluster.sql("primary", f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid[0][0]}") == [(0,)])


@pytest.mark.parametrize("start", [{"log_disconnections": "on"}, {"post_auth_delay": "x"}, {"local_preload_libraries": "nowhere"}])
def test_a_wrong_parameter_of_a_sessions_start_is_refused_as_by_postgres(cluster, weir, start):
    told = []
    for port in (cluster.ports["primary"], weir.port):
        with pytest.raises(PgError) as refused:
            login(port, **start)
        told.append({k: refused.value.fields.get(k) for k in "SVCM"})
    assert told[0] == told[1]


# On replicas as on the primary.

@pytest.mark.parametrize("how", ["query", "function", "transaction"])
def test_settings_follow_to_every_replica(three, pgweir, how):
    weir = pgweir(three, default_pool_size=1, workers=1)
    weir.wait_reads_on_replica()
    one, other = login(weir.port, DateStyle="German"), login(weir.port)
    for sql in {"query": ["SET TimeZone = 'Asia/Tokyo'", "SET my.tenant = 'x'"],
                "function": ["SELECT set_config('TimeZone', 'Asia/Tokyo', false), set_config('my.tenant', 'x', false)"],
                "transaction": ["BEGIN READ ONLY", Cluster.WHO, "SET TimeZone = 'Asia/Tokyo'", "SET my.tenant = 'x'", "COMMIT"]}[how]:
        assert "E" not in types(one.query(sql)), sql
    ask = Cluster.WHO + ", timestamptz '2020-07-02 00:00+00', current_setting('my.tenant', true)"
    seen = set()

    def both():
        (node, when, tenant), = one.rows(ask)
        assert (when, tenant) == ("02.07.2020 09:00:00 JST", "x"), node
        (_, when, tenant), = other.rows(ask)
        assert when == "2020-07-02 00:00:00+00" and tenant in (None, ""), node
        seen.add(node)
        return seen >= {"1", "2"}
    wait_until(both)
    one.query("RESET ALL")
    seen.clear()

    def back():
        (node, when, _), = one.rows(ask)
        assert when == "02.07.2020 00:00:00 UTC", node
        seen.add(node)
        return seen >= {"1", "2"}
    wait_until(back)
