"""Settings of ours (pgweir.*), hints, route= and name@ro, name@rw: what they answer and where they send."""
import re

import psycopg2
import pytest
from conftest import Cluster, wait_until
from rawpg import bind, close, describe, execute, flush, message, parse, query, sync

NODE = Cluster.WHO


@pytest.fixture
def weir(cluster, pgweir):
    weir = pgweir(log_routes="all", workers=1)
    weir.wait_reads_on_replica()
    return weir


@pytest.fixture
def client(weir):
    with weir.raw().login("app_scram", "app", "secret") as client:
        yield client


def kinds(messages):
    return "".join(m.type for m in messages if m.type not in "SN")


def tag(messages):
    return next(m.text for m in messages if m.type == "C")


def error(messages):
    return next((m.fields() for m in messages if m.type == "E"), {})


def node(client, sql=NODE):
    return Cluster.node_of(client.rows(sql)[0][0])


def wait_node(client, wanted, sql=NODE):
    """A write before may keep the client on the primary for a while."""
    wait_until(lambda: node(client, sql) == wanted, 10, f"reads on {wanted}")


def extended(client, sql, name="", more=b""):
    client.send(parse(name, sql), bind("", name), describe("P"), execute(), more, sync())
    return client.read_until("Z")


def show(client, name="route"):
    return client.rows(f"SHOW pgweir.{name}")[0][0]


# ---- what they answer ----

def test_show_set_reset_simple(client):
    m = client.query("SHOW pgweir.route")
    assert kinds(m) == "TDCZ" and tag(m) == "SHOW" and m[1].row() == [b"auto"]
    assert m[0].body[2:].split(b"\0")[0] == b"pgweir.route"
    assert tag(client.query("SET pgweir.route = primary")) == "SET"
    assert show(client) == "primary"
    assert tag(client.query("set session PgWeir.Route to 'ANY' ;")) == "SET"
    assert show(client) == "any"
    assert tag(client.query("RESET pgweir.route")) == "RESET"
    assert show(client) == "auto"
    client.query("/* a comment */ SET pgweir.route = 'replica'")
    assert tag(client.query("SET pgweir.route TO DEFAULT")) == "SET"
    assert show(client) == "auto"
    assert show(client, "consistency") == "session"
    client.query("SET \"pgweir\".consistency = $$eventual$$")
    assert show(client, "consistency") == "eventual"


def test_show_set_reset_extended(client):
    m = extended(client, "SHOW pgweir.route")
    assert kinds(m) == "12TDCZ" and m[3].row() == [b"auto"]
    m = extended(client, "SET pgweir.route = 'primary'")
    assert kinds(m) == "12nCZ" and tag(m) == "SET"
    client.send(parse("s", "SHOW pgweir.route"), describe("S", "s"), sync())
    m = client.read_until("Z")
    assert kinds(m) == "1tTZ"
    for _ in range(2):
        client.send(bind("p", "s"), execute("p"), sync())
        m = client.read_until("Z")
        assert kinds(m) == "2DCZ" and m[1].row() == [b"primary"]
    client.send(parse("s", "SHOW pgweir.route"), sync())
    assert error(client.read_until("Z"))["C"] == "42P05"
    client.send(close("S", "s"), sync())
    assert kinds(client.read_until("Z")) == "3Z"
    client.send(execute("nowhere"), sync())
    assert error(client.read_until("Z"))["C"] == "34000"


def test_no_server_is_taken(client, weir):
    before = weir.show("POOLS")
    client.query("SET pgweir.route = primary")
    extended(client, "SET pgweir.route = auto")
    assert not [p for p in weir.show("POOLS") if int(p.get("cl_waiting", 0))]
    assert len(before) == len(weir.show("POOLS"))
    assert "class=session_state" not in weir.log()


