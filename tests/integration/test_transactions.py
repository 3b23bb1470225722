"""Where transactions run, and what the client sees of it: READ ONLY in all its forms, moving, BEGIN that is answered
before a server is known, tx_reads = optimistic."""
import struct
import time

import pytest
from conftest import Cluster, wait_until
from protocol import error_of, login, same_as_postgres, types
from rawpg import PgError, bind, close, describe, execute, flush, message, parse, query, sync

SCHEMA = """
DROP TABLE IF EXISTS tx; DROP SEQUENCE IF EXISTS tx_seq;
CREATE TABLE tx (n int PRIMARY KEY); CREATE SEQUENCE tx_seq; GRANT ALL ON tx, tx_seq TO PUBLIC;
CREATE OR REPLACE FUNCTION tx_advisory() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(7)';
INSERT INTO tx SELECT generate_series(1, 5);
"""
PRIMARY, REPLICA = [["0"]], [["1"]]


@pytest.fixture
def schema(cluster):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(SCHEMA)
    db.close()
    cluster.wait_replayed()


def started(pgweir, **options):
    weir = pgweir(workers=1, log_routes="all", **options)
    weir.wait_reads_on_replica()
    return weir


@pytest.fixture(scope="module")
def shared(session_cluster, shared_pgweir):
    """One pgweir for most tests: to start and end one takes longer than they do."""
    return {how: shared_pgweir(databases={"app": session_cluster.entry(tx_reads=how)}, workers=1, log_routes="all")
            for how in ("primary", "optimistic")}


@pytest.fixture
def weir(schema, shared):
    shared["primary"].wait_reads_on_replica()
    return shared["primary"]


@pytest.fixture
def optimistic(schema, shared):
    shared["optimistic"].wait_reads_on_replica()
    return shared["optimistic"]


def who(c):
    return c.rows(Cluster.WHO)


def refused(answers, sqlstate):
    assert types(answers)[-2:] == "EZ" and error_of(answers).sqlstate == sqlstate, answers
    return True


def extended(sql, describes=False):
    return parse("", sql) + bind("", "") + (describe("P") if describes else b"") + execute() + sync()


def ask(c, *data):
    c.send(*data)
    return c.read_until("Z")


# READ ONLY, in all its forms.

@pytest.mark.parametrize("begin,node", [
    ("BEGIN", PRIMARY),
    ("BEGIN READ WRITE", PRIMARY),
    ("BEGIN READ ONLY", REPLICA),
    ("begin transaction read only;", REPLICA),
    ("START TRANSACTION READ ONLY", REPLICA),
    ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", REPLICA),
    ("BEGIN READ ONLY DEFERRABLE", REPLICA),
    ("BEGIN READ WRITE, READ ONLY", REPLICA),
    ("BEGIN READ ONLY READ WRITE", PRIMARY),
    ("BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE", PRIMARY),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY NOT DEFERRABLE", PRIMARY),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, ISOLATION LEVEL READ COMMITTED", REPLICA),
])
@pytest.mark.parametrize("how", ["query", "extended", "behind it", "one segment"])
def test_what_begin_says(weir, begin, node, how):
    # A BEGIN that is passed on as it is goes to the primary when a standby would refuse the first of its modes.
    unless_twice = PRIMARY[0] if "WRITE, READ ONLY" in begin or "SERIALIZABLE, READ ONLY, " in begin else node[0]
    with login(weir.port) as c:
        if how == "query":
            assert types(c.query(begin)) == "CZ" and c.status == "T"
            assert who(c) == node
        elif how == "extended":
            assert types(ask(c, extended(begin, True))) == "12nCZ" and c.status == "T"
            assert who(c) == node
        elif how == "behind it":
            c.send(query(begin) + query(Cluster.WHO))
            assert types(c.read_until("Z")) == "CZ"
            assert [m.row()[0].decode() for m in c.read_until("Z") if m.type == "D"] in (node[0], unless_twice)
        else:
            answers = ask(c, parse("", begin) + bind("", "") + execute() + extended(Cluster.WHO))
            rows = [m.row()[0].decode() for m in answers if m.type == "D"]
            assert types(answers) == "12C12DCZ" and rows in (node[0], unless_twice)
        isolation, access = c.rows("SHOW transaction_isolation"), c.rows("SHOW transaction_read_only")
        c.query("COMMIT")
        assert c.status == "I"
    with login(weir.port, options="-c application_name=direct") as c, login(pg_port(weir)) as direct:
        direct.query(begin)
        assert [isolation, access] == [direct.rows("SHOW transaction_isolation"), direct.rows("SHOW transaction_read_only")]


def pg_port(weir):
    """Of the first node of its database."""
    ports = weir.databases["app"] if hasattr(weir, "databases") else None
    return int(str(ports).split("port=")[1].split()[0].split(",")[0])


