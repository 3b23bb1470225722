"""The primary dies, a replica is promoted: what clients see, and where writes go afterwards."""
import threading
import time

import psycopg2
import pytest
from conftest import Cluster, wait_until
from loads import Looping, Readers, Writers
from rawpg import query

# The timeout is that of a busy machine: with no replica that was sampled in time reads go to the primary, and one that
# is under way there when it dies is lost with it.
PROBES = {"lag_poll_interval": "100ms", "probe_timeout": "2s"}


@pytest.fixture
def three(new_cluster):
    """A primary and two replicas, and a table to write to."""
    one = new_cluster("--replicas", 2)
    one.sql("primary", "CREATE TABLE written (client int, n int); GRANT ALL ON written TO PUBLIC")
    one.wait_replayed()
    return one


def promote(cluster, deadline_s=20.0):
    """replica1 becomes the primary, replica2 follows it."""
    cluster.promote("replica1")
    cluster.follow("replica2", "replica1")


def wait_shared(weir, *nodes, deadline_s=20.0):
    """Until new clients are spread over these nodes; one that reads without a pause stays where it is."""
    wait_until(lambda: {Cluster.node_of(weir.sql(Cluster.WHO)[0][0]) for _ in range(20)} == set(nodes), deadline_s,
               f"reads of new clients go to {nodes}")


def count(cluster, node):
    return cluster.sql(node, "SELECT count(*) FROM written")[0][0]


class Persistent(Looping):
    """Writers as applications are: after a lost connection or a refusal they come back and go on."""

    def __init__(self, weir, clients=2):
        super().__init__(weir, clients)
        self.done, self.unknown, self.seen = [0] * clients, set(), []

    def _run(self, number):
        while not self.stopping:
            n = self.done[number] + 1
            try:
                db = self.weir.connect()
                with db.cursor() as cursor:
                    while not self.stopping:
                        n = self.done[number] + 1
                        cursor.execute("INSERT INTO written VALUES (%s, %s)", (number, n))
                        self.done[number] = n
                        time.sleep(0.01)
                db.close()
            except psycopg2.Error as e:
                code = e.pgcode or e.diag.sqlstate or "connect"
                self.seen.append((code, str(e)))
                if code in ("08007", "08006", "57P01", "connect"):
                    self.unknown.add((number, n))
                    self.done[number] = n  # unknown: not to be sent again
                time.sleep(0.02)


def test_writes_resume_on_the_promoted_replica(three, pgweir):
    weir = pgweir(cluster=three, **PROBES)
    weir.wait_reads_on_replica()
    with Persistent(weir) as writers:
        wait_until(lambda: min(writers.done) > 5, what="writes on the old primary")
        three.kill("primary")
        since = len(weir.log())
        promote(three)
        weir.wait_log(r"cluster\.primary_changed .*primary=127\.0\.0\.1:%d" % three.ports["replica1"], 20, since)
        before = list(writers.done)
        wait_until(lambda: all(now > was + 5 for now, was in zip(writers.done, before)), 20, "writes resume")
    with Readers(weir) as readers:
        readers.wait_all_from("replica2", deadline_s=20)
    # Not by the catalog of the old primary, which may have had DDL that nobody has now.
    weir.wait_log(r"catalog\.loaded .*node=127\.0\.0\.1:%d" % three.ports["replica1"], 20, since)
    rows = three.sql("replica1", "SELECT client, n FROM written")
    assert len(rows) == len(set(rows)), "a write ran twice"
    allowed = {"08007", "08006", "57P03", "57P01", "connect", "53300"}
    assert {code for code, _ in writers.seen} <= allowed, writers.seen

    # The old primary comes back, on its old timeline, and takes no write.
    since = len(weir.log())
    three.restart("primary")
    stale = count(three, "primary")
    weir.wait_log(r"(older_timeline|old_timeline).*", 20, since)
    for n in range(20):
        weir.sql("INSERT INTO written VALUES (99, %s)", n)
    assert count(three, "primary") == stale
    assert three.sql("replica1", "SELECT count(*) FROM written WHERE client = 99") == [(20,)]
    rows = {row["node"].rsplit(":", 1)[1]: row for row in weir.show("NODES")}
    old, new = rows[str(three.ports["primary"])], rows[str(three.ports["replica1"])]
    assert (old["writes"], old["reads"], old["why_not"]) == ("no", "no", "older_timeline")
    assert (new["role"], new["writes"]) == ("primary", "yes") and int(new["timeline"]) == 2


def in_flight(cluster, n):
    return cluster.sql("primary", "SELECT count(*) >= %s FROM pg_stat_activity WHERE wait_event = 'PgSleep'", n)[0][0]