@pytest.mark.parametrize("statement, sqlstate, words", [
    ("SET pgweir.route = 'nowhere'", "22023", "auto, primary, replica, any"),
    ("SET pgweir.route = primary, replica", "22023", "only one argument"),
    ("SET pgweir.route = -1", "22023", "invalid value"),
    ("SET pgweir.consistency = on", "22023", "eventual, session"),
    ("SET pgweir.unknown = 1", "42704", "pgweir.route"),
    ("SHOW pgweir.unknown", "42704", "pgweir.consistency"),
    ("RESET pgweir.unknown", "42704", "unrecognized configuration parameter"),
    ("SET pgweir.route primary", "42601", "syntax"),
    ("SET pgweir.route = 'it''s \\ $pgweir$'", "22023", "invalid value"),
])
@pytest.mark.parametrize("how", ["simple", "extended"])
@pytest.mark.parametrize("in_tx", [False, True])
def test_errors(client, statement, sqlstate, words, how, in_tx):
    if in_tx:
        client.query("BEGIN")
    m = client.query(statement) if how == "simple" else extended(client, statement)
    e = error(m)
    assert e["C"] == sqlstate and words in e["M"] + e.get("H", "")
    assert client.status == ("E" if in_tx else "I")
    if in_tx:
        assert error(client.query("SHOW pgweir.route"))["C"] == "25P02"
        assert error(extended(client, "SHOW pgweir.route"))["C"] == "25P02"
        assert tag(client.query("COMMIT")) == "ROLLBACK"
    assert show(client) == "auto"
    assert client.rows("SELECT 1") == [["1"]]


def test_several_statements_are_refused(client):
    for text in ("SET pgweir.route = primary; SELECT 1", "SELECT 1; RESET pgweir.route"):
        e = error(client.query(text))
        assert e["C"] == "0A000", text
        assert client.status == "I"
    client.query("BEGIN")
    assert error(client.query("SELECT 1; SET pgweir.route = primary"))["C"] == "0A000"
    assert client.status == "E"
    client.query("ROLLBACK")
    assert show(client) == "auto"
    assert client.rows("SELECT 'SET pgweir.route = primary; SELECT 1'; SELECT 2")[1] == ["2"]


# ---- transactions ----

@pytest.mark.parametrize("end, left", [("COMMIT", "primary"), ("ROLLBACK", "any"), ("END", "primary"),
                                       ("ABORT", "any"), ("COMMIT AND CHAIN", "primary"), ("ROLLBACK AND CHAIN", "any")])
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_set_in_a_transaction(client, end, left, how):
    run = client.query if how == "simple" else lambda sql: extended(client, sql)
    client.query("SET pgweir.route = any")
    client.query("BEGIN")
    client.query("SELECT txid_current()")
    assert tag(run("SET pgweir.route = primary")) == "SET"
    assert client.status == "T" and show(client) == "primary"
    assert tag(run("SET LOCAL pgweir.route = replica")) == "SET"
    assert show(client) == "replica"
    client.query(end)
    assert show(client) == left
    client.query("ROLLBACK")
    assert show(client) == left and client.status == "I"


def test_set_local_alone_warns(client):
    m = client.query("SET LOCAL pgweir.route = primary")
    assert [x.type for x in m] == ["N", "C", "Z"] and m[0].fields()["C"] == "25P01"
    assert show(client) == "auto"


def test_a_failed_transaction_undoes(client):
    client.query("BEGIN")
    client.query("SET pgweir.route = primary")
    client.query("SELECT 1/0")
    assert client.status == "E"
    client.query("COMMIT")
    assert show(client) == "auto"


def test_after_savepoint(client):
    client.query("BEGIN")
    client.query("SET pgweir.route = primary")
    client.query("SAVEPOINT a")
    assert error(client.query("SET pgweir.route = any"))["C"] == "0A000"
    client.query("ROLLBACK TO a")
    assert client.status == "T" and show(client) == "primary"
    client.query("ROLLBACK")
    assert show(client) == "auto"


def test_reset_all_and_discard_all(client):
    for statement in ("RESET ALL", "DISCARD ALL"):
        client.query("SET pgweir.route = primary")
        client.query(statement)
        assert show(client) == "auto", statement
    client.query("SET pgweir.route = primary")
    client.query("BEGIN")
    client.query("RESET ALL")
    assert show(client) == "auto"
    client.query("ROLLBACK")
    assert show(client) == "primary"
    client.query("DISCARD ALL")


# ---- pipelines ----

def test_in_a_pipeline_with_others(client):
    def one(sql):
        return parse("", sql) + bind("", "") + execute()
    client.send(one("BEGIN"), one("SELECT 1"), one("SET LOCAL pgweir.route = replica"), one("SHOW pgweir.route"),
                one("SELECT 2"), one("COMMIT"), sync(), query("SHOW pgweir.route"))
    m = client.read_until("Z")
    assert kinds(m) == "12C12DC12C12DC12DC12CZ"
    assert [x.row()[0] for x in m if x.type == "D"] == [b"1", b"replica", b"2"]
    assert [x.row()[0] for x in client.read_until("Z") if x.type == "D"] == [b"auto"]


