"""Clients that leave, each way and in each state: what they left ends, and their server stays."""
import contextlib
import os
import random
import signal
import socket
import time

import pytest
from conftest import wait_until
from protocol import login
from rawpg import bind, copy_data, cstr, execute, flush, message, parse, query, startup, sync

MARK = "of one who leaves"  # in each query that runs while its client leaves
SLEEP = f"SELECT pg_sleep(60), '{MARK}'"
ROWS = f"SELECT repeat('x', 1000), generate_series(1, 100000000) /* {MARK} */"
# So few that a cancel which comes late finds less than DRAIN_BYTES_MAX.
FEW_ROWS = f"SELECT repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, 100000000) /* {MARK} */"
TABLE = "CREATE TABLE IF NOT EXISTS leaving (n int)"


# What a client has done when it leaves

def idle_in_transaction(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1)")


def idle_with_a_setting(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1); SET work_mem = '11MB'")


def failed_transaction(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1)")
    c.query("SELECT 1/0")


def failed_with_a_setting(c):
    c.query("BEGIN; SET work_mem = '11MB'; INSERT INTO leaving VALUES (1)")
    c.query("SELECT 1/0")


def active_query(c):
    c.send(query(SLEEP))


def active_in_transaction(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1)")
    c.send(query(SLEEP))


def active_write(c):
    c.send(query(f"INSERT INTO leaving SELECT 1 FROM ({SLEEP}) x"))


def active_extended(c):
    c.send(parse("named", SLEEP) + bind("", "named") + execute() + sync())


def pipeline(c):
    c.send((parse("", "INSERT INTO leaving VALUES (1)") + bind("", "") + execute()) +
           parse("", SLEEP) + bind("", "") + execute() + sync() + query("SELECT 1"))


def open_segment(c):
    """The INSERT is answered, its Sync has not come: PostgreSQL would not commit it."""
    c.send(parse("", "INSERT INTO leaving VALUES (1)") + bind("", "") + execute() + flush())
    c.read_until("C")


def open_segment_runs(c):
    c.send(parse("", "INSERT INTO leaving VALUES (1)") + bind("", "") + execute() +
           parse("", SLEEP) + bind("", "") + execute() + flush())


def failed_segment(c):
    c.send(parse("", "INSERT INTO leaving VALUES (1)") + bind("", "") + execute() + parse("", "SELEC") + flush())
    c.read_until("E")


def portal_suspended(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1)")
    c.send(parse("", "SELECT generate_series(1, 10)") + bind("p", "") + execute("p", 2) + flush())
    c.read_until("s")


def portal_after_sync(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1)")
    c.send(parse("", "SELECT generate_series(1, 10)") + bind("p", "") + execute("p", 2) + sync())
    c.read_until("Z")


def copy_in(c):
    c.send(query("COPY leaving FROM STDIN"))
    c.read_until("G")
    c.send(copy_data(b"1\n2\n"))


def copy_in_asked(c):
    c.send(query("COPY leaving FROM STDIN"))


def copy_in_extended(c):
    c.send(parse("", "COPY leaving FROM STDIN") + bind("", "") + execute() + sync())
    c.read_until("G")
    c.send(copy_data(b"1\n2\n"))


def copy_in_half_a_message(c):
    c.send(query("COPY leaving FROM STDIN"))
    c.read_until("G")
    c.send(copy_data(b"1\n2\n") + copy_data(b"3\n" * 40000)[:60000])


def copy_out(c):
    c.send(query(f"COPY ({ROWS}) TO STDOUT"))
    c.read_until("d")


def mid_result(c):
    c.send(query(ROWS))
    c.read_until("D")


def mid_result_in_transaction(c):
    c.query("BEGIN; INSERT INTO leaving VALUES (1)")
    c.send(query(ROWS))
    c.read_until("D")


def mid_result_extended(c):
    c.send(parse("", ROWS) + bind("", "") + execute() + sync())
    c.read_until("D")


