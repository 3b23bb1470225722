"""Which replica gets a read, who is left out and comes back, and what becomes of reads when there is no replica."""
import collections
import socket
import threading
import time

import psycopg2
import pytest
from conftest import Cluster, wait_until
from protocol import error_of, login
from rawpg import query


class Relay:
    """TCP in front of a node; what the node says is passed on `delay_s` later."""

    def __init__(self, port):
        self.to, self.delay_s = port, 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()
                continue
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source, target, late):
        try:
            while data := source.recv(65536):
                if late and self.delay_s:
                    time.sleep(self.delay_s)
                target.sendall(data)
        except OSError:
            pass
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class Readers:
    """Clients that read without a pause and note which node answered."""

    def __init__(self, weir, count=4, pause_s=0.0):
        self.weir, self.pause_s, self.answers, self.errors = weir, pause_s, [], []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def _run(self):
        try:
            db = self.weir.connect()
            with db.cursor() as cursor:
                while not self.ending.is_set():
                    cursor.execute(Cluster.WHO)
                    self.answers.append(Cluster.node_of(cursor.fetchone()[0]))
                    if self.pause_s:
                        time.sleep(self.pause_s)
            db.close()
        except psycopg2.Error as e:
            self.errors.append(e)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for t in self.threads:
            t.join(20)
        assert not any(t.is_alive() for t in self.threads), "a reader hangs"

    def next(self, count, deadline_s=20):
        """How the next reads were shared, in percent of them."""
        start = len(self.answers)
        wait_until(lambda: len(self.answers) >= start + count or self.errors, deadline_s, f"{count} reads")
        assert not self.errors, self.errors
        n = collections.Counter(self.answers[start:start + count])
        return collections.defaultdict(int, {node: 100 * n[node] / count for node in n})

    def wait(self, condition, count=300, deadline_s=30):
        """Until the next reads are shared so that condition(percents) holds."""
        seen = []
        wait_until(lambda: seen.append(self.next(count)) or condition(seen[-1]), deadline_s, f"the shares: {seen[-3:]}")
        return seen[-1]


@pytest.fixture(scope="module")
def module_cluster(work_dir):
    cluster = Cluster(work_dir / "cluster-balance", "--replicas", 2)
    yield cluster
    cluster.stop()


@pytest.fixture
def three(module_cluster):
    yield module_cluster
    module_cluster.settle()


@pytest.fixture
def weir_of(three, pgweir):
    """weir_of(nodes=[...], entry={...}, **options): a pgweir whose replicas are all known to be readable."""
    def make(nodes=None, entry=None, **options):
        names = nodes or three.nodes
        weir = pgweir(databases={"app": three.entry(nodes, **(entry or {}))},
                      **{"consistency": "eventual", "slow_start": 0, **options})
        wait_nodes(weir, reads_on=[n for n in names if n != "primary"], cluster=three)
        weir.wait_log(r"catalog\.loaded")  # until then reads go to the primary
        return weir
    return make


def shown(weir, cluster, node):
    return next(n for n in weir.show("NODES") if n["node"].endswith(f":{cluster.ports[node]}"))


def wait_nodes(weir, cluster, reads_on, deadline_s=15):
    def good():
        nodes = [n for n in weir.show("NODES") if n["role"] != "primary"]
        ports = {str(cluster.ports[n]) for n in reads_on}
        return {n["node"].split(":")[1] for n in nodes if n["reads"] == "yes"} == ports
    wait_until(good, deadline_s, f"reads on {reads_on}")


# Shares

@pytest.mark.parametrize("workers, consistency", [(1, "eventual"), (2, "eventual"), (2, "session")])
def test_a_replica_that_is_20_ms_slower(three, pgweir, workers, consistency):
    relay = Relay(three.ports["replica2"])
    try:
        ports = f"{three.ports['primary']},{three.ports['replica1']},{relay.port}"
        weir = pgweir(databases={"app": f"host=127.0.0.1,127.0.0.1,127.0.0.1 port={ports} dbname=app"},
                      consistency=consistency, workers=workers)
        wait_until(lambda: sum(n["reads"] == "yes" for n in weir.show("NODES")) == 2)
        relay.delay_s = 0.02
        with Readers(weir, 8) as readers:
            readers.next(500)
            share = readers.next(2000, 40)
            print(f"{workers} workers, {consistency}, slower by 20 ms: {share['replica2']:.1f} % of the reads")
            assert share["replica2"] <= 35, dict(share)
            assert share["primary"] == 0
            relay.delay_s = 0.0  # it recovers
            readers.wait(lambda p: p["replica2"] >= 40, 500)
    finally:
        relay.close()