def test_an_error_in_a_pipeline(client):
    def one(sql):
        return parse("", sql) + bind("", "") + execute()
    client.send(one("SELECT 1"), one("SET pgweir.route = wrong"), one("SELECT 2"), sync(), query("SELECT 3"))
    m = client.read_until("Z")
    assert kinds(m) == "12DC12EZ" and error(m)["C"] == "22023"
    assert kinds(client.read_until("Z")) == "TDCZ"
    client.send(one("SET pgweir.route = primary"), one("SELECT 1/0"), one("SELECT 2"), sync())
    assert error(client.read_until("Z"))["C"] == "22012"
    assert show(client) == "auto"  # the pipeline is one transaction
    client.send(one("SET pgweir.route = primary"), one("SET pgweir.route = wrong"), one("SELECT 2"), sync())
    assert kinds(client.read_until("Z"))[-2:] == "EZ"
    assert show(client) == "auto"


def test_simple_queries_in_a_row(client):
    client.send(query("BEGIN"), query("SELECT 1"), query("SET LOCAL pgweir.route = any"), query("SHOW pgweir.route"),
                query("ROLLBACK"), query("SHOW pgweir.route"), query("SET pgweir.route = x"), query("SELECT 5"))
    got = [client.read_until("Z") for _ in range(8)]
    assert [kinds(m) for m in got] == ["CZ", "TDCZ", "CZ", "TDCZ", "CZ", "TDCZ", "EZ", "TDCZ"]
    assert got[3][1].row() == [b"any"] and got[5][1].row() == [b"auto"]


def test_with_flush(client):
    """As asyncpg does it."""
    client.send(parse("f", "SHOW pgweir.route"), describe("S", "f"), flush())
    assert [client.read().type for _ in range(3)] == ["1", "t", "T"]
    client.send(bind("", "f"), execute(), sync())
    assert kinds(client.read_until("Z")) == "2DCZ"


def test_session_pooling(cluster, pgweir):
    weir = pgweir(pool_mode="session")
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.query("SELECT 1")
        c.query("SET pgweir.route = primary")
        assert show(c) == "primary"
        assert error(c.query("SET pgweir.route = x"))["C"] == "22023"
        assert c.status == "I" and kinds(extended(c, "SHOW pgweir.route")) == "12TDCZ"


# ---- startup ----

def test_startup(weir):
    def login(**params):
        return weir.raw().login("app_scram", "app", "secret", **params)
    with login(**{"pgweir.route": "primary"}) as c:
        assert show(c) == "primary" and node(c) == "primary"
        c.query("SET pgweir.route = any")
        c.query("RESET pgweir.route")
        assert show(c) == "primary"
        assert c.rows("SELECT current_setting('pgweir.route', true)") == [[None]]  # not forwarded
    with login(options="-c pgweir.route=any -c PGWEIR.consistency=eventual -c work_mem=5MB") as c:
        assert show(c) == "any" and show(c, "consistency") == "eventual"
        assert c.rows("SHOW work_mem") == [["5MB"]]
    for params, code in (({"pgweir.route": "x"}, "22023"), ({"pgweir.x": "1"}, "42704"),
                         ({"options": "-c pgweir.route=x"}, "22023")):
        with pytest.raises(Exception) as e:
            login(**params)
        assert e.value.sqlstate == code


# ---- where it sends ----

def test_set_route(client, cluster):
    wait_node(client, "replica1")
    client.query("SET pgweir.route = primary")
    assert node(client) == "primary"
    client.query("SET pgweir.route = replica")
    wait_node(client, "replica1")
    assert client.rows("SELECT pg_is_in_recovery()") == [["t"]]
    client.query("SET pgweir.route = any")
    wait_node(client, "replica1")
    assert client.rows("SELECT pg_is_in_recovery()") == [["f"]]


def test_token(client, weir, cluster):
    token = show(client, "lsn_token")
    client.query("SELECT txid_current()")
    after = show(client, "lsn_token")
    assert re.fullmatch(r"\d+-[0-9A-F]+/[0-9A-F]+", after), after
    assert kinds(extended(client, "SHOW pgweir.lsn_token")) == "12TDCZ"
    for how in (lambda c: c.query(f"SET pgweir.min_lsn = '{after}'"),
                lambda c: extended(c, f"SET pgweir.min_lsn = '{after}'")):
        with weir.raw().login("app_scram", "app", "secret") as other:
            assert tag(how(other)) == "SET" and show(other, "min_lsn") == after
            assert error(other.query("SET pgweir.min_lsn = 'soon'"))["C"] == "22023"
            assert error(other.query("SET pgweir.lsn_token = '0/1'"))["C"] == "55P02"
            wait_node(other, "replica1")
    with weir.raw().login("app_scram", "app", "secret", options=f"-c pgweir.min_lsn={after}") as other:
        assert show(other, "min_lsn") == after
    assert token