ROLLED_BACK, DRAINED = "rolled_back", "drained"
STATES = {
    idle_in_transaction: ROLLED_BACK, idle_with_a_setting: ROLLED_BACK, failed_transaction: ROLLED_BACK,
    failed_with_a_setting: ROLLED_BACK, portal_after_sync: ROLLED_BACK,
    active_query: DRAINED, active_in_transaction: DRAINED, active_write: DRAINED, active_extended: DRAINED,
    pipeline: DRAINED, open_segment: DRAINED, open_segment_runs: DRAINED, failed_segment: DRAINED,
    portal_suspended: DRAINED, copy_in: DRAINED, copy_in_asked: DRAINED, copy_in_extended: DRAINED,
    copy_in_half_a_message: DRAINED, copy_out: DRAINED, mid_result: DRAINED, mid_result_in_transaction: DRAINED,
    mid_result_extended: DRAINED,
}
RUNNING = {active_query, active_in_transaction, active_write, active_extended, pipeline, open_segment_runs}


# Ways to leave

def close(c):
    c.close()


def reset(c):
    c.reset()


def says_so(c):
    c.terminate()


def half_close(c):
    """Its answer may still come: then it reads that, and leaves."""
    c.sock.shutdown(socket.SHUT_WR)


WAYS = [close, reset, says_so, half_close]


def leavers(weir):
    return {r["server"]: r["total"] for r in weir.show("LEAVERS")}


@contextlib.contextmanager
def stopped(pid):
    """A backend that does not answer meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module", autouse=True)
def table(session_cluster):
    session_cluster.sql("primary", TABLE)
    session_cluster.sql("primary", "GRANT ALL ON leaving TO PUBLIC")


@pytest.fixture(scope="module", name="weir")
def one_server(session_cluster, shared_pgweir):
    return shared_pgweir(databases={"app": session_cluster.entry(["primary"])}, default_pool_size=1, workers=1)


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("state", STATES, ids=lambda f: f.__name__)
def test_what_was_left_ends_and_the_server_stays(cluster, weir, state, way):
    with login(weir.port) as other:
        pid = other.rows("SELECT pg_backend_pid()")
        before, since = leavers(weir), len(weir.log())
        c = login(weir.port)
        state(c)
        if state in RUNNING:
            cluster.wait_active(MARK)
        way(c)
        if way is half_close and state in RUNNING - {open_segment_runs}:
            assert c.silent(0.3) or b"S" in c.inbox[:1]  # it is owed the answer
            c.close()
        elif way is half_close:
            c.close() if state in (copy_out, mid_result, mid_result_in_transaction, mid_result_extended) else c.expect_closed(5)
        assert other.rows("SELECT pg_backend_pid()") == pid
        wait_until(lambda: cluster.active(MARK) == 0, 5)
        assert other.rows("SELECT count(*) FROM leaving") == [["0"]]
        assert other.rows("SHOW work_mem") == [["4MB"]]
        after = leavers(weir)
        assert {k: after[k] - before[k] for k in after if after[k] != before[k]} == {STATES[state]: 1}, weir.log()[since:]
        assert "unexpected" not in weir.log()[since:]


def test_past_the_limits_the_server_is_closed(cluster, pgweir):
    """One that does not answer, a row that is too long to be thrown away, half a message."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, abandon_timeout="300ms")
    other = login(weir.port)
    for n, what in enumerate(("no answer", "too long", "half", "at once")):
        if what == "too long":
            weir.reload(abandon_timeout="60s")
        elif what == "at once":
            weir.reload(abandon_timeout="0")
        if "to" in what or "once" in what:
            wait_until(lambda: {r["key"]: r["value"] for r in weir.show("CONFIG")}["abandon_timeout"] == str(weir.options["abandon_timeout"]).rstrip("s"))
        ((pid,),) = other.rows("SELECT pg_backend_pid()")
        c = login(weir.port)
        c.send({"no answer": query(SLEEP), "at once": query(SLEEP), "too long": query("SELECT repeat('x', 200000000)"),
                "half": query("SELECT 1") + query("x" * 2000000)[:-1000]}[what])
        if what == "too long":
            c.read_bytes(100000)
        elif what == "half":
            c.read_until("Z")
            wait_until(lambda: sum(int(p["sv_active"]) for p in weir.show("POOLS")) == 1)
        else:
            cluster.wait_active(MARK)
        with stopped(int(pid)) if what == "no answer" else contextlib.nullcontext():
            c.reset()
            wait_until(lambda: leavers(weir)["closed"] == n + 1)
        assert other.rows("SELECT pg_backend_pid()") != [[pid]]
        wait_until(lambda: cluster.active(MARK) == 0, 5)
    assert leavers(weir) == {"rolled_back": 0, "drained": 0, "closed": 4}