@pytest.mark.parametrize("policy, low, high", [("p2c", 4, 46), ("round_robin", 23, 27), ("least_connections", 15, 38)])
def test_weights(weir_of, policy, low, high):
    weir = weir_of(entry={"weight": "1,1,3"}, balance=policy)
    with Readers(weir, 4) as readers:
        readers.next(3000, 40)
        share = readers.wait(lambda p: low <= p["replica1"] <= high, 2000)  # once there are servers enough at both
    print(f"{policy}, weights 1:3: {share['replica1']:.1f} % : {share['replica2']:.1f} %")
    assert share["primary"] == 0, dict(share)


@pytest.mark.parametrize("policy", ["p2c", "round_robin", "least_connections"])
def test_equal_replicas_share_equally(weir_of, policy):
    weir = weir_of(balance=policy)
    with Readers(weir, 4) as readers:
        share = readers.wait(lambda p: 30 <= p["replica1"] <= 70, 2000)
    assert share["primary"] == 0, dict(share)


def test_a_reload_of_weights_keeps_the_servers(three, weir_of):
    weir = weir_of(entry={"weight": "1,1,3"}, balance="round_robin")

    def backends():
        return {(n, r[0]) for n in ("replica1", "replica2") for r in three.sql(
            n, "SELECT pid FROM pg_stat_activity WHERE usename IN ('app_scram', 'probe')")}
    with Readers(weir, 2) as readers:
        readers.next(500)
        before, since = backends(), len(weir.log())
        weir.databases["app"] = three.entry(weight="1,3,1")
        weir.reload()
        readers.wait(lambda p: 70 <= p["replica1"] <= 80)
        assert before <= backends()
    assert "node.role" not in weir.log()[since:]


def test_prefer_zone_and_weight_0(three, weir_of):
    weir = weir_of(entry={"zone": "eu,us,eu", "weight": "1,1,1"}, prefer_zone="eu")
    with Readers(weir, 2, pause_s=0.001) as readers:
        assert readers.next(200) == {"replica2": 100}
        weir.databases["app"] = three.entry(zone="eu,us,eu", weight="1,1,0")
        weir.reload()
        readers.wait(lambda p: p == {"replica1": 100})
        weir.databases["app"] = three.entry(zone="eu,us,eu", weight="1,0,1")
        weir.reload()
        readers.wait(lambda p: p == {"replica2": 100})
        three.kill("replica2")  # the other zone, and no weight, but nothing else is there
        readers.wait(lambda p: p == {"replica1": 100})
        three.restart("replica2")
        weir.databases["app"] = three.entry()  # it may have another port
        weir.reload()
        readers.wait(lambda p: p["replica2"] > 20)
    assert readers.errors == []


def test_slow_start(three, weir_of):
    weir = weir_of(slow_start="8s", balance="round_robin")
    with Readers(weir, 2, pause_s=0.001) as readers:
        readers.wait(lambda p: 40 <= p["replica2"] <= 60)  # nothing has come back yet
        three.freeze("replica2")
        readers.wait(lambda p: p == {"replica1": 100})
        three.thaw("replica2")
        wait_nodes(weir, three, ["replica1", "replica2"])
        back = time.monotonic()
        first = readers.next(150)
        took_s = time.monotonic() - back
        assert took_s > 4 or first["replica2"] <= 30, (took_s, dict(first))
        readers.wait(lambda p: 40 <= p["replica2"] <= 60)
        assert time.monotonic() - back > 4
    assert readers.errors == []


# Left out, and back

def test_a_replica_that_hangs_or_refuses(three, weir_of):
    weir = weir_of()
    with Readers(weir, 4) as readers:
        readers.wait(lambda p: p["replica1"] > 20 and p["replica2"] > 20)
        three.freeze("replica2")  # it accepts connections and says nothing
        readers.wait(lambda p: p == {"replica1": 100})
        assert shown(weir, three, "replica2")["why_not"] == "sample_old"
        three.thaw("replica2")
        readers.wait(lambda p: p["replica2"] > 20)
        three.kill("replica1")  # it refuses
        readers.wait(lambda p: p == {"replica2": 100})
        assert shown(weir, three, "replica1")["why_not"] == "unreachable"
    assert readers.errors == []
    weir.wait_log(r"route\.node_ineligible.*reason=sample_old")
    weir.wait_log(r"route\.node_ineligible.*reason=unreachable")