def test_min_lsn_of_the_future_reads_on_the_primary(client):
    wait_node(client, "replica1")
    client.query("SET pgweir.min_lsn = 'FFFFFF/0'")
    assert node(client) == "primary" and node(client) == "primary"


# ---- who says where: each source, and which of two wins ----

IN_RECOVERY = "SELECT pg_is_in_recovery()"  # replica: on the replica; any, auto: on the primary


def where(client):
    """primary, replica, or auto (also any), as the client's statements show it."""
    if node(client) == "primary":
        return "primary"
    return "replica" if client.rows(IN_RECOVERY) == [["t"]] else "auto"


@pytest.fixture
def policies(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(), "p": cluster.entry(route="primary"), "r": cluster.entry(route="replica"),
                             "'r@rw'": cluster.entry(route="replica"), "*": cluster.entry().replace(" dbname=app", "")},
                  sections="[users]\napp_md5 = route=primary\napp_plain = route=replica", workers=1, log_routes="all")
    weir.wait_reads_on_replica()
    return weir


@pytest.mark.parametrize("database, user, startup, before, in_tx, wanted", [
    ("app", "app_scram", None, None, None, "auto"),
    ("p", "app_scram", None, None, None, "primary"),
    ("r", "app_scram", None, None, None, "replica"),
    ("app", "app_md5", None, None, None, "primary"),
    ("app", "app_plain", None, None, None, "replica"),
    ("r", "app_md5", None, None, None, "primary"),            # user > database
    ("p", "app_plain", None, None, None, "replica"),
    ("app@ro", "app_scram", None, None, None, "replica"),
    ("app@rw", "app_scram", None, None, None, "primary"),
    ("app@ro", "app_md5", None, None, None, "replica"),       # name@ro > user
    ("app@rw", "app_plain", None, None, None, "primary"),
    ("p@ro", "app_scram", None, None, None, "replica"),       # name@ro > database
    ("r@rw", "app_scram", None, None, None, "replica"),       # an entry of that very name
    ("postgres@ro", "app_scram", None, None, None, "replica"),  # with the template
    ("app@ro", "app_scram", "primary", None, None, "primary"),  # startup > name@ro
    ("app", "app_md5", "auto", None, None, "auto"),           # startup > user
    ("p", "app_scram", "replica", None, None, "replica"),     # startup > database
    ("app", "app_scram", "primary", "replica", None, "replica"),  # SET > startup
    ("app@rw", "app_scram", None, "auto", None, "auto"),      # SET > name@rw
    ("app", "app_md5", None, "replica", None, "replica"),     # SET > user
    ("p", "app_scram", None, "any", None, "auto"),            # SET > database
])
def test_precedence(policies, database, user, startup, before, in_tx, wanted):
    options = {"pgweir.route": startup} if startup else {}
    with policies.raw().login(user, database, "secret", **options) as c:
        assert c.rows("SELECT 1") == [["1"]]
        if before:
            c.query(f"SET pgweir.route = {before}")
        assert wait_until(lambda: where(c) == wanted, 10, wanted)


def test_read_only_name(policies, cluster):
    with policies.raw().login("app_scram", "app@ro", "secret") as c:
        wait_until(lambda: where(c) == "replica", 10, "replica")
        assert c.rows("SELECT current_database()") == [["app"]]
        assert error(c.query("CREATE TABLE never (n int)"))["C"] == "25006"
        assert error(extended(c, "CREATE TABLE never (n int)"))["C"] == "25006"
        c.query("BEGIN")
        assert error(c.query("CREATE TABLE never (n int)"))["C"] == "25006"
        c.query("ROLLBACK")
        assert c.rows("SELECT count(*) FROM pg_class WHERE relname = 'never'") == [["0"]]
        wait_until(lambda: where(c) == "replica", 10, "replica")
    with policies.raw().login("app_scram", "app@rw", "secret") as c:
        assert error(c.query("CREATE TEMP TABLE t (n int)")) == {}