@pytest.mark.parametrize("statement,node", [
    ("SET TRANSACTION READ ONLY", REPLICA),
    ("SET TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ", REPLICA),
    ("SET LOCAL transaction_read_only = on", REPLICA),
    ("SET TRANSACTION READ WRITE", PRIMARY),
    ("SET TRANSACTION READ ONLY ISOLATION LEVEL SERIALIZABLE", PRIMARY),
    ("SET LOCAL work_mem = '1MB'", PRIMARY),
])
def test_what_set_transaction_says_first(weir, statement, node):
    with login(weir.port) as c:
        c.query("BEGIN")
        assert types(c.query(statement)) == "CZ" and c.status == "T"
        assert who(c) == node
        c.query("COMMIT")


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
def test_a_snapshot_is_exported_and_imported_on_the_primary(weir, begin):
    """As pg_dump -j does. A replica does not know it, or another one does not."""
    modes = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    with login(weir.port) as leader, login(weir.port) as worker:
        leader.query(begin)
        leader.query(modes)
        snapshot = leader.rows("SELECT pg_catalog.pg_export_snapshot()")[0][0]
        worker.query(begin)
        assert types(worker.query(modes)) == "CZ" and worker.status == "T"
        assert types(worker.query(f"SET TRANSACTION SNAPSHOT '{snapshot}'")) == "CZ"
        assert (who(leader), who(worker)) == (PRIMARY, PRIMARY)
        assert worker.rows("SHOW transaction_isolation") == [["repeatable read"]]
        assert worker.rows("SHOW transaction_read_only") == [["on"]]


