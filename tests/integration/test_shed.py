"""No server in time: what the client is told, why, and that it goes on. The queues, their limits and their discipline."""
import re
import selectors
import time

import psycopg2.extensions
import pytest
from conftest import free_port, wait_until
from protocol import error_of, login, types
from rawpg import PgError, bind, execute, parse, query, startup, sync

PBE = parse("", "SELECT 1") + bind("", "") + execute()



def one_server(cluster, pgweir, entry=None, **options):
    """A pgweir with one server, which the first client holds. Its login waited for that server as long as it took."""
    entry, timeout = entry or {}, options.pop("queue_timeout")
    weir = pgweir(databases={"app": cluster.entry(["primary"], **entry)}, default_pool_size=1, workers=1, queue_timeout="60s", **options)
    holder = login(weir.port)
    holder.query("BEGIN; SELECT 1")
    changed(weir, queue_timeout=timeout)
    return weir, holder


def changed(weir, **options):
    """These options hold now, for all workers."""
    before = weir.show("CONFIG")
    weir.reload(**options)
    wait_until(lambda: weir.show("CONFIG") != before)


def queues(weir, role="primary", database="app"):
    rows = [r for r in weir.show("QUEUES") if (r["database"], r["role"]) == (database, role)]
    return {k: sum(int(r[k]) for r in rows) for k in rows[0] if k not in ("database", "user", "role", "stands")}


def waiting(weir):
    return sum(int(p["cl_waiting"]) for p in weir.show("POOLS"))


def shed(client, data=None):
    """What is refused, and how long that took."""
    start = time.monotonic()
    client.send(data or query("SELECT 1"))
    answers = client.read_until("Z", 20)
    assert types(answers)[-2:] == "EZ"
    return error_of(answers), time.monotonic() - start


# What is said

def test_the_detail_says_why_in_numbers(cluster, pgweir):
    weir, holder = one_server(cluster, pgweir, queue_timeout="300ms")
    e, _ = shed(login(weir.port))
    assert (e.sqlstate, e.fields["S"]) == ("53300", "ERROR")
    assert e.fields["D"].startswith("PGWEIR-QUEUE-TIMEOUT pool=app/app_scram role=primary limit=1 busy=1 waiting=0 ")
    assert "retry with backoff" in e.fields["H"]
    assert queues(weir)["queue_timeout"] == 1 and queues(weir)["waiting"] == 0


def test_a_transaction_that_we_began_has_failed(cluster, pgweir):
    weir, holder = one_server(cluster, pgweir, queue_timeout="200ms")
    c = login(weir.port)
    assert types(c.query("BEGIN")) == "CZ" and c.status == "T"
    e, _ = shed(c)
    assert e.sqlstate == "53300" and c.status == "E"
    holder.query("COMMIT")
    c.send(PBE + sync())
    assert error_of(c.read_until("Z")).sqlstate == "25P02" and c.status == "E"
    answers = c.query("COMMIT")
    assert answers[0].text == "ROLLBACK" and c.status == "I"
    assert c.rows("SELECT 1") == [["1"]]


def test_a_pipeline_is_refused_in_order_with_one_wait(cluster, pgweir):
    """What was sent behind it has waited as long; what comes later has a deadline of its own."""
    weir, holder = one_server(cluster, pgweir, queue_timeout="1s")
    c = login(weir.port)
    start = time.monotonic()
    c.send((PBE + sync()) * 5 + query("SELECT 1") * 5)
    for _ in range(10):
        assert types(c.read_until("Z", 10)) == "EZ"
    assert 0.85 < time.monotonic() - start < 4  # 10 s if each of them waited
    c.send(query("SELECT 2"))
    assert c.silent(0.3)
    holder.query("COMMIT")
    assert c.read_until("Z")[1].row() == [b"2"]


def test_what_comes_behind_a_begin_that_waits_is_of_its_transaction(cluster, pgweir):
    """Also what comes later: else it would run alone when the BEGIN has been refused."""
    cluster.sql("primary", "DROP TABLE IF EXISTS later; CREATE TABLE later (n int); GRANT ALL ON later TO PUBLIC")
    weir, holder = one_server(cluster, pgweir, queue_timeout="1s")
    c = login(weir.port)
    insert = query("INSERT INTO later VALUES (1)")
    c.send(query("BEGIN") + insert[:3])  # with more behind it, it is not answered here
    wait_until(lambda: waiting(weir) == 1)
    c.send(insert[3:] + query("COMMIT") + query("SELECT 1"))
    assert error_of(c.read_until("Z", 10)).sqlstate == "53300" and c.status == "E"
    assert error_of(c.read_until("Z")).sqlstate == "25P02"
    assert c.read_until("Z")[0].text == "ROLLBACK" and c.status == "I"
    holder.query("COMMIT")
    c.read_until("Z")
    assert cluster.sql("primary", "SELECT count(*) FROM later") == [(0,)]