def test_what_is_in_flight_when_the_primary_dies(three, pgweir):
    weir = pgweir(cluster=three, **PROBES)
    weir.wait_reads_on_replica()
    clients = [weir.raw().login("app_scram", "app", "secret") for _ in range(4)]
    auto, explicit, commit, read = clients
    auto.send(query("INSERT INTO written SELECT 1, 1 FROM pg_sleep(30)"))
    explicit.query("BEGIN; SELECT 1")
    explicit.send(query("INSERT INTO written SELECT 2, 1 FROM pg_sleep(30)"))
    commit.query("BEGIN; SELECT 1")
    commit.query("INSERT INTO written VALUES (3, 1)")
    commit.send(query("SELECT pg_sleep(30); COMMIT"))
    read.send(query("SELECT txid_current(), pg_sleep(30)"))
    wait_until(lambda: in_flight(three, 4), what="all four run")
    three.kill("primary")
    told = [[(m.fields()["S"], m.fields()["C"]) for m in c.expect_closed() if m.type == "E"] for c in clients]
    assert told == [[("FATAL", "08007")], [("FATAL", "08006")], [("FATAL", "08007")], [("FATAL", "08007")]]
    for c in clients:
        c.close()


def test_an_idle_transaction_on_the_dead_primary_is_lost_with_08006(three, pgweir):
    weir = pgweir(cluster=three, **PROBES)
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.query("BEGIN; SELECT 1")
        c.query("INSERT INTO written VALUES (4, 1)")
        three.kill("primary")
        errors = [m.fields() for m in c.expect_closed() if m.type == "E"]
        assert [(e["S"], e["C"]) for e in errors] == [("FATAL", "08006")]


def test_reads_go_on_without_a_primary_and_writes_wait_for_one(three, pgweir):
    weir = pgweir(cluster=three, queue_timeout="30s", **PROBES)
    wait_shared(weir, "replica1", "replica2")
    with Readers(weir, 3) as readers:
        wait_until(lambda: len(readers.answers) > 100)
        three.kill("primary")
        n = len(readers.answers)
        wait_until(lambda: len(readers.answers) > n + 200, what="reads go on")
        waiting = threading.Thread(target=weir.sql, args=("INSERT INTO written VALUES (5, 1)",), daemon=True)
        db = weir.connect()
        waiting.start()
        promote(three)
        waiting.join(20)
        assert not waiting.is_alive(), "the write that waited did not run on the new primary"
        assert three.sql("replica1", "SELECT n FROM written WHERE client = 5") == [(1,)]
        readers.wait_all_from("replica2", deadline_s=20)
        with db.cursor() as cursor:
            cursor.execute("INSERT INTO written VALUES (5, 2)")
        db.close()
    assert readers.errors == []


def test_no_primary_is_said_so_after_the_queue_timeout(three, pgweir):
    weir = pgweir(cluster=three, queue_timeout="500ms", **PROBES)
    weir.wait_reads_on_replica()
    with weir.raw().login("app_scram", "app", "secret") as c:
        three.kill("primary")
        begun = time.monotonic()
        answer = c.query("INSERT INTO written VALUES (6, 1)")
        assert 0.3 < time.monotonic() - begun < 3
        assert [m.type for m in answer] == ["E", "Z"] and answer[0].fields()["C"] in ("57P03", "53300")
        assert c.rows(Cluster.WHO)[0][0] in ("1", "2")


def test_two_replicas_share_the_reads_and_one_takes_over(three, pgweir):
    weir = pgweir(cluster=three, **PROBES)
    wait_shared(weir, "replica1", "replica2")
    with Writers(weir, pause_s=0.01) as writers, Readers(weir, 4) as readers:
        wait_until(lambda: len(readers.answers) > 100)
        three.freeze("replica1")
        wait_shared(weir, "replica2")
        readers.wait_all_from("replica2")
        three.kill("replica2")
        wait_shared(weir, "primary")
        readers.wait_all_from("primary")
        three.settle()
        wait_shared(weir, "replica1", "replica2")
        wait_until(lambda: "primary" not in {node for node, _, _ in readers.answers[-50:]}, 20, "readers leave the primary")
    assert readers.errors == [] and writers.errors == []


# Failover under load, with what each client was told.

class Ledger(Looping):
    """Writers that are told of each row (client, n) or not, and readers that never may fail.

    `began` says when each row was sent, `acknowledged` and `unknown` are rows; `waited` the longest time that an
    acknowledged write took."""

    def __init__(self, weir, writers=6, readers=6):
        super().__init__(weir, writers + readers)
        self.writer_n = writers
        self.began, self.acknowledged, self.unknown = {}, set(), set()
        self.refused, self.read_errors = [], []
        self.reads, self.waited = 0, 0.0

    def _run(self, number):
        work = self._write if number < self.writer_n else self._read
        n = 0
        while not self.stopping:
            try:
                db = self.weir.connect()
                with db.cursor() as cursor:
                    while not self.stopping:
                        n += 1
                        work(cursor, number, n)
                db.close()
            except psycopg2.Error as e:
                self._told(number, n, e.pgcode or e.diag.sqlstate, str(e))

    def _write(self, cursor, number, n):
        self.began[number, n] = begun = time.monotonic()
        cursor.execute("INSERT INTO written VALUES (%s, %s)", (number, n))
        self.waited = max(self.waited, time.monotonic() - begun)
        self.acknowledged.add((number, n))
        time.sleep(0.01)

    def _read(self, cursor, *_):
        cursor.execute("SELECT count(*) FROM written")
        self.reads += 1
        time.sleep(0.005)

    def _told(self, number, n, code, text):
        if number >= self.writer_n:
            self.read_errors.append((code, text))
        elif code in ("53300", "57P03", "25006"):
            self.refused.append((code, text))
        elif (number, n) in self.began:
            self.unknown.add((number, n))

    def wait_more(self, writes=30, reads=30, deadline_s=30):
        w, r = len(self.acknowledged), self.reads
        wait_until(lambda: len(self.acknowledged) > w + writes and self.reads > r + reads, deadline_s, "writes and reads go on")

    def sent_after(self, when, rows):
        return {row for row in rows if self.began[row] > when}


