"""How true the measured lag is: against a heartbeat that is written and read without pgweir, by our own clock."""
import bisect
import threading
import time

import pytest
from conftest import wait_until

INTERVAL_S = 0.1
SLACK_S = 0.020
SAMPLES = 40


class Truth:
    """Lag as it is: a row on the primary is set to 1, 2, 3 ... and the replica is looked at all the time. The lag is
    the age of the oldest beat that the replica does not show; 0 when it shows the newest that it can."""

    def __init__(self, cluster, beat_s=0.005):
        self.cluster, self.beat_s = cluster, beat_s
        self.sent, self.committed, self.looks, self.stopping = [], [], [], False  # looks: (asked, answered, shown)
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._write, self._read)]

    def _write(self):
        db = self.cluster.connect()
        with db.cursor() as cursor:
            while not self.stopping:
                self.sent.append(time.monotonic())
                cursor.execute("UPDATE heart SET n = %s", (len(self.committed),))
                self.committed.append(time.monotonic())
                time.sleep(self.beat_s)
        db.close()

    def _read(self):
        db = self.cluster.connect("replica1")
        with db.cursor() as cursor:
            while not self.stopping:
                asked = time.monotonic()
                cursor.execute("SELECT n FROM heart")
                shown = cursor.fetchone()[0]
                self.looks.append((asked, time.monotonic(), shown))
                time.sleep(0.002)
        db.close()

    def lag_s(self, early, late):
        """The least and the most that the lag can have been, at a moment between these two. Our own threads may come
        late on a busy machine, so what the replica showed then is known from a look before and one after."""
        wait_until(lambda: self.looks[-1][0] > late, what="a look at the replica")
        looks = self.looks[:]
        before = [shown for _, answered, shown in looks[-5000:] if answered < early]
        after = [shown for asked, _, shown in looks[-5000:] if asked > late]
        least, most = before[-1] if before else -1, after[0]
        high = late - self.sent[least + 1] if least + 1 < len(self.sent) else 0.0
        low = early - self.committed[most + 1] if most + 1 < len(self.committed) else 0.0
        return max(0.0, low), max(0.0, high)

    def now_s(self):
        now = time.monotonic()
        return self.lag_s(now, now)[0]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.looks and self.looks[-1][2] >= 0)
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def heart(cluster):
    cluster.sql("primary", "DROP TABLE IF EXISTS heart, bulk; CREATE TABLE heart (n int); INSERT INTO heart VALUES (-1);"
                           "CREATE TABLE bulk (t text)")
    cluster.wait_replayed()
    return cluster


@pytest.fixture
def weir(heart, pgweir):
    one = pgweir(cluster=heart, lag_poll_interval=f"{INTERVAL_S * 1000:.0f}ms", max_lag="1h")
    one.wait_reads_on_replica()
    return one


def measured(weir, cluster):
    """The lag of the newest sample, and between which moments that was taken."""
    begun = time.monotonic()
    row = next(r for r in weir.show("LAG") if r["node"].endswith(f":{cluster.ports['replica1']}"))
    age = int(row["sample_age_ms"]) / 1000
    return int(row["lag_ms"]) / 1000, begun - age - 0.001, time.monotonic() - age


def never(early, late):
    return 0.0, 0.0


def compare(weir, cluster, truth, samples=SAMPLES):
    """What pgweir's samples say, and what was true when they were taken. The primary is sampled once in an interval,
    so it cannot be known closer when it wrote what is missing."""
    off = []
    while len(off) < samples:
        said, early, late = measured(weir, cluster)
        low, high = truth(early, late)
        off.append(max(0.0, low - said, said - high))
        time.sleep(0.037)
    good = sum(d <= SLACK_S + INTERVAL_S for d in off)
    print(f"{good} of {len(off)} within {SLACK_S + INTERVAL_S:.3f} s, worst {max(off):.3f} s; the last {said:.3f} s, "
          f"in truth {low:.3f} to {high:.3f} s")
    assert good >= 0.95 * len(off), " ".join(f"{d:.3f}" for d in sorted(off))


def test_an_idle_primary(heart, weir):
    heart.sql("primary", "CHECKPOINT")
    wait_until(lambda: measured(weir, heart)[0] == 0)
    compare(weir, heart, never)


def test_an_open_transaction_on_an_idle_primary(heart, weir):
    """Its WAL is not flushed, so no replica could have it."""
    db = heart.connect()
    db.autocommit = False
    with db.cursor() as cursor:
        cursor.execute("INSERT INTO bulk SELECT repeat('x', 100) FROM generate_series(1, 3000)")
        compare(weir, heart, never)
    db.rollback()
    db.close()


def test_a_replica_that_keeps_up(heart, weir):
    with Truth(heart) as truth:
        compare(weir, heart, truth.lag_s)


def test_a_bulk_load(heart, weir):
    stop = threading.Event()

    def load():
        db = heart.connect()
        with db.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO bulk SELECT repeat('x', 200) FROM generate_series(1, 20000)")
        db.close()
    thread = threading.Thread(target=load, daemon=True)
    with Truth(heart) as truth:
        thread.start()
        try:
            compare(weir, heart, truth.lag_s)
        finally:
            stop.set()
            thread.join(20)


def test_a_replica_whose_replay_is_paused(heart, weir):
    with Truth(heart) as truth:
        heart.pause("replica1")
        wait_until(lambda: truth.now_s() > 0.5)
        compare(weir, heart, truth.lag_s)
        assert measured(weir, heart)[0] > 1
        heart.resume("replica1")
        wait_until(lambda: measured(weir, heart)[0] < 0.5, what="it catches up")


def test_a_walreceiver_that_is_killed(heart, weir):
    with Truth(heart) as truth:
        heart.sql("replica1", "ALTER SYSTEM SET primary_conninfo = ''")
        heart.sql("replica1", "SELECT pg_reload_conf()")
        try:
            wait_until(lambda: truth.now_s() > 0.5)
            compare(weir, heart, truth.lag_s)
            assert measured(weir, heart)[0] > 1
        finally:
            heart.follow("replica1", "primary")
        wait_until(lambda: measured(weir, heart)[0] < 0.5, 20, what="it catches up")


@pytest.mark.parametrize("skew", ["+1h", "-1h"])
def test_a_replica_whose_clock_is_wrong(heart, pgweir, skew):
    heart.skew("replica1", skew)
    ((off,),) = heart.sql("replica1", "SELECT abs(extract(epoch FROM clock_timestamp()) - %s) > 3500", time.time())
    assert off, "its clock is right"
    weir = pgweir(cluster=heart, lag_poll_interval=f"{INTERVAL_S * 1000:.0f}ms", max_lag="1h")
    weir.wait_reads_on_replica()
    with Truth(heart) as truth:
        compare(weir, heart, truth.lag_s)
        heart.pause("replica1")
        wait_until(lambda: truth.now_s() > 0.5)
        compare(weir, heart, truth.lag_s, samples=20)
        heart.resume("replica1")