@pytest.mark.parametrize("severity,sqlstate", [("fatal", "53300"), ("pgbouncer", "08P01")])
def test_shed_severity(cluster, pgweir, severity, sqlstate):
    weir, holder = one_server(cluster, pgweir, entry={"shed_severity": severity}, queue_timeout="200ms")
    c = login(weir.port)
    c.send(query("SELECT 1"))
    answers = c.read_until("E")
    e = error_of(answers)
    assert (e.sqlstate, e.fields["S"]) == (sqlstate, "FATAL")
    assert (e.fields["M"] == "query_wait_timeout") == (severity == "pgbouncer")
    c.expect_closed()


def test_of_a_failed_login_its_text_is_told(cluster, pgweir, new_cluster):
    """max_connections of PostgreSQL: who waits goes on waiting, and may be served; who does not get one hears why."""
    small = new_cluster("--replicas", 0, "--max-connections", 12)
    weir = pgweir(databases={"app": small.entry(["primary"])}, workers=1, queue_timeout="1s", probe_user="app", server_login_retry="200ms",
                  auth_type="trust", admin_users="app")
    taken = []
    with pytest.raises(psycopg2.OperationalError):
        while True:
            taken.append(small.connect(user="app"))
    with weir.raw() as c:
        with pytest.raises(PgError) as e:
            c.login("app", "app")
    assert e.value.sqlstate == "53300" and "failed: 53300 " in e.value.fields["D"]
    assert "PGWEIR-QUEUE-TIMEOUT" in e.value.fields["D"]
    with weir.raw(deadline_s=20) as c:
        weir.reload(queue_timeout="20s")
        wait_until(lambda: any(r["value"] == "20s" or r["value"] == "20" for r in weir.show("CONFIG", user="app", password=None)
                               if r["key"] == "queue_timeout"))
        taken.pop().close()
        taken.pop().close()
        c.login("app", "app")
        assert c.rows("SELECT 1") == [["1"]]
    for db in taken:
        db.close()


def test_a_login_that_no_second_try_mends_ends_the_wait_at_once(cluster, pgweir):
    """In PostgreSQL's own words."""
    weir = pgweir(databases={"app": cluster.entry(["primary"], dbname="nosuch")}, queue_timeout="60s", probe_dbname="postgres")
    start = time.monotonic()
    with weir.raw(deadline_s=20) as c, pytest.raises(PgError) as e:
        c.login("app_scram", "app", "secret")
    assert time.monotonic() - start < 20
    assert (e.value.sqlstate, e.value.fields["M"]) == ("3D000", 'database "nosuch" does not exist')


def test_a_node_that_refuses_is_left_alone_longer_and_longer(pgweir):
    """100, 200, 400 ... ms up to server_login_retry: about 6 tries in 3 s, not one for each client that waits."""
    weir = pgweir(databases={"app": f"host=127.0.0.1 port={free_port()} dbname=app"}, workers=1, auth_type="trust",
                  queue_timeout="3s", server_login_retry="1s")
    clients = [weir.raw(deadline_s=30) for _ in range(10)]
    for c in clients:
        c.send(startup("app", "app"))
    for c in clients:
        assert error_of(c.read_until("E")).sqlstate == "57P03"
    weir.stop()
    (dials,) = re.findall(r"\bdials=(\d+)", weir.wait_log("worker.stopped"))
    assert 3 <= int(dials) <= 20


@pytest.mark.parametrize("full", [False, True])
def test_a_transaction_that_has_to_move_and_finds_no_server_has_failed(cluster, pgweir, full):
    """It has read on a replica; what it wants to write waits for the primary, and is refused."""
    weir = pgweir(default_pool_size=1, workers=1, queue_timeout="30s", queue_max=1, tx_reads="optimistic")
    weir.wait_reads_on_replica()
    holder, first, c = (login(weir.port) for _ in range(3))
    holder.query("BEGIN; SELECT pg_current_xact_id()")
    if full:
        first.send(query("SELECT pg_current_xact_id()"))
        wait_until(lambda: waiting(weir) == 1)
    else:
        changed(weir, queue_timeout="300ms")
    c.query("BEGIN")
    assert cluster.node_of(c.rows(cluster.WHO)[0][0]) == "replica1" and c.status == "T"
    e, _ = shed(c, query("SELECT pg_current_xact_id()"))
    assert e.sqlstate == "53300" and ("QUEUE-FULL" in e.fields["D"]) == full and c.status == "E"
    assert error_of(c.query("SELECT 1")).sqlstate == "25P02"
    assert c.query("ROLLBACK")[0].text == "ROLLBACK" and c.status == "I"
    holder.query("COMMIT")
    assert types(c.query("SELECT pg_current_xact_id()")) == "TDCZ"