def rows_of(cluster, node):
    return set(cluster.sql(node, "SELECT client, n FROM written"))


def wait_primary_changed(weir, cluster, since):
    """When we know that pgweir has seen the newer timeline."""
    weir.wait_log(r"cluster\.primary_changed .*primary=127\.0\.0\.1:%d" % cluster.ports["replica1"], 20, since)
    return time.monotonic()


def come_back(weir, cluster, role):
    since, node = len(weir.log()), cluster.ports["primary"]
    if role == "replica":
        cluster.rejoin("primary", "replica1")
        weir.wait_log(r"route\.node_eligible .*node=127\.0\.0\.1:%d" % node, 30, since)
    elif role == "primary":
        cluster.restart("primary")
        weir.wait_log(r"node\.old_timeline .*node=127\.0\.0\.1:%d" % node, 30, since)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("synchronous, comes_back_as", [(True, "replica"), (False, "primary"), (False, "it never left")])
def test_failover_under_load(three, pgweir, synchronous, comes_back_as):
    """Clients see a pause. With synchronous standbys nothing acknowledged is lost; without them only what was sent
    before pgweir saw the newer timeline, and an old primary, which then takes writes at once, gets none of ours."""
    if synchronous:
        three.synchronous("replica1", "replica2")
    weir = pgweir(cluster=three, queue_timeout="1s", failover_wait="30s", **PROBES)
    wait_shared(weir, "replica1", "replica2")
    with Ledger(weir) as ledger:
        ledger.wait_more()
        since = len(weir.log())
        if comes_back_as == "it never left":
            three.promote("replica1")  # the old primary's WAL goes on to replica2, which therefore cannot follow
        else:
            three.kill("primary")
            time.sleep(2)  # writes wait for longer than queue_timeout, which is about servers
            promote(three)
        newer_seen = wait_primary_changed(weir, three, since)
        ledger.wait_more()
        come_back(weir, three, comes_back_as)
        ledger.wait_more()
    there = rows_of(three, "replica1")
    lost = ledger.acknowledged - there
    print(f"{comes_back_as}: {len(ledger.acknowledged)} acknowledged, {len(lost)} of them absent on the new primary, "
          f"{len(ledger.unknown)} unknown ({len(ledger.unknown & there)} of them there), longest write {ledger.waited:.1f} s, "
          f"{ledger.reads} reads, {len(ledger.read_errors)} failed")
    if comes_back_as != "replica":
        old = rows_of(three, "primary")
        assert old and not ledger.sent_after(newer_seen, old), "a write went to the older timeline"
    assert ledger.waited > 2 or comes_back_as == "it never left", "writes waited for the new primary"
    assert not synchronous or lost == set()
    assert not ledger.sent_after(newer_seen, lost)
    assert there <= ledger.acknowledged | ledger.unknown
    assert ledger.read_errors == [], ledger.read_errors[:3]
    assert ledger.refused == [], ledger.refused[:3]
    assert len(ledger.unknown) <= ledger.writer_n, "no more than one write of each client was under way"


def test_writes_wait_for_failover_wait_and_no_longer(three, pgweir):
    """Longer than queue_timeout, which is about servers; then 57P03."""
    weir = pgweir(cluster=three, queue_timeout="300ms", failover_wait="1500ms", **PROBES)
    weir.wait_reads_on_replica()
    with weir.raw().login("app_scram", "app", "secret") as c:
        three.kill("primary")
        for _ in range(2):  # the first is there before pgweir knows, the second after
            begun = time.monotonic()
            answer = c.query("INSERT INTO written VALUES (7, 1)")
            assert [m.type for m in answer] == ["E", "Z"] and answer[0].fields()["C"] == "57P03", answer
            assert "failover_wait" in answer[0].fields()["D"]
            assert 1.2 < time.monotonic() - begun < 6
        assert c.rows(Cluster.WHO)[0][0] in ("1", "2")
    weir.reload(failover_wait="200ms", queue_timeout="30s")
    weir.wait_log(r"config\.reload")
    begun = time.monotonic()
    with pytest.raises(psycopg2.Error) as told:
        weir.sql("INSERT INTO written VALUES (7, 2)")
    assert told.value.pgcode == "57P03" and time.monotonic() - begun < 10