# While its statement waits in pgweir

INSERT = query("INSERT INTO leaving VALUES (1)")


def rows_of(weir):
    with login(weir.port) as c:
        return c.rows("SELECT count(*) FROM leaving")[0][0]


def waits(weir):
    return sum(int(p["cl_waiting"]) for p in weir.show("POOLS"))


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_in_the_queue(weir, way):
    """One who is gone is not served; one who only sends no more gets his answer, as PostgreSQL gives it."""
    holder, c = login(weir.port), login(weir.port)
    pid = holder.rows("SELECT pg_backend_pid()")
    holder.query("BEGIN; SELECT 1")
    c.send(INSERT)
    wait_until(lambda: waits(weir) == 1)
    way(c)
    if way is half_close:
        wait_until(lambda: not c.silent(0.01) and c.inbox[:1] == b"S")  # it is looked for
        assert waits(weir) == 1
        holder.query("COMMIT")
        assert [m.text for m in c.read_until("Z") if m.type == "C"] == ["INSERT 0 1"]
        assert c.expect_closed() == []
    else:
        wait_until(lambda: waits(weir) == 0)
        holder.query("COMMIT")
    assert rows_of(weir) == ("1" if way is half_close else "0")
    assert holder.rows("DELETE FROM leaving") == []
    assert holder.rows("SELECT pg_backend_pid()") == pid


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_while_the_server_gets_its_settings(weir, way):
    holder = login(weir.port)
    c = login(weir.port, application_name="another one")
    ((pid,),) = holder.rows("SELECT pg_backend_pid()")
    before = leavers(weir)
    with stopped(int(pid)):
        c.send(INSERT)
        wait_until(lambda: sum(int(p["sv_active"]) for p in weir.show("POOLS")) == 1)
        way(c)
        if way is not half_close:
            wait_until(lambda: sum(int(p["sv_active"]) for p in weir.show("POOLS")) == 0)
    if way is half_close:
        assert [m.text for m in c.read_until("Z") if m.type == "C"] == ["INSERT 0 1"]
    assert holder.rows("SELECT count(*), pg_backend_pid() FROM leaving") == [["1" if way is half_close else "0", pid]]
    assert holder.rows("SHOW application_name") == [[""]]
    assert leavers(weir)["drained"] - before["drained"] == (way is not half_close)
    holder.query("DELETE FROM leaving")


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_during_the_login(cluster, pgweir, way):
    """Its greeting needs a server with its settings: that is asked, and does not answer."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1, auth_type="plain")
    holder, c = login(weir.port), weir.raw()
    ((pid,),) = holder.rows("SELECT pg_backend_pid()")
    with stopped(int(pid)):
        c.send(startup("app_scram", "app", application_name="a new one"))
        c.read()
        c.send(message("p", cstr("secret")))
        wait_until(lambda: sum(int(p["sv_active"]) for p in weir.show("POOLS")) == 1)
        way(c)
        wait_until(lambda: sum(int(p["sv_active"]) for p in weir.show("POOLS")) == 0)
    assert holder.rows("SELECT pg_backend_pid()") == [[pid]]


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_while_a_read_waits_for_a_replica(cluster, pgweir, way):
    weir = pgweir(default_pool_size=1, workers=1, floor_wait="10s", primary_hold="0", max_lag=0)
    weir.wait_reads_on_replica()
    c = login(weir.port)
    cluster.pause("replica1")
    if "replica2" in cluster.nodes:
        cluster.pause("replica2")
    c.query("INSERT INTO leaving VALUES (1)")
    c.send(query("SELECT count(*) FROM leaving"))
    assert c.silent(0.2)
    way(c)
    if way is not half_close:
        weir.wait_log("client.logout.*reason=(client_left|connection_error)")
    cluster.settle()
    if way is half_close:
        answers = [m for m in c.read_until("Z", 15) if m.type != "S"]
        assert [m.type for m in answers] == ["T", "D", "C", "Z"]
        assert c.expect_closed() == []
    cluster.sql("primary", "DELETE FROM leaving")


# All that was asked is answered before that

PBE = parse("", "SELECT 1") + bind("", "") + execute()
ASKED = {
    "nothing": b"",
    "queries": query("SELECT 1") + query("SELECT pg_sleep(0.05), 2") + query("SELECT 1/0") + query("SELECT 3"),
    "pipeline": (PBE + sync()) * 5 + parse("", "SELEC") + PBE + sync() + PBE + sync(),
    "slow": parse("", "SELECT pg_sleep(0.3)") + bind("", "") + execute() + sync(),
    "transaction": query("BEGIN") + query("INSERT INTO leaving VALUES (1)") + query("SELECT count(*) FROM leaving"),
    "committed": query("BEGIN; DELETE FROM leaving") + PBE + sync() + query("COMMIT"),
    "settings": query("SET work_mem = '5MB'") + query("SHOW work_mem") + query("DISCARD ALL") + query("SHOW work_mem"),
    "copy in": query("COPY leaving FROM STDIN") + copy_data(b"1\n") * 3 + message("c") + query("DELETE FROM leaving"),
    "copy in, extended": parse("", "COPY leaving FROM STDIN") + bind("", "") + execute() + sync() + copy_data(b"1\n") +
                         message("c") + sync() + query("DELETE FROM leaving"),
    "copy out": query("COPY (SELECT generate_series(1, 50000)) TO STDOUT") + query("SELECT 1"),
    "large": query("SELECT repeat('x', 100), generate_series(1, 50000)") + query("SELECT 1"),
    "half a message": query("SELECT 1") + query("SELECT 2")[:-4],
}


@pytest.mark.parametrize("end", [lambda c: c.sock.shutdown(socket.SHUT_WR), lambda c: c.send(message("X"))],
                         ids=["half_close", "terminate"])
@pytest.mark.parametrize("name", ASKED)
def test_who_stops_is_told_what_postgres_tells(cluster, weir, name, end):
    told = []
    for port in (cluster.ports["primary"], weir.port):
        with login(port) as c:
            c.send(ASKED[name])
            if name != "half a message":
                end(c)
            else:
                c.sock.shutdown(socket.SHUT_WR)
            told.append([(m.type, m.body if m.type != "E" else m.fields()["C"]) for m in c.expect_closed(10) if m.type != "S"])
    assert told[1] == told[0]
    assert rows_of(weir) == "0"


# At any moment

def pids(weir, n):
    clients = [login(weir.port) for _ in range(n)]
    for c in clients:
        c.query("BEGIN")
    found = sorted(c.rows("SELECT pg_backend_pid()")[0][0] for c in clients)
    for c in clients:
        c.terminate()
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_at_any_byte_and_any_moment(cluster, pgweir, workers):
    """Their servers serve others at once, whose answers are their own, and none is lost."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=3, workers=workers, queue_timeout="30s",
                  log_level="debug")
    r = random.Random(workers)
    before = pids(weir, 3)
    begun = [b"", query("BEGIN"), query("BEGIN; INSERT INTO leaving VALUES (1)"), query("BEGIN; SELECT 1/0")]
    left = [ASKED[x] for x in ASKED if x not in ("nothing", "half a message")]
    left += [query(SLEEP), parse("s", SLEEP) + bind("p", "s") + execute("p", 1) + flush(), query(FEW_ROWS)]
    other, count = login(weir.port), 250
    for n in range(count):
        c = login(weir.port, **r.choice([{}, {"application_name": "one"}, {"work_mem": "5MB"}]))
        data = r.choice(begun) + r.choice(left).replace(query("COMMIT"), b"") + r.choice([b"", r.choice(left)])
        whole = r.random() < .5
        c.send(data if whole else data[:r.randrange(len(data)) + 1])
        if r.random() < .7:
            time.sleep(r.choice([0, 0.001, 0.003, 0.01]))
        r.choice([close, reset] + [says_so] * whole)(c)
        if r.random() < .3:
            other.send(parse("", "SELECT $1::text, current_setting('work_mem')") + bind("", "", [f"mine {n}"]) + execute() + sync())
            assert [m.row() for m in other.read_until("Z", 30) if m.type == "D"] == [[f"mine {n}".encode(), b"4MB"]]
    assert pids(weir, 3) == before, [x for x in weir.log().splitlines() if "server." in x]
    after = leavers(weir)
    assert after["closed"] == 0 and after["drained"] > count // 10 and after["rolled_back"] > 0, after
    wait_until(lambda: cluster.active(MARK) == 0)
    assert "unexpected" not in weir.log()
    cluster.sql("primary", "DELETE FROM leaving")