def test_a_replica_whose_logins_fail(three, weir_of):
    """The probes are let in, so only the failures of others tell."""
    weir = weir_of(server_lifetime="1s")
    hba = three.dir / "replica2/pg_hba.conf"
    good = hba.read_text()
    try:
        with Readers(weir, 4) as readers:
            readers.wait(lambda p: p["replica1"] > 20 and p["replica2"] > 20)
            hba.write_text("host all app_scram 127.0.0.1/32 reject\n" + good)
            three.sql("replica2", "SELECT pg_reload_conf()")
            three.sql("replica2", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_scram'")
            weir.wait_log(r"node\.ejected.*failures=[1-9]")
            wait_until(lambda: shown(weir, three, "replica2")["why_not"] == "ejected_for_failures")
            readers.wait(lambda p: p == {"replica1": 100})
            weir.wait_log(r"node\.ejected.*for_ms=2000", 20)  # it was tried again
            assert shown(weir, three, "replica1")["reads"] == "yes"
            hba.write_text(good)
            three.sql("replica2", "SELECT pg_reload_conf()")
            readers.wait(lambda p: p["replica2"] > 20)
            assert shown(weir, three, "replica2")["why_not"] == ""
        assert readers.errors == []
    finally:
        hba.write_text(good)
        three.sql("replica2", "SELECT pg_reload_conf()")


def test_a_full_pool_ejects_nobody(three, weir_of):
    weir = weir_of(default_pool_size=1)
    clients = [login(weir.port) for _ in range(8)]
    weir.reload(queue_timeout="100ms")  # which a login may need for itself
    wait_until(lambda: {r["key"]: r["value"] for r in weir.show("CONFIG")}["queue_timeout"] == "0.1")
    for _ in range(5):
        for c in clients:
            c.send(query("SELECT pg_sleep(0.15)"))
        answers = [c.read_until("Z", 10) for c in clients]
        assert any(a[0].type == "E" for a in answers)
    assert "node.ejected" not in weir.log()
    wait_nodes(weir, three, ["replica1", "replica2"])


# No replica

def test_primary_reads_never(three, weir_of):
    weir = weir_of(["primary", "replica1"], primary_reads="never", queue_timeout="400ms", consistency="session")
    c = login(weir.port)
    assert c.rows(Cluster.WHO) == [["1"]]
    three.freeze("replica1")
    wait_nodes(weir, three, [])
    assert [n["reads"] for n in weir.show("NODES")] == ["no", "no"]
    c.send(query(Cluster.WHO))
    e = error_of(c.read_until("Z", 5))
    assert e.sqlstate == "57P03" and "PGWEIR-NO-REPLICA" in e.fields["D"] and c.status == "I"
    assert c.rows("SELECT txid_current() > 0") == [["t"]]  # what is not for a replica runs
    weir.reload(queue_timeout="20s")
    wait_until(lambda: {r["key"]: r["value"] for r in weir.show("CONFIG")}["queue_timeout"] == "20")
    time_waiting = login(weir.port)
    time_waiting.send(query(Cluster.WHO))
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS")) == 1)
    three.thaw("replica1")
    assert b"1" in b"".join(m.body for m in time_waiting.read_until("Z", 15) if m.type == "D")


def test_primary_reads_fallback(three, weir_of):
    weir = weir_of(["primary", "replica1"])
    with Readers(weir, 2) as readers:
        assert readers.next(200) == {"replica1": 100}
        three.freeze("replica1")
        readers.wait(lambda p: p == {"primary": 100})
        assert [n["reads"] for n in weir.show("NODES")] == ["yes", "no"]
        three.thaw("replica1")
        readers.wait(lambda p: p == {"replica1": 100})
    assert readers.errors == []


def test_primary_reads_weighted(three, weir_of):
    weir = weir_of(entry={"weight": "2,1,1"}, primary_reads="weighted", balance="round_robin")
    assert [n["reads"] for n in weir.show("NODES")] == ["yes", "yes", "yes"]
    seen = []

    def as_weighted():
        share = readers.next(1000, 40)
        seen.append(dict(share))
        return 45 <= share["primary"] <= 55 and share["replica1"] >= 20 and share["replica2"] >= 20
    with Readers(weir, 2) as readers:  # a node that is late with its samples is left out for a while
        wait_until(as_weighted, 40, f"two of four reads on the primary: {seen}")


def budgets(weir):
    """What SHOW LIMITS says of primary_read_budget: {of: (max, used, workers that wait)}."""
    rows = [r for r in weir.show("LIMITS") if r["limit"] == "primary_read_budget"]
    return {r["of"]: (int(r["max"]), int(r["used"]), int(r["waiting_workers"])) for r in rows}


class Sleepers:
    """How many of each user's `SELECT pg_sleep` ran on the primary at the same time, at most."""

    def __init__(self, cluster):
        self.cluster, self.most, self.together, self.ending = cluster, collections.Counter(), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        db = self.cluster.connect()
        with db.cursor() as cursor:
            while not self.ending.is_set():
                cursor.execute("SELECT usename, count(*) FROM pg_stat_activity WHERE state = 'active'"
                               " AND query LIKE 'SELECT pg_sleep%' GROUP BY usename")
                now = dict(cursor.fetchall())
                self.most |= collections.Counter(now)
                self.together = max(self.together, sum(now.values()))
        db.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join(10)


@pytest.mark.parametrize("workers", [1, 2])
def test_by_default_a_quarter_of_each_pool_reads_on_the_primary(three, weir_of, workers):
    weir = weir_of(["primary", "replica1"], queue_timeout="20s", default_pool_size=7, workers=workers)
    users = ("app_scram", "app_md5")
    clients = [login(weir.port, user) for user in users for _ in range(5)]
    three.freeze("replica1")
    wait_nodes(weir, three, [])
    with Sleepers(three) as sleepers:
        for c in clients:
            c.send(query("SELECT pg_sleep(1.5)"))
        wait_until(lambda: {of: (*row[:2], row[2] > 0) for of, row in budgets(weir).items()}
                   == {f"app/{u}": (2, 2, True) for u in users}, what="two of each user run, and others wait")
        assert not any(m.type == "E" for c in clients for m in c.read_until("Z", 20))
        wait_until(lambda: sleepers.together == 4, what=f"two of each user: {sleepers.most}")
    assert sleepers.most == {user: 2 for user in users}
    assert budgets(weir) == {f"app/{u}": (2, 0, 0) for u in users}
    weir.reload(queue_timeout="500ms")
    wait_until(lambda: {r["key"]: r["value"] for r in weir.show("CONFIG")}["queue_timeout"] == "0.5")
    mine = clients[:3]
    for c in mine:
        c.send(query("SELECT pg_sleep(2)"))
    (error,) = [error_of(a) for a in (c.read_until("Z", 10) for c in mine) if a[0].type == "E"]
    assert error.sqlstate == "53300"
    assert error.fields["D"].startswith("PGWEIR-READ-BUDGET pool=app/app_scram role=read limit=2 busy=2 waiting=")
    assert all(c.rows("SELECT 1") == [["1"]] for c in clients)


def test_the_budget_is_of_the_pool_size_that_holds_for_it(three, weir_of):
    weir = weir_of(["primary", "replica1"], entry={"pool_size": 9}, primary_read_budget="34%")
    login(weir.port), login(weir.port, "app_md5")
    assert budgets(weir) == {"app/app_scram": (4, 0, 0), "app/app_md5": (4, 0, 0)}
    weir.databases["app"] = three.entry(["primary", "replica1"], pool_size=0)
    weir.reload()
    wait_until(lambda: budgets(weir) == {}, what="no limit of no limit")


def test_a_node_that_is_alone_has_no_budget_of_reads(three, weir_of):
    weir = weir_of(["primary"], default_pool_size=4)
    clients = [login(weir.port) for _ in range(4)]
    for c in clients:
        c.send(query("SELECT pg_sleep(3)"))
    three.wait_active("pg_sleep(3)", 4)
    assert all(not any(m.type == "E" for m in c.read_until("Z", 10)) for c in clients)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_changes_the_budget_of_reads_that_run(three, weir_of, workers):
    """From one of the cluster to one of each pool and back: who runs gives back what it took, who waits is served."""
    weir = weir_of(["primary", "replica1"], primary_read_budget=2, queue_timeout="30s", default_pool_size=8,
                   workers=workers)
    scram, md5 = "app/app_scram", "app/app_md5"
    clients = [login(weir.port, user) for user in ("app_scram", "app_md5") for _ in range(4)]
    three.freeze("replica1")
    wait_nodes(weir, three, [])

    def begin():
        for c in clients:
            c.send(query("SELECT pg_sleep(100)"))

    def used(**expected):
        wait_until(lambda: {of: row[1] for of, row in budgets(weir).items() if row[1]} == expected, what=str(expected))

    def end():
        cancel = ("SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                  " WHERE query LIKE 'SELECT pg_sleep(100)%' AND state = 'active'")
        wait_until(lambda: not three.sql("primary", cancel)
                   and all(row[1:] == (0, 0) for row in budgets(weir).values()), 30, "all have run")
        assert [error_of(c.read_until("Z", 20)).sqlstate for c in clients] == ["57014"] * 8

    begin()
    wait_until(lambda: budgets(weir) == {"": (2, 2, workers)}, what="two in all, and all workers wait")
    weir.reload(primary_read_budget="25%")
    used(**{"": 2, scram: 2, md5: 2})
    end()
    wait_until(lambda: budgets(weir) == {scram: (2, 0, 0), md5: (2, 0, 0)}, what="nothing is left of the cluster's")
    begin()
    used(**{scram: 2, md5: 2})
    weir.reload(primary_read_budget=1)
    used(**{"": 1, scram: 2, md5: 2})
    end()
    wait_until(lambda: budgets(weir) == {"": (1, 0, 0)}, what="nothing is left of the pools'")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_budget_of_reads_on_the_primary(three, weir_of, workers):
    weir = weir_of(["primary", "replica1"], primary_read_budget=2, queue_timeout="2s", default_pool_size=10,
                   workers=workers, consistency="session")
    clients = [login(weir.port) for _ in range(8)]
    writer = login(weir.port)
    three.freeze("replica1")
    wait_nodes(weir, three, [])
    most, ending = [], threading.Event()

    def watch():
        db = three.connect()
        with db.cursor() as cursor:
            while not ending.is_set():
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'")
                most.append(cursor.fetchone()[0])
        db.close()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        for c in clients:  # 2 at a time: the last of them after 0.8 s
            c.send(query("SELECT pg_sleep(0.2)"))
        answers = [c.read_until("Z", 10) for c in clients]
        assert not any(m.type == "E" for a in answers for m in a)
        for c in clients:  # 2 run, and the others wait in vain
            c.send(query("SELECT pg_sleep(3)"))
        writer.query("CREATE TEMP TABLE IF NOT EXISTS t (n int)")
        assert writer.rows("SELECT 1") == [["1"]]  # its own: no budget holds it back
        errors = [error_of(a) for a in (c.read_until("Z", 10) for c in clients) if a[0].type == "E"]
    finally:
        ending.set()
        watcher.join(10)
    assert max(most) == 2, max(most)
    assert [e.sqlstate for e in errors] == ["53300"] * 6 and "PGWEIR-READ-BUDGET" in errors[0].fields["D"]
    assert all(c.rows("SELECT 1") == [["1"]] for c in clients)
    three.thaw("replica1")
    wait_nodes(weir, three, ["replica1"])
    wait_until(lambda: all(c.rows(Cluster.WHO) == [["1"]] for c in clients), what="all read on the replica again")


def test_without_a_login_for_probes_no_replica_is_lost(three, pgweir):
    """None of them ever serves reads: a quarter of the pool for all of them would be no protection, but a trap."""
    names = ("app_scram", "app_md5")
    secrets = dict(three.sql("primary", "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)", list(names)))
    weir = pgweir(databases={"app": three.entry(["primary", "replica1"])}, users=secrets, probe_user=None, default_pool_size=4)
    weir.wait_log(r"probe\.no_login")
    readers = [login(weir.port) for _ in range(4)]
    for c in readers:
        c.send(query("SELECT pg_sleep(60)"))
    asleep = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%' AND usename = 'app_scram'"
    wait_until(lambda: three.sql("primary", f"SELECT count(*) {asleep}") == [(4,)], what="all read on the primary")
    three.sql("primary", f"SELECT pg_cancel_backend(pid) {asleep}")
    assert [error_of(c.read_until("Z", 30)).sqlstate for c in readers] == ["57014"] * 4


def test_without_a_budget_writes_go_ahead_of_reads_that_lost_their_replica(three, weir_of):
    """The pool's size bounds those reads, and a write waits for one of them at most, not for all that came before it."""
    weir = weir_of(["primary", "replica1"], queue_timeout="60s", default_pool_size=2, workers=1, consistency="eventual",
                   primary_read_budget=0)
    readers, writer = [login(weir.port) for _ in range(12)], login(weir.port)
    three.freeze("replica1")
    wait_nodes(weir, three, [])
    for c in readers:
        c.send(query("SELECT pg_sleep(0.3), clock_timestamp()"))
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS")) == 10)
    ((written,),) = writer.rows("SELECT clock_timestamp() FROM pg_current_xact_id()")
    ends = [c.read_until("Z", 30)[1].row()[1].decode() for c in readers]
    assert sum(end > written for end in ends) >= 6, (written, sorted(ends))