# Deadlines

def test_a_deadline_of_reads_and_one_of_writes(cluster, pgweir):
    """Each from the narrowest scope that says anything."""
    weir = pgweir(default_pool_size=1, workers=1, queue_timeout="20s")
    weir.wait_reads_on_replica()
    changed(weir, write_queue_timeout="200ms")
    holder = login(weir.port)
    holder.query("BEGIN; SELECT pg_current_xact_id()")
    c = login(weir.port)
    e, took = shed(c, query("CREATE TABLE never (n int)"))
    assert "role=primary" in e.fields["D"] and 0.17 < took < 5
    assert c.rows("SELECT 1") == [["1"]]  # on the replica, where nobody waits
    reader = login(weir.port)
    reader.query("BEGIN READ ONLY")
    reader.query("SELECT 1")
    d = login(weir.port)
    d.send(query("SELECT 2"))
    assert d.silent(0.5)
    reader.query("COMMIT")
    assert d.read_until("Z")[1].row() == [b"2"]
    assert queues(weir)["queue_timeout"] == 1 and queues(weir, "read")["queue_timeout"] == 0


@pytest.mark.parametrize("how", ["SET pgweir.queue_timeout = '200ms'", "SET pgweir.write_queue_timeout TO 200",
                                 "SET pgweir.queue_timeout = 0; SET pgweir.write_queue_timeout = 200"])
def test_the_client_sets_its_own_deadline(cluster, pgweir, how):
    weir, holder = one_server(cluster, pgweir, queue_timeout="20s")
    c = login(weir.port)
    for statement in how.split("; "):
        assert types(c.query(statement)) == "CZ"
    e, took = shed(c)
    assert 0.17 < took < 5
    assert c.rows("SHOW pgweir.write_queue_timeout") == [["200ms"]]
    assert types(c.query("RESET pgweir.write_queue_timeout")) == "CZ"
    assert types(c.query("RESET pgweir.queue_timeout")) == "CZ"
    assert c.rows("SHOW pgweir.queue_timeout") == [["20s"]]
    c.send(query("SELECT 1"))
    assert c.silent(0.6)
    holder.query("COMMIT")
    assert types(c.read_until("Z")) == "TDCZ"


def test_a_deadline_of_a_transaction_ends_with_it(cluster, pgweir):
    weir = pgweir(queue_timeout="7s")
    c = login(weir.port)
    c.query("BEGIN")
    assert types(c.query("SET LOCAL pgweir.queue_timeout = '1min'")) == "CZ"
    assert c.rows("SHOW pgweir.queue_timeout") == [["1min"]]
    c.query("ROLLBACK")
    assert c.rows("SHOW pgweir.queue_timeout") == [["7s"]]
    c.query("BEGIN")
    c.query("SET pgweir.read_queue_timeout = '3s'")
    c.query("ROLLBACK")
    assert c.rows("SHOW pgweir.read_queue_timeout") == [["7s"]]
    for bad in ("'5 parsecs'", "-1", "''", "3000000000"):
        assert error_of(c.query(f"SET pgweir.queue_timeout = {bad}")).sqlstate == "22023"
    with weir.raw() as d:
        d.login("app_scram", "app", "secret", options="-c pgweir.queue_timeout=12s")
        assert d.rows("SHOW pgweir.queue_timeout") == [["12s"]]


def test_deadlines_of_those_who_came_together_are_spread(cluster, pgweir):
    """No later than the limit, up to a tenth earlier, and not all at once."""
    weir, holder = one_server(cluster, pgweir, queue_timeout="2s")
    clients = [login(weir.port) for _ in range(40)]
    poll = selectors.DefaultSelector()
    start, took = time.monotonic(), []
    for c in clients:
        c.send(query("SELECT 1"))
        poll.register(c.sock, selectors.EVENT_READ, c)
    while poll.get_map():
        for key, _ in poll.select(10):
            took.append(time.monotonic() - start)
            assert types(key.data.read_until("Z")) == "EZ"
            poll.unregister(key.data.sock)
    assert min(took) > 1.79 and max(took) < 10
    waits = [int(error_of_wait) for error_of_wait in (round(t * 1000) for t in took)]
    assert max(waits) - min(waits) > 80  # 200 ms at most, of 40 drawn


