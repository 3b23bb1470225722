"""Oracle 2: what pgweir routes to a replica gives the same on a primary and on a standby. PGWEIR_FULL=1: more arguments."""
import os
import re
import subprocess

import pytest
from conftest import BINARY, ROOT, Cluster
from rawpg import copy_fail, query
from standby_oracle import (PACKAGED, BarePair, Pair, answer_of, corpus, generated, in_read_only_transaction,
                            on_replica, unit_test_statements)

ROUNDS = 12 if os.environ.get("PGWEIR_FULL") else 2
TRANSACTIONS = ("BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
KNOWS_CATALOG = "--catalog" in subprocess.run([BINARY, "route", "--help"], capture_output=True, text=True).stdout


QUIET = ("autovacuum=off", "checkpoint_timeout=1d", "max_prepared_transactions=5")


def make_oracle(cluster):
    cluster.sql("primary", "CREATE DATABASE oracle")
    db = cluster.connect(dbname="oracle")
    with db.cursor() as cursor:
        cursor.execute((ROOT / "tests/oracle/standby_schema.sql").read_text())
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    db.close()


@pytest.fixture(scope="module")
def quiet(work_dir):
    """A primary and a standby on which nothing runs but the statements of the test."""
    cluster = Cluster(work_dir / "cluster-oracle", "--replicas", 1, *(x for option in QUIET for x in ("--conf", option)))
    make_oracle(cluster)
    yield cluster
    cluster.stop()


@pytest.fixture
def pair(quiet):
    pair = Pair(quiet, "oracle")
    yield pair
    pair.close()


def finish(pair, at_least):
    pair.check_nothing_left()
    assert pair.differences == [], f"{len(pair.differences)} differences:\n" + "\n".join(pair.differences[:100])
    print(f"{pair.ran} statements, no difference")
    assert pair.ran >= at_least


def rows_of(cluster, sql):
    db = cluster.connect(dbname="oracle")
    try:
        with db.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        db.close()


@pytest.mark.deadline(600)
def test_every_built_in_function_operator_and_cast(quiet, pair):
    statements = list(dict.fromkeys(generated(lambda sql: rows_of(quiet, sql), ROUNDS)))
    called, answered = set(), set()
    for text in on_replica(statements):
        name = re.match(r'SELECT (?:\* FROM )?("?\w*"?)\(', text)
        called.add(name and name[1])
        if pair.compare(text):
            answered.add(name and name[1])
    print(f"{len(statements)} made; of {len(called)} functions {len(answered)} gave an answer and not only errors")
    finish(pair, 10000)
    assert len(answered) >= 0.95 * len(called)


@pytest.mark.deadline(600)
@pytest.mark.skipif(not os.environ.get("PGWEIR_FULL"), reason="PGWEIR_FULL=1 runs it")
@pytest.mark.parametrize("bin_dir", PACKAGED or [None], ids=lambda path: path and path.parts[-3])
def test_other_versions(work_dir, bin_dir):
    if bin_dir is None:
        pytest.skip("scripts/gen-functions fetches 17 and 18")
    cluster = BarePair(work_dir / f"oracle-{bin_dir.parts[-3]}", bin_dir, QUIET)
    try:
        make_oracle(cluster)
        pair = Pair(cluster, "oracle")
        made = list(dict.fromkeys(generated(lambda sql: rows_of(cluster, sql), 3)))
        for text in on_replica(made + corpus("standby_reads.sql") + corpus("standby_maybe.sql")):
            pair.compare(text)
        finish(pair, 10000)
        pair.close()
    finally:
        cluster.stop()


@pytest.mark.deadline(120)
def test_every_construct(pair):
    for text in on_replica(corpus("standby_reads.sql") + corpus("standby_maybe.sql")):
        pair.compare(text)
    finish(pair, 100)


def test_all_reads_of_the_corpus_are_for_a_replica():
    texts = corpus("standby_reads.sql")
    assert len(texts) > 100
    assert sorted(set(texts) - set(on_replica(texts))) == []


def test_nothing_of_the_other_corpus_is_for_a_replica():
    texts = corpus("standby_never.sql")
    assert len(texts) > 100
    assert on_replica(texts) == []


def test_the_statements_of_the_unit_test_and_of_oracle_1(pair):
    """Most of their tables are not there: then the same error must come, and nothing may stay behind."""
    for text in on_replica(unit_test_statements() + corpus("statements.sql")):
        pair.compare(text, after="ROLLBACK")  # BEGIN READ ONLY is one of them
    finish(pair, 200)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("begin", TRANSACTIONS)
def test_read_only_transactions(pair, begin):
    texts = corpus("standby_reads.sql") + corpus("standby_maybe.sql") + corpus("standby_never.sql")
    for text, rows in in_read_only_transaction(texts):
        pair.compare(text, before=begin + ";", after="ROLLBACK", rows=rows)
    finish(pair, 100)


@pytest.mark.skipif(not KNOWS_CATALOG, reason="this pgweir route has no --catalog")
def test_objects_that_only_the_catalog_tells_apart(quiet, pair):
    dsn = f"host=127.0.0.1 port={quiet.ports['primary']} user=postgres dbname=oracle"
    texts = corpus("standby_catalog.sql")
    reads = on_replica(texts, "--catalog", dsn)
    for text in reads:
        pair.compare(text)
    expected = [t for t in texts if t.endswith("-- read")]
    assert (sorted(set(reads) - set(expected)), sorted(set(expected) - set(reads))) == ([], [])
    finish(pair, 5)


def test_the_oracle_can_see(pair):
    """A difference, a leak and a write are found when a statement that is not for a replica is run."""
    for text in ("SELECT pg_is_in_recovery()", "SELECT nextval('items_id_seq')", "SELECT pg_advisory_lock(1)",
                 "SET work_mem = '5MB'", "SELECT txid_current()"):
        found = len(pair.differences)
        pair.compare(text)
        pair.check_nothing_left()
        assert len(pair.differences) > found, text
    assert [answer_of(c, "SELECT 1")[0] for c in pair.connections] == [None, None]


def run_through(weir, text):
    """One Query over a connection of its own, so that no earlier statement keeps it from the replica."""
    with weir.raw(deadline_s=20).login("postgres", "app", "postgres") as client:
        client.send(query(text))
        while client.read_until("ZG")[-1].type == "G":
            client.send(copy_fail("only the route counts"))


@pytest.mark.deadline(180)
def test_what_arrives_at_the_replica(quiet, pgweir):
    """The proxy itself, and the replica's own log: all reads arrive there, and nothing else."""
    quiet.sql("primary", "CREATE DATABASE live TEMPLATE oracle")  # the statements for the primary change it
    quiet.sql("replica1", "ALTER SYSTEM SET log_statement = 'all'")
    quiet.sql("replica1", "SELECT pg_reload_conf()")
    quiet.wait_replayed()
    weir = pgweir(databases={"app": quiet.entry(dbname="live")})
    weir.wait_reads_on_replica()
    weir.wait_log(r"catalog\.loaded")
    log = quiet.dir / "replica1.log"
    seen = log.stat().st_size
    catalog = corpus("standby_catalog.sql")
    reads = corpus("standby_reads.sql") + [t for t in catalog if t.endswith("-- read")]
    others = [t for t in catalog if not t.endswith("-- read")] + corpus("standby_never.sql")
    for text in reads + others:
        run_through(weir, text)
    arrived = log.read_bytes()[seen:].decode()
    assert [t for t in others if f"statement: {t}\n" in arrived] == []
    missing = [t for t in reads if f"statement: {t}\n" not in arrived]
    assert len(missing) <= len(reads) / 20, missing  # none, but for a sample of lag that came late