def test_wrong_route_in_the_configuration(cluster, pgweir):
    with pytest.raises(AssertionError, match="route: .*auto, primary, replica"):
        pgweir(databases={"app": cluster.entry(route="nowhere")})


# ---- hints ----

def where_hinted(run, front="", behind=""):
    if Cluster.node_of(run(f"{front}{NODE}{behind}")) == "primary":
        return "primary"
    return "replica" if run(f"{front}{IN_RECOVERY}{behind}") == "t" else "auto"


def run_simple(client):
    return lambda sql: client.rows(sql)[0][0]


def run_extended(client):
    return lambda sql: next(m.row()[0].decode() for m in extended(client, sql) if m.type == "D")


def run_prepared(client):
    def run(sql):
        client.send(parse("h", sql), sync(), bind("", "h"), execute(), sync(), close("S", "h"), sync())
        got = client.read_until("Z") + client.read_until("Z") + client.read_until("Z")
        return next(m.row()[0].decode() for m in got if m.type == "D")
    return run


@pytest.mark.parametrize("how", [run_simple, run_extended, run_prepared])
@pytest.mark.parametrize("setting, comment, wanted", [
    ("auto", "/* route=primary */", "primary"),
    ("auto", "/* pgweir: route=replica */", "replica"),
    ("primary", "/* route=any */", "auto"),        # hint > SET
    ("primary", "/* route=replica */", "replica"),
    ("replica", "/* route=primary */", "primary"),
    ("replica", "/* route=any */", "auto"),
    ("auto", "/*route='%2Fpolls',controller='x'*/", "auto"),
    ("auto", "/*controller='x',route='primary'*/", "auto"),
    ("replica", "/*route='primary'*/", "replica"),
    ("auto", "/* pgweir: route=nowhere */", "primary"),  # ours, and not understood
    ("auto", "/* route=nowhere */", "auto"),
    ("auto", "-- route=primary\n", "auto"),
])
def test_hints(client, how, setting, comment, wanted):
    client.query(f"SET pgweir.route = {setting}")
    run = how(client)
    wait_until(lambda: where_hinted(run, front=comment) == wanted, 10, wanted)
    if not comment.startswith("--"):
        wait_until(lambda: where_hinted(run, behind=comment) == wanted, 10, wanted)


def test_a_hint_does_not_send_writes_to_a_replica(client):
    for hint in ("replica", "replica!", "any"):
        assert error(client.query(f"/* route={hint} */ CREATE TEMP TABLE hinted (n int); DROP TABLE hinted")) == {}
        assert error(client.query(f"/* route={hint} */ SELECT txid_current()")) == {}
        assert error(client.query(f"/* route={hint} */ SELECT pg_advisory_xact_lock(1)")) == {}


def test_min_lsn_as_a_hint(client, weir):
    client.query("SELECT txid_current()")
    token = show(client, "lsn_token")
    with weir.raw().login("app_scram", "app", "secret") as other:
        other.query(f"/* pgweir: min_lsn={token} */ SELECT 1")
        assert show(other, "min_lsn") == token


@pytest.mark.parametrize("session, local, wanted", [("any", "primary", "primary"), ("primary", "replica", "replica1")])
def test_set_local_beats_set_and_says_where_the_transaction_goes(client, session, local, wanted):
    client.query(f"SET pgweir.route = {session}")

    def node_in_tx():
        client.query("BEGIN READ ONLY")
        client.query(f"SET LOCAL pgweir.route = {local}")
        got = node(client)
        client.query("COMMIT")
        return got == wanted
    wait_until(node_in_tx, 10, wanted)
    assert show(client) == session


# What a client does to statements of ours that no driver would do.

@pytest.mark.parametrize("name", ["", "a"])
def test_bind_of_a_statement_of_ours_that_was_closed(client, name):
    client.send(parse(name, "SHOW pgweir.route"), close("S", name), bind("", name), execute(), sync())
    m = client.read_until("Z")
    assert kinds(m) == "13EZ" and error(m)["C"] == "26000", m
    assert show(client) == "auto"


@pytest.mark.parametrize("body", [b"", b"X", b"X\0", b"S", b"P"])
def test_describe_of_neither_statement_nor_portal(weir, body):
    with weir.raw().login("app_scram", "app", "secret") as client:
        client.send(parse("", "SHOW pgweir.route"), message("D", body), sync())
        assert error(client.read_until("E"))["C"] in ("08P01", "26000")
    with weir.raw().login("app_scram", "app", "secret") as other:
        assert show(other) == "auto"