# queue_max

@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_queue_refuses_at_once(cluster, pgweir, workers):
    """Exact over the workers; reads and writes have queues of their own; who leaves makes room."""
    weir = pgweir(default_pool_size=1, workers=workers, queue_timeout="30s", queue_max=3)
    weir.wait_reads_on_replica()
    holder = login(weir.port)
    holder.query("BEGIN; SELECT pg_current_xact_id()")
    inside = [login(weir.port) for _ in range(3)]
    for n, c in enumerate(inside):
        c.send(query("SELECT pg_current_xact_id()"))
        wait_until(lambda: waiting(weir) == n + 1)
    for _ in range(4):
        c = login(weir.port)
        e, took = shed(c, query("SELECT pg_current_xact_id()"))
        assert took < 10 and e.fields["D"].startswith("PGWEIR-QUEUE-FULL") and "waiting=3" in e.fields["D"]
        assert c.rows("SELECT 1") == [["1"]]
    inside.pop().close()
    wait_until(lambda: waiting(weir) == 2)
    c.send(query("SELECT pg_current_xact_id()"))
    wait_until(lambda: waiting(weir) == 3)
    assert queues(weir)["queue_full"] == 4 and queues(weir)["abandoned"] == 1
    holder.query("COMMIT")
    for one in [*inside, c]:
        assert types(one.read_until("Z")) == "TDCZ"


@pytest.mark.parametrize("first", ["SELECT 1", "BEGIN"])
def test_what_is_behind_the_refused_one_is_refused_with_it(cluster, pgweir, first):
    """Though there is a server for it: the rest of a transaction would run without its BEGIN."""
    cluster.sql("primary", "DROP TABLE IF EXISTS behind; CREATE TABLE behind (n int); GRANT ALL ON behind TO PUBLIC")
    cluster.wait_replayed()
    weir = pgweir(default_pool_size=1, queue_timeout="30s", queue_max=1, tx_reads="optimistic", consistency="eventual")
    weir.wait_reads_on_replica()
    holder, inside, c = [login(weir.port) for _ in range(3)]
    holder.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: cluster.sql("replica1", "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"))
    inside.send(query("SELECT 1"))
    wait_until(lambda: waiting(weir) == 1)
    assert types(c.query("INSERT INTO behind VALUES (0)")) == "CZ"  # the primary has room
    c.send(query(first) + query("INSERT INTO behind VALUES (1)") + PBE + sync() + query("COMMIT"))
    assert error_of(c.read_until("Z")).fields["D"].startswith("PGWEIR-QUEUE-FULL")
    for _ in range(2):
        assert error_of(c.read_until("Z")).sqlstate == ("25P02" if first == "BEGIN" else "53300")
    end = c.read_until("Z")
    assert end[0].text == "ROLLBACK" if first == "BEGIN" else error_of(end).sqlstate == "53300"
    assert c.status == "I" and types(c.query("INSERT INTO behind VALUES (2)")) == "CZ"
    assert cluster.sql("primary", "SELECT n FROM behind ORDER BY n") == [(0,), (2,)]
    holder.cancel()
    assert types(inside.read_until("Z", 30)) == "TDCZ"


