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
        self.beats, self.looks, self.stopping = [], [], False
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._write, self._read)]

    def _write(self):
        db = self.cluster.connect()
        with db.cursor() as cursor:
            while not self.stopping:
                at = time.monotonic()
                cursor.execute("UPDATE heart SET n = %s", (len(self.beats),))
                self.beats.append(at)
                time.sleep(self.beat_s)
        db.close()

    def _read(self):
        db = self.cluster.connect("replica1")
        with db.cursor() as cursor:
            while not self.stopping:
                cursor.execute("SELECT n FROM heart")
                self.looks.append((time.monotonic(), cursor.fetchone()[0]))
                time.sleep(0.002)
        db.close()

    def lag_s(self, ago_s=0.0):
        """The lag as it was so long ago."""
        when, looks, beats = time.monotonic() - ago_s, self.looks, self.beats
        shown = looks[max(0, bisect.bisect_right(looks, (when, float("inf"))) - 1)][1]
        return max(0.0, when - beats[shown + 1]) if shown + 1 < len(beats) else 0.0

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.looks and self.looks[-1][1] >= 0)
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
    """The lag of the newest sample, and how old that sample is."""
    row = next(r for r in weir.show("LAG") if r["node"].endswith(f":{cluster.ports['replica1']}"))
    return int(row["lag_ms"]) / 1000, int(row["sample_age_ms"]) / 1000


def compare(weir, cluster, truth, samples=SAMPLES):
    """What pgweir's samples say, and what was true when they were taken. The primary is sampled once in an interval,
    so it cannot be known closer when it wrote what is missing."""
    off = []
    while len(off) < samples:
        begun = time.monotonic()
        said, age = measured(weir, cluster)
        took = time.monotonic() - begun
        low, high = sorted((truth(age), truth(age + took)))
        off.append(max(0.0, low - said, said - high))
        time.sleep(0.037)
    good = sum(d <= SLACK_S + INTERVAL_S for d in off)
    print(f"{good} of {len(off)} within {SLACK_S + INTERVAL_S:.3f} s, worst {max(off):.3f} s, truth {truth(0):.3f} s")
    assert good >= 0.95 * len(off), sorted(off)


def test_an_idle_primary(heart, weir):
    heart.sql("primary", "CHECKPOINT")
    wait_until(lambda: measured(weir, heart)[0] == 0)
    compare(weir, heart, lambda ago: 0.0)


def test_an_open_transaction_on_an_idle_primary(heart, weir):
    """Its WAL is not flushed, so no replica could have it."""
    db = heart.connect()
    db.autocommit = False
    with db.cursor() as cursor:
        cursor.execute("INSERT INTO bulk SELECT repeat('x', 100) FROM generate_series(1, 3000)")
        compare(weir, heart, lambda ago: 0.0)
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
        wait_until(lambda: truth.lag_s() > 0.5)
        compare(weir, heart, truth.lag_s)
        assert measured(weir, heart)[0] > 1
        heart.resume("replica1")
        wait_until(lambda: measured(weir, heart)[0] < 0.5, what="it catches up")


def test_a_walreceiver_that_is_killed(heart, weir):
    with Truth(heart) as truth:
        heart.sql("replica1", "ALTER SYSTEM SET primary_conninfo = ''")
        heart.sql("replica1", "SELECT pg_reload_conf()")
        try:
            wait_until(lambda: truth.lag_s() > 0.5)
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
        wait_until(lambda: truth.lag_s() > 0.5)
        compare(weir, heart, truth.lag_s, samples=20)
        heart.resume("replica1")