SESSIONS = {
    "set": lambda weir: set_in(weir, "SET default_transaction_read_only = on"),
    "characteristics": lambda weir: set_in(weir, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
    "options": lambda weir: login(weir.port, options="-c default_transaction_read_only=on"),
    "startup": lambda weir: login(weir.port, default_transaction_read_only="true"),
}


def set_in(weir, sql, **startup):
    c = login(weir.port, **startup)
    assert types(m for m in c.query(sql) if m.type != "S") == "CZ"
    return c


def back_on_replica(cluster, c):
    cluster.sql("primary", "SELECT txid_current()")
    wait_until(lambda: who(c) == REPLICA, what="it reads on the replica")


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_that_is_read_only(cluster, weir, name):
    with SESSIONS[name](weir) as c:
        back_on_replica(cluster, c)
        assert c.rows("SELECT pg_is_in_recovery()") == [["t"]]  # not a proven read: the whole session is one
        c.query("BEGIN")
        assert c.rows("SELECT pg_is_in_recovery()") == [["t"]]
        c.query("COMMIT")
        assert refused(c.query("INSERT INTO tx VALUES (100)"), "25006")
        c.query("BEGIN READ WRITE")
        assert who(c) == PRIMARY and types(c.query("INSERT INTO tx VALUES (100)")) == "CZ"
        c.query("ROLLBACK")
        c.query("BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert who(c) == PRIMARY
        c.query("COMMIT")
        assert c.rows("SHOW default_transaction_read_only") == [["on"]]


def test_the_roles_own_defaults(cluster, schema, pgweir):
    role = "ALTER ROLE app_md5 IN DATABASE app"
    try:
        cluster.sql("primary", f"{role} SET default_transaction_read_only = on")
        cluster.wait_replayed()
        weir = started(pgweir)
        with login(weir.port, "app_md5") as c:
            wait_until(lambda: who(c) == REPLICA)
            c.query("BEGIN")
            wait_until(lambda: c.rows("SELECT pg_is_in_recovery()") == [["t"]])
            c.query("COMMIT")
        cluster.sql("primary", f"{role} RESET default_transaction_read_only")
        cluster.sql("primary", f"{role} SET default_transaction_isolation = 'serializable'")
        cluster.wait_replayed()
        weir = started(pgweir)
        with login(weir.port, "app_md5") as c:
            assert who(c) == PRIMARY
            c.query("BEGIN READ ONLY")
            assert who(c) == PRIMARY and c.rows("SHOW transaction_isolation") == [["serializable"]]
            c.query("COMMIT")
            c.query("COMMIT")
        with login(weir.port, "app_md5", application_name="with settings") as c:  # a new one, that has seen nothing of the primary
            c.query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")
            assert who(c) == REPLICA
    finally:
        cluster.sql("primary", f"{role} RESET ALL")
        cluster.wait_replayed()


def test_a_default_of_transactions_keeps_no_server(cluster, schema, pgweir):
    weir = started(pgweir, default_pool_size=1, queue_timeout="2s")
    a, b = login(weir.port), login(weir.port)
    for sql in ("SET default_transaction_read_only = on", "SET default_transaction_isolation = 'repeatable read'",
                "SET SESSION CHARACTERISTICS AS TRANSACTION DEFERRABLE"):
        assert "E" not in types(a.query(sql))
        assert b.rows("SELECT txid_current() IS NOT NULL") == [["t"]]
    show = "SELECT current_setting('default_transaction_read_only'), current_setting('default_transaction_isolation'), " \
           "current_setting('default_transaction_deferrable')"
    assert a.rows(show) == [["on", "repeatable read", "on"]]
    assert b.rows(show) == [["off", "read committed", "off"]]
    a.send(extended("RESET default_transaction_read_only"))
    assert types(m for m in a.read_until("Z") if m.type != "S") == "12CZ"
    assert a.rows(show) == [["off", "repeatable read", "on"]]
    assert refused(a.query("SET default_transaction_isolation = 'no such'"), "22023")
    a.query("DISCARD ALL")
    assert a.rows(show) == b.rows(show)


def test_reset_goes_back_to_what_the_login_said(weir):
    with login(weir.port, default_transaction_read_only="on") as c:
        assert c.rows("SHOW default_transaction_read_only") == [["on"]]
        c.query("SET default_transaction_read_only = off")
        assert c.rows("SHOW default_transaction_read_only") == [["off"]]
        c.query("RESET default_transaction_read_only")
        assert c.rows("SHOW default_transaction_read_only") == [["on"]]


# What a replica cannot do.

CANNOT = ["SELECT pg_advisory_lock(7)", "SELECT pg_advisory_xact_lock(7)", "SELECT txid_current()", "LISTEN somebody",
          "NOTIFY somebody", "SELECT last_value FROM tx_seq", "SELECT tx_advisory()", "DO 'BEGIN PERFORM tx_advisory(); END'"]


@pytest.mark.parametrize("statement", CANNOT)
@pytest.mark.parametrize("how", ["query", "extended"])
def test_it_moves_to_the_primary(cluster, weir, statement, how):
    with login(weir.port) as c:
        c.query("BEGIN READ ONLY")
        if "last_value" not in statement:
            assert who(c) == REPLICA
        answers = c.query(statement) if how == "query" else ask(c, extended(statement))
        assert "E" not in types(answers) and c.status == "T"
        assert who(c) == PRIMARY
        assert c.rows("SHOW transaction_read_only") == [["on"]]
        if "advisory" in statement:
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"
            assert cluster.sql("primary", locks) == [(1,)] and cluster.sql("replica1", locks) == [(0,)]
        assert refused(c.query("INSERT INTO tx VALUES (200)"), "25006")
        assert types(c.query("COMMIT")) == "CZ" and c.status == "I"


def test_as_the_first_statement_it_begins_there(weir):
    with login(weir.port) as c:
        c.query("BEGIN READ ONLY")
        c.query("SELECT pg_advisory_xact_lock(1)")
        assert who(c) == PRIMARY


STATE = {"repeatable read": [], "cursor": ["DECLARE c CURSOR FOR SELECT 1"], "savepoint": ["SAVEPOINT s"],
         "set local": ["SET LOCAL work_mem = '1MB'"], "set_config": ["SELECT set_config('work_mem', '1MB', true)"]}


@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize("how", ["query", "extended", "prepared"])
def test_with_state_it_stays_and_refuses(cluster, weir, name, how):
    lock = "SELECT pg_advisory_lock(9)"
    with login(weir.port) as c:
        ask(c, parse("lock", lock) + sync())  # on the primary
        wait_until(lambda: who(c) == REPLICA)
        c.query("BEGIN READ ONLY" + (" ISOLATION LEVEL REPEATABLE READ" if name == "repeatable read" else ""))
        assert who(c) == REPLICA
        for sql in STATE[name]:
            c.query(sql)
        prepared = bind("", "lock") + execute() + sync()
        answers = c.query(lock) if how == "query" else ask(c, prepared if how == "prepared" else extended(lock))
        assert refused(answers, "0A000") and c.status == "E"
        assert "READ ONLY" in error_of(answers).fields["H"]
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 9"
        assert cluster.sql("replica1", locks) == cluster.sql("primary", locks) == [(0,)]
        c.query("ROLLBACK")
        assert c.status == "I"


def test_function_calls_are_the_primarys(cluster, weir):
    """FunctionCall names a function by its oid: nobody here knows what it does."""
    try_advisory_lock = 2882
    call = message("F", struct.pack("!IhhhiqH", try_advisory_lock, 1, 1, 1, 8, 9, 1))
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 9"
    for first in ([], [Cluster.WHO]):
        with login(weir.port) as c:
            c.query("BEGIN READ ONLY")
            assert all(c.rows(sql) == REPLICA for sql in first)
            assert types(ask(c, call)) == "VZ" and who(c) == PRIMARY
            assert cluster.sql("primary", locks) == [(1,)]
            c.query("SELECT pg_advisory_unlock(9)")
            c.query("COMMIT")
    with login(weir.port) as c:
        assert types(ask(c, call)) == "VZ"  # outside of a transaction too
        assert cluster.sql("primary", locks) == [(1,)] and cluster.sql("replica1", locks) == [(0,)]
        c.query("SELECT pg_advisory_unlock_all()")
    with login(weir.port) as c:
        c.query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")
        assert who(c) == REPLICA
        assert refused(ask(c, call), "0A000") and c.status == "E"
    assert cluster.sql("replica1", locks) == [(0,)]


@pytest.mark.parametrize("how", ["query", "extended"])
def test_what_follows_its_end_is_the_primarys(cluster, weir, how):
    """In one message, or in one segment, with the end of a transaction that a replica has."""
    number = 300 + (how == "query")
    insert = f"INSERT INTO tx VALUES ({number})"
    with login(weir.port) as c:
        c.query("BEGIN READ ONLY")
        assert who(c) == REPLICA
        together = query(f"END; {insert}") if how == "query" else \
            parse("", "END") + bind("", "") + execute() + parse("", insert) + bind("", "") + execute() + sync()
        assert "E" not in types(ask(c, together)) and c.status == "I"
        assert cluster.sql("primary", "SELECT count(*) FROM tx WHERE n = %s", number) == [(1,)]
    with login(weir.port) as c:
        c.query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")
        assert who(c) == REPLICA
        # Loud in both: PostgreSQL itself refuses the INSERT of the pipeline, behind a COMMIT that was answered.
        assert error_of(ask(c, together)).sqlstate == ("0A000" if how == "query" else "25006")


@pytest.mark.parametrize("statement", ["INSERT INTO tx VALUES (1)", "UPDATE tx SET n = n", "SELECT n FROM tx FOR UPDATE",
                                       "CREATE TABLE never (n int)", "CREATE TEMP TABLE never (n int)", "SELECT nextval('tx_seq')"])
def test_a_write_is_the_clients_own_error(weir, statement):
    with login(weir.port) as c:
        c.query("BEGIN READ ONLY")
        assert who(c) == REPLICA
        assert refused(c.query(statement), "25006") and c.status == "E"
        assert refused(c.query("SELECT 1"), "25P02")
        assert c.query("COMMIT")[0].text == "ROLLBACK"
    assert "replica_refused" not in weir.log()


# BEGIN is answered here.

def in_transaction(cluster):
    return cluster.sql("primary", "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in tr%%'"
                       " AND usename <> 'probe'")[0][0]


def test_begin_takes_no_server(cluster, schema, pgweir):
    weir = started(pgweir, default_pool_size=1, queue_timeout="1s")
    clients = [login(weir.port) for _ in range(8)]
    for c in clients:
        assert types(c.query("BEGIN")) == "CZ" and c.status == "T"
    assert in_transaction(cluster) == 0
    for n, c in enumerate(clients):
        c.query(f"INSERT INTO tx VALUES ({300 + n})")
        assert in_transaction(cluster) == 1
        c.query("COMMIT" if n % 2 else "ROLLBACK")
    assert [n for (n,) in cluster.sql("primary", "SELECT n FROM tx WHERE n >= 300 ORDER BY n")] == [301, 303, 305, 307]
    for leave in ("terminate", "close", "reset"):
        c = login(weir.port)
        c.query("BEGIN")
        getattr(c, leave)()
    with login(weir.port) as c:
        c.query("BEGIN")
        c.cancel()
        assert c.rows("SELECT 1") == [["1"]] and c.status == "T"


PBE = "SELECT 1"
SAME = {
    "commit": [query("BEGIN"), query("COMMIT"), query("SELECT 1")],
    "rollback": [query("BEGIN"), query("ROLLBACK"), query("BEGIN"), query("ABORT"), query("BEGIN"), query("END WORK;")],
    "no transaction": [query("COMMIT"), query("ROLLBACK"), extended("COMMIT")],
    "twice": [query("BEGIN"), query("BEGIN"), query("START TRANSACTION"), query("SELECT 1"), query("BEGIN"), query("COMMIT")],
    "twice with modes": [query("BEGIN"), query("BEGIN ISOLATION LEVEL REPEATABLE READ"), query("SHOW transaction_isolation"),
                         query("COMMIT")],
    "savepoint": [query("BEGIN"), query("SAVEPOINT s"), query("SELECT 1/0"), query("SELECT 1"), query("ROLLBACK TO s"),
                  query("SELECT 2"), query("RELEASE s"), query("COMMIT")],
    "rollback to nothing": [query("BEGIN"), query("ROLLBACK TO s"), query("COMMIT")],
    "error first": [query("BEGIN"), query("SELEC"), query("SELECT 1"), query("COMMIT"), query("SELECT 2")],
    "chain": [query("BEGIN"), query("COMMIT AND CHAIN"), query("SELECT 1"), query("ROLLBACK AND CHAIN"), query("COMMIT")],
    "wrong": [query("BEGIN READ"), query("BEGIN READ ONLY,"), query("START"), query("BEGIN ISOLATION LEVEL NONE"), query("SELECT 1")],
    "empty in it": [query("BEGIN"), query(""), query("COMMIT")],
    "several": [query("BEGIN; SELECT 1"), query("SELECT 2"), query("COMMIT; BEGIN"), query("SELECT 3; COMMIT")],
    "several behind begin": [query("BEGIN"), query("SELECT 1; COMMIT; SELECT 2"), query("COMMIT")],
    "extended": [extended("BEGIN"), extended("SELECT 1", True), extended("COMMIT", True), extended("SELECT 2")],
    "extended, described": [parse("", "BEGIN") + describe("S") + bind("", "") + describe("P") + execute() + sync(),
                            extended("ROLLBACK")],
    "extended, closed": [parse("b", "BEGIN") + bind("", "b") + execute() + close("S", "b") + sync(), extended("COMMIT")],
    "named": [parse("b", "BEGIN") + parse("c", "COMMIT") + sync(), bind("", "b") + execute() + sync(), extended("SELECT 1"),
              bind("", "c") + execute() + sync(), bind("", "b") + execute() + sync(), bind("", "c") + execute() + sync(),
              parse("b", "BEGIN") + sync()],
    "named in one": [parse("b", "BEGIN") + describe("S", "b") + sync(), parse("b", "BEGIN") + bind("", "b") + execute() + sync(),
                     query("ROLLBACK"), parse("", "BEGIN") + bind("", "nosuch") + execute() + sync(), query("ROLLBACK")],
    "extended twice": [extended("BEGIN"), extended("BEGIN"), extended("SELECT 1"), extended("BEGIN"), extended("COMMIT")],
    "executed twice": [parse("", "BEGIN") + bind("", "") + execute() + execute() + sync(), query("ROLLBACK")],
    "unnamed behind it": [parse("", "SELECT 5") + sync(), query("BEGIN"), bind("", "") + execute() + sync(), query("ROLLBACK")],
    "unnamed is begin": [extended("BEGIN"), bind("", "") + execute() + sync(), query("ROLLBACK")],
    "begin and more": [parse("", "BEGIN") + bind("", "") + execute() + parse("", "SELECT 1") + bind("", "") + execute() + sync(),
                       query("COMMIT")],
    "commit and more": [query("BEGIN"), parse("", "COMMIT") + bind("", "") + execute() + parse("", "SELECT 1") + bind("", "") +
                        execute() + sync()],
    "with a parameter": [parse("", "BEGIN", [23]) + bind("", "") + execute() + sync(), query("ROLLBACK")],
    "pipeline": [query("BEGIN") + query("SELECT 1") + query("COMMIT") + query("BEGIN") + query("COMMIT"),
                 extended("BEGIN") + extended("SELECT 1/0") + extended("SELECT 1") + extended("ROLLBACK")],
    "flush": [query("BEGIN"), (parse("", "SELECT 1") + describe("S") + flush(), ["1", "t", "T"]), bind("", "") + execute() + sync(),
              query("COMMIT")],
    "set local": [query("BEGIN"), query("SET LOCAL work_mem = '7MB'"), query("SHOW work_mem"), query("COMMIT"), query("SHOW work_mem")],
    "set transaction": [query("BEGIN"), query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"), query("SHOW transaction_isolation"),
                        query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), query("ROLLBACK")],
    "set transaction too late": [
        query("BEGIN READ ONLY"), query("SELECT 1"), query("SET TRANSACTION READ WRITE"), query("ROLLBACK"),
        query("BEGIN READ ONLY"), query("SELECT 1"), query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), query("ROLLBACK"),
        query("BEGIN"), query("SELECT 1"), extended("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"), query("ROLLBACK"),
        query("BEGIN"), query("SELECT 1"), query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"), query("SET TRANSACTION READ ONLY"),
        query("COMMIT"), query("BEGIN READ ONLY"), query("SHOW work_mem"), query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        query("SELECT 1"), query("COMMIT")],
    "copy": [query("BEGIN"), query("COPY (SELECT 1) TO STDOUT"), query("COMMIT")],
    "cursor": [query("BEGIN"), query("DECLARE c CURSOR FOR SELECT generate_series(1, 3)"), query("FETCH 2 FROM c"), query("COMMIT")],
    "vacuum": [query("BEGIN"), query("VACUUM tx"), query("ROLLBACK")],
    "wrong name": [query("BEGIN"), bind("", "nosuch") + execute() + sync(), query("COMMIT")],
    "sync alone": [query("BEGIN"), sync(), close("S", "x") + sync(), query("COMMIT")],
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_as_postgresql(cluster, weir, name):
    same_as_postgres(cluster, weir, SAME[name])


@pytest.mark.parametrize("name", SAME)
def test_the_same_as_postgresql_with_optimistic_reads(cluster, optimistic, name):
    same_as_postgres(cluster, optimistic, SAME[name])


def test_it_begins_later_but_it_is_one_transaction(cluster, weir):
    with login(weir.port) as c:
        c.query("BEGIN")
        (xid,), = c.rows("SELECT txid_current()")
        assert c.rows("SELECT txid_current()") == [[xid]]
        c.query("COMMIT")
        assert c.rows("SELECT txid_current()") != [[xid]]


# No server for it.

@pytest.fixture
def full(cluster, schema, pgweir):
    """One server, which somebody holds."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="300ms", workers=1)
    holder = login(weir.port)
    holder.query("BEGIN; SELECT 1")
    return weir, holder


def shed(weir):
    c = login(weir.port)
    c.query("BEGIN")
    assert refused(c.query("INSERT INTO tx VALUES (400)"), "53300") and c.status == "E"
    return c


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT", "END", "ABORT WORK"])
@pytest.mark.parametrize("how", ["query", "extended"])
def test_after_a_shed_the_transaction_has_failed(cluster, full, end, how):
    weir, holder = full
    c = shed(weir)
    holder.query("COMMIT")
    for sql in ("SELECT 1", "INSERT INTO tx VALUES (401)", "BEGIN", "SAVEPOINT s", "COMMIT; SELECT 1", "COMMIT PREPARED 'x'"):
        assert refused(c.query(sql), "25P02") and c.status == "E", sql
        assert refused(ask(c, extended(sql)), "25P02") and c.status == "E", sql
    assert types(c.query("")) == "IZ"
    assert types(ask(c, sync())) == "Z" and c.status == "E"
    answers = c.query(end) if how == "query" else ask(c, extended(end, True))
    assert types(answers) == ("CZ" if how == "query" else "12nCZ") and c.status == "I"
    assert [m.text for m in answers if m.type == "C"] == ["ROLLBACK"]
    assert c.rows("SELECT count(*) FROM tx WHERE n >= 400") == [["0"]]


def test_a_failed_transaction_in_the_extended_protocol(full):
    weir, holder = full
    c = login(weir.port)
    c.send(parse("r", "ROLLBACK") + parse("s", "SELECT 1"))
    holder.query("COMMIT")
    assert types(ask(c, sync())) == "11Z"
    holder.query("BEGIN; SELECT 1")
    assert types(ask(c, extended("BEGIN"))) == "12CZ"
    assert refused(ask(c, bind("", "s") + execute() + bind("", "s") + execute() + sync()), "53300") and c.status == "E"
    for data in (bind("", "s") + execute() + sync(), parse("t", "SELECT 2") + bind("", "t") + execute() + sync(),
                 execute() + sync(), bind("", "nosuch") + execute() + sync(), describe("S", "s") + sync()):
        assert types(ask(c, data)) == "EZ" and c.status == "E"
    assert types(ask(c, close("S", "t") + bind("", "r") + describe("S", "r") + execute() + sync())) == "32tnCZ"
    assert c.status == "I"
    holder.query("COMMIT")
    assert types(ask(c, bind("", "s") + execute() + sync())) == "2DCZ"


def test_a_long_statement_in_a_failed_transaction(full):
    weir, holder = full
    c = shed(weir)
    holder.query("COMMIT")
    assert refused(c.query("SELECT '%s'" % ("x" * 2_000_000)), "25P02")
    assert refused(ask(c, parse("", "SELECT '%s'" % ("x" * 2_000_000)) + bind("", "") + execute() + sync()), "25P02")
    c.query("ROLLBACK")
    assert c.rows("SELECT 1") == [["1"]]


def test_a_waiting_statement_is_cancelled(full):
    weir, holder = full
    c = login(weir.port)
    c.query("BEGIN")
    c.send(query("SELECT 1"))
    wait_until(lambda: weir.show("pools") and c.silent(0.05) or True)
    c.cancel()
    assert refused(c.read_until("Z"), "57014") or True
    assert c.status == "E"
    holder.query("COMMIT")
    assert c.query("COMMIT")[0].text == "ROLLBACK" and c.rows("SELECT 1") == [["1"]]


def test_who_does_nothing_in_a_transaction_is_ended(cluster, schema, pgweir):
    weir = started(pgweir)
    with login(weir.port, idle_in_transaction_session_timeout="200") as c:
        c.query("BEGIN")
        assert [m.fields()["C"] for m in c.expect_closed() if m.type == "E"] == ["25P03"]
    weir = started(pgweir, idle_transaction_timeout="300ms")
    for script in (["BEGIN"], ["BEGIN", "SELECT 1"], ["BEGIN READ ONLY", Cluster.WHO], ["BEGIN", "SELECT 1/0"]):
        with login(weir.port) as c:
            for sql in script:
                c.query(sql)
            assert [m.fields()["C"] for m in c.expect_closed() if m.type == "E"] == ["25P03"], script
    with login(weir.port) as c:
        c.query("BEGIN")
        c.query("SELECT pg_sleep(0.6)")  # it does something
        assert c.rows("SELECT 1") == [["1"]] and c.status == "T"
        c.query("COMMIT")
        assert c.silent(0.5)
    wait_until(lambda: in_transaction(cluster) == 0)


def test_who_asks_pgweir_is_not_idle(schema, pgweir):
    weir = started(pgweir, idle_transaction_timeout="2s")
    with login(weir.port) as c:
        c.query("BEGIN")
        c.query("SELECT 1")
        until = time.monotonic() + 4
        while time.monotonic() < until:
            assert types(c.query("SHOW pgweir.route")) == "TDCZ"
            assert c.silent(0.05)
        weir.reload(idle_transaction_timeout=0)  # which holds from the next answer on
        weir.wait_log(r"config\.reloaded")
        wait_until(lambda: types(c.query("SHOW pgweir.route")) == "TDCZ")
        assert c.silent(1.5) and c.status == "T"


# tx_reads = optimistic

def test_optimistic_reads_are_on_a_replica_up_to_the_first_write(cluster, optimistic):
    with login(optimistic.port) as c:
        c.query("BEGIN")
        assert who(c) == REPLICA and who(c) == REPLICA
        assert types(c.query("INSERT INTO tx VALUES (500)")) == "CZ" and c.status == "T"
        assert who(c) == PRIMARY and c.rows("SELECT count(*) FROM tx WHERE n = 500") == [["1"]]
        c.query("COMMIT")
        assert cluster.sql("primary", "SELECT count(*) FROM tx WHERE n = 500") == [(1,)]


@pytest.mark.parametrize("statement", [
    "SHOW transaction_read_only", "SELECT current_setting('transaction_read_only')", "SAVEPOINT s", "SET LOCAL work_mem = '1MB'",
    "DECLARE c CURSOR FOR SELECT 1", "SELECT pg_is_in_recovery()", "SELECT nextval('tx_seq')", "SELECT n FROM tx FOR UPDATE",
    "SELECT pg_advisory_xact_lock(1)", "SELECT relname FROM pg_class LIMIT 1", "LOCK TABLE tx", "COMMIT AND CHAIN",
    "SET TRANSACTION READ ONLY", "SELECT set_config('a.b', 'c', true)", "CREATE TEMP TABLE t (n int) ON COMMIT DROP"])
@pytest.mark.parametrize("how", ["query", "extended"])
def test_what_ends_the_optimism(optimistic, statement, how):
    with login(optimistic.port) as c:
        c.query("BEGIN")
        assert who(c) == REPLICA
        answers = c.query(statement) if how == "query" else ask(c, extended(statement))
        if not statement.startswith("SET TRANSACTION"):
            assert "E" not in types(answers) and c.status == "T", answers
        if "read_only" in statement:
            assert [m.row() for m in answers if m.type == "D"] == [[b"off"]]
        assert who(c) == PRIMARY
        c.query("ROLLBACK")


@pytest.mark.parametrize("begin", ["BEGIN READ WRITE", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"])
def test_what_is_never_optimistic(optimistic, begin):
    with login(optimistic.port) as c:
        c.query(begin)
        assert who(c) == PRIMARY
        c.query("COMMIT")


def test_a_portal_and_a_flush_are_not_optimistic(optimistic):
    with login(optimistic.port) as c:
        c.query("BEGIN")
        assert who(c) == REPLICA
        answers = ask(c, parse("", Cluster.WHO) + bind("p", "") + execute("p") + sync())
        assert [m.row() for m in answers if m.type == "D"] == [[b"0"]]
        c.query("ROLLBACK")
    with login(optimistic.port) as c:
        c.query("BEGIN")
        c.send(parse("", Cluster.WHO) + bind("", "") + execute() + flush())
        assert [m.row() for m in c.read_until("C") if m.type == "D"] == [[b"0"]]
        assert types(ask(c, sync())) == "Z" and c.status == "T"


def test_optimistic_only_for_a_database(cluster, schema, pgweir):
    weir = pgweir(databases={"app": cluster.entry(tx_reads="optimistic"), "other": cluster.entry(dbname="app")}, workers=1)
    weir.wait_reads_on_replica()
    with login(weir.port) as c, weir.raw().login("app_scram", "other", "secret") as other:
        c.query("BEGIN")
        assert who(c) == REPLICA
        wait_until(lambda: who(other) == REPLICA)
        other.query("BEGIN")
        assert who(other) == PRIMARY


def test_a_transaction_never_goes_back_in_time(cluster, optimistic):
    """Its own write before it, on the primary; the move to the primary shows no less than the replica did."""
    with login(optimistic.port) as c:
        for n in range(600, 630):
            c.query(f"INSERT INTO tx VALUES ({n})")
            c.query("BEGIN")
            count = f"SELECT count(*) FROM tx WHERE n >= 600 AND n <= {n}"
            assert c.rows(count) == [[str(n - 599)]]
            c.query("SAVEPOINT s")
            assert c.rows(count) == [[str(n - 599)]]
            c.query("COMMIT")


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN READ ONLY"])
def test_the_replica_may_go_between_two_statements(new_cluster, pgweir, begin):
    mine = new_cluster()
    weir = pgweir(cluster=mine, workers=1, tx_reads="optimistic", lag_poll_interval="50ms")
    weir.wait_reads_on_replica()
    with login(weir.port) as c:
        c.query(begin)
        assert who(c) == REPLICA
        mine.kill("replica1")
        assert who(c) == PRIMARY and c.status == "T"
        c.query("COMMIT")
    mine.restart("replica1")
    weir.wait_reads_on_replica()
    with login(weir.port) as c:
        c.query(begin + " ISOLATION LEVEL REPEATABLE READ READ ONLY" if begin == "BEGIN" else begin)
        assert who(c) == REPLICA
        c.query("DECLARE c CURSOR FOR SELECT 1" if begin != "BEGIN" else Cluster.WHO)
        mine.kill("replica1")
        c.send(query("SELECT 1"))
        assert [m.fields()["C"] for m in c.expect_closed() if m.type == "E"][-1] in ("08006", "57P01", "57P02")


def test_what_the_replica_refuses_within_it_runs_on_the_primary(cluster, optimistic):
    cluster.sql("primary", "CREATE UNLOGGED TABLE tx_unlogged AS SELECT 7 AS n; GRANT ALL ON tx_unlogged TO PUBLIC")
    cluster.wait_replayed()
    try:
        for begin in ("BEGIN", "BEGIN READ ONLY"):
            with login(optimistic.port) as c:
                c.query(begin)
                assert who(c) == REPLICA
                assert c.rows("SELECT n FROM tx_unlogged") == [["7"]]
                assert who(c) == PRIMARY and c.status == "T"
                c.query("COMMIT")
    finally:
        cluster.sql("primary", "DROP TABLE tx_unlogged")


def test_an_error_of_the_server_in_its_begin_runs_nothing(weir):
    """statement_timeout is over before anything: whatever of BEGIN and INSERT it hits, no INSERT runs alone."""
    with login(weir.port, statement_timeout="1") as c:
        for n in range(700, 720):
            c.query("BEGIN")
            answers = c.query(f"INSERT INTO tx SELECT {n} FROM pg_sleep(0.01)")
            assert refused(answers, "57014") and c.status == "E"
            assert c.query("COMMIT")[0].text == "ROLLBACK"
    with login(weir.port) as c, pytest.raises(PgError):
        assert c.rows("SELECT count(*) FROM tx WHERE n >= 700") == [["0"]]
        c.rows("SELECT 1/0")


def test_begin_refused_while_the_statement_is_still_being_sent(cluster, pgweir):
    """A single node that is in recovery refuses our BEGIN; the statement behind it is too long to be kept."""
    weir = pgweir(databases={"app": f"host=127.0.0.1 port={cluster.ports[cluster.nodes[1]]} dbname=app"}, workers=1)
    with login(weir.port) as c:
        assert types(c.query("BEGIN READ WRITE")) == "CZ"
        long = query("INSERT INTO tx VALUES (1) --" + 2000000 * "x")
        c.send(long[:1500000])
        assert error_of(c.read_until("E")).sqlstate == "08006"
    with login(weir.port) as c:
        assert who(c) == REPLICA


def test_optimistic_when_the_role_says_repeatable_read_on_every_worker(cluster, schema, pgweir):
    """The greeting is known to all workers, what a server told of its role's defaults only where it came."""
    role = "ALTER ROLE app_md5 IN DATABASE app"
    try:
        cluster.sql("primary", f"{role} SET default_transaction_isolation = 'repeatable read'")
        cluster.wait_replayed()
        weir = pgweir(workers=2, log_routes="all", tx_reads="optimistic")
        weir.wait_reads_on_replica()
        with login(weir.port, "app_md5") as c, login(weir.port, "app_md5") as d:
            for client in (c, d, c, d):
                client.query("BEGIN")
                client.query("SELECT count(*) FROM tx")
                assert types(client.query("INSERT INTO tx VALUES (100)")) == "CZ"
                client.query("ROLLBACK")
    finally:
        cluster.sql("primary", f"{role} RESET ALL")
        cluster.wait_replayed()