def test_who_waits_for_a_server_that_may_be_opened_is_not_in_the_queue(cluster, pgweir):
    """A burst at the start, when there are no servers yet."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=10, workers=2, queue_timeout="30s", queue_max=1)
    clients = [login(weir.port) for _ in range(10)]
    for c in clients:
        c.send(query("SELECT pg_sleep(0.5)"))
    for c in clients:
        assert types(c.read_until("Z", 20)) == "TDCZ"


# query_wait_notify

@pytest.mark.parametrize("level,told", [("notice", True), ("warning", False)])
def test_a_notice_after_a_while(cluster, pgweir, level, told):
    weir, holder = one_server(cluster, pgweir, queue_timeout="1500ms", query_wait_notify="300ms")
    holder.query("COMMIT")
    c = login(weir.port)
    c.query(f"SET client_min_messages = {level}")
    holder.query("BEGIN; SELECT 1")
    c.send(PBE + sync())
    if told:
        notice = c.read_until("N")[-1].fields()
        assert (notice["S"], notice["C"]) == ("NOTICE", "00000") and "query_wait_notify" in notice["D"]
    answers = c.read_until("Z")
    assert types(answers) == "EZ" and error_of(answers).sqlstate == "53300"
    assert queues(weir)["notified"] == told


def test_no_notice_of_a_short_wait(cluster, pgweir):
    weir, holder = one_server(cluster, pgweir, queue_timeout="20s", query_wait_notify="5s")
    c = login(weir.port)
    c.send(query("SELECT 1"))
    wait_until(lambda: waiting(weir) == 1)
    holder.query("COMMIT")
    assert types(c.read_until("Z")) == "TDCZ"


# codel

class Load:
    """Open loop: a query of 20 ms from each of these clients in turn, `rate` a second; one that is not free is left out."""

    def __init__(self, port, clients):
        self.clients = [login(port) for _ in range(clients)]
        self.free = list(self.clients)
        self.sent, self.waits, self.sheds, self.codes = {}, [], [], set()
        self.poll = selectors.DefaultSelector()
        for c in self.clients:
            self.poll.register(c.sock, selectors.EVENT_READ, c)

    def _take(self, wait):
        for key, _ in self.poll.select(wait):
            c = key.data
            answers = c.read_until("Z", 10)
            took = time.monotonic() - self.sent.pop(c)
            self.free.append(c)
            if "E" in types(answers):
                e = error_of(answers)
                self.codes.add((e.sqlstate, e.fields["S"], e.fields["D"].split()[0]))
                self.sheds.append(took)
            else:
                self.waits.append(took)

    def run(self, seconds, rate):
        start, n = time.monotonic(), 0
        while time.monotonic() < start + seconds:
            due = int((time.monotonic() - start) * rate)
            while n < due and self.free:
                c = self.free.pop(0)
                self.sent[c] = time.monotonic()
                c.send(query("SELECT pg_sleep(0.02)"))
                n += 1
            self._take(0.002)
        return n

    def finish(self):
        while self.sent:
            self._take(5)


@pytest.mark.deadline(120)
def test_codel_sheds_late_ones_while_the_queue_stands_and_only_then(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=2, workers=1, queue_timeout="60s",
                  queue_discipline="codel", codel_interval="500ms", codel_target="100ms")
    load = Load(weir.port, 200)
    load.run(1, 30)  # of 100
    load.finish()
    assert not load.sheds
    load.run(5, 400)
    assert load.codes == {("53300", "ERROR", "PGWEIR-CODEL")}
    weir.wait_log("queue.stands")
    load.finish()  # the rest is served, or shed
    weir.wait_log("queue.flows")
    assert min(load.sheds) > 0.19
    shed_n = len(load.sheds)
    assert queues(weir)["codel"] == shed_n
    for c in load.clients:  # all of them are there, and are served
        assert types(c.query("SELECT 1")) == "TDCZ"
    assert len(load.sheds) == shed_n and queues(weir)["waiting"] == 0


def test_codel_sheds_nobody_who_waits_for_a_node(pgweir, new_cluster):
    """That is no overload: a failover is a pause."""
    alone = new_cluster("--replicas", 0)
    weir = pgweir(databases={"app": alone.entry(["primary"])}, workers=1, queue_timeout="60s", auth_type="trust",
                  queue_discipline="codel", codel_interval="100ms", codel_target="20ms", server_login_retry="200ms")
    clients = [weir.raw(deadline_s=40).login("app", "app") for _ in range(5)]
    assert clients[0].rows("SELECT 1") == [["1"]]
    alone.kill("primary")
    for c in clients[1:]:  # one after the other: each of them looks at the queue
        c.send(query("SELECT 1"))
        assert c.silent(0.3)
    alone.restart("primary")
    for c in clients[1:]:
        assert types(c.read_until("Z")) == "TDCZ"


# Overload

@pytest.mark.deadline(120)
@pytest.mark.parametrize("workers", [1, 2])
def test_overload_in_small(cluster, pgweir, workers):
    """Five times what one server can do, for 3 s: every refusal in its time, every client stays, no server is opened
    for it, and the counters agree with what the clients saw."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=workers, queue_timeout="500ms")
    load = Load(weir.port, 250)
    before = cluster.sql("primary", "SELECT sessions FROM pg_stat_database WHERE datname = 'app'")[0][0]
    logins = len(weir.log())
    load.run(3, 250)
    load.finish()
    assert load.sheds and load.waits
    assert load.codes == {("53300", "ERROR", "PGWEIR-QUEUE-TIMEOUT")}
    assert min(load.sheds) > 0.44
    assert sorted(load.sheds)[len(load.sheds) // 2] < 2  # generous: it is 0.5
    counted = queues(weir)
    assert counted["queue_timeout"] == len(load.sheds)
    assert counted["served"] <= len(load.waits) and counted["waiting"] == 0
    for c in load.clients:
        assert types(c.query("SELECT 1")) == "TDCZ"
    pids = {c.rows("SELECT pg_backend_pid()")[0][0] for c in load.clients}
    assert len(pids) == 1
    opened = wait_until(lambda: cluster.sql("primary", "SELECT sessions FROM pg_stat_database WHERE datname = 'app'"))[0][0] - before
    assert opened < 25, f"{opened} sessions of PostgreSQL for {len(load.sheds)} refusals; probes have some"
    assert "server.login_refused" not in weir.log()[logins:]


def asked_beside(clients, reader, sql, n=300):
    """So many answers, while none of those clients gets one. What they were."""
    answers = {reader.rows(sql)[0][0] for _ in range(n)}
    assert all(c.silent(0) for c in clients)
    return answers


@pytest.mark.deadline(120)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_slow_primary_does_not_delay_reads(cluster, pgweir, workers):
    """Writes hold all servers of the primary, others fill its queue, and one is refused; reads on the replica go on as long as
    that takes: this ends when a lock is given back, not when a time is over."""
    cluster.sql("primary", "CREATE TABLE slow (n int); GRANT ALL ON slow TO PUBLIC")
    cluster.wait_replayed()
    weir = pgweir(default_pool_size=2, workers=workers, write_queue_timeout="60s", read_queue_timeout="60s", queue_max=6)
    weir.wait_reads_on_replica()
    db = cluster.connect("primary")
    try:
        db.autocommit = False
        db.cursor().execute("LOCK TABLE slow IN SHARE MODE")
        writers = [login(weir.port) for _ in range(8)]
        for n, c in enumerate(writers):
            c.send(query("INSERT INTO slow SELECT 1 FROM pg_sleep(0.01)"))
            if n == 1:  # a server on its way between two workers is no room in the queue
                wait_until(lambda: len(cluster.sql("primary", "SELECT 1 FROM pg_locks WHERE relation = 'slow'::regclass AND NOT granted")) == 2)
        wait_until(lambda: queues(weir)["waiting"] == 6)
        e, _ = shed(login(weir.port), query("INSERT INTO slow VALUES (1)"))
        assert e.fields["D"].startswith("PGWEIR-QUEUE-FULL")
        reader = login(weir.port)
        assert {cluster.node_of(answer) for answer in asked_beside(writers, reader, cluster.WHO)} == {"replica1"}
        db.rollback()
        for c in writers:
            assert types(c.read_until("Z", 30)) == "CZ"
    finally:
        db.close()
        cluster.sql("primary", "DROP TABLE slow")


@pytest.mark.deadline(120)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_noisy_database_does_not_delay_another(cluster, pgweir, workers):
    """Its clients hold all of its servers, in locks and in sleep, and fill its queue. bench/overload has the latencies."""
    entry = cluster.entry(["primary"])
    weir = pgweir(databases={"app": entry, "noisy": cluster.entry(["primary"], dbname="postgres")}, default_pool_size=3, workers=workers,
                  queue_timeout="60s")
    db = cluster.connect("primary", dbname="postgres")
    try:
        db.cursor().execute("SELECT pg_advisory_lock(5)")
        noisy = [weir.raw().login("app_scram", "noisy", "secret") for _ in range(60)]
        for n, c in enumerate(noisy):
            c.send(query("SELECT pg_advisory_xact_lock_shared(5)" if n % 2 else "SELECT pg_sleep(0.01), pg_advisory_xact_lock_shared(5)"))
        wait_until(lambda: queues(weir, database="noisy")["waiting"] == 57)
        asked_beside(noisy, login(weir.port), "SELECT 1")
        quiet = [login(weir.port) for _ in range(12)]
        for c in quiet * 10:
            c.send(query("SELECT pg_sleep(0.001)"))
        for c in quiet * 10:
            assert types(c.read_until("Z", 30)) == "TDCZ"
        assert all(c.silent(0) for c in noisy)
    finally:
        db.close()
    for c in noisy:
        assert types(c.read_until("Z", 30)) == "TDCZ"
