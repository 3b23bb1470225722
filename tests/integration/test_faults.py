"""What networks, peers and machines do wrong, row by row of a table: tests/faults/README.md has the whole of it.

A FaultProxy stands between pgweir and each node; another one may stand between a client and pgweir.
"""
import contextlib
import ctypes
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pytest
from conftest import RELEASE, ROOT, Cluster, replace, wait_until
from protocol import error_of, login, same_as_postgres
from rawpg import Closed, PgError, RawPg, bind, copy_data, copy_done, describe, execute, parse, query, sync

sys.path.insert(0, str(ROOT / "tests/faults"))
from proxy import FaultProxy  # noqa: E402 pylint: disable=wrong-import-position

FULL = dict.fromkeys(["queue_timeout", "failover_wait"], "30s")


@pytest.fixture
def faults():
    """faults(port): a proxy in front of that port of this machine."""
    with contextlib.ExitStack() as opened:
        yield lambda *of, **options: opened.enter_context(FaultProxy(*of, **options))


class Stand:
    """pgweir, and what stands between it and its nodes."""

    def __init__(self, cluster, pgweir, faults, **options):
        self.primary, self.replica = faults(cluster.ports["primary"]), faults(cluster.ports["replica1"])
        entry = f"host=127.0.0.1,127.0.0.1 port={self.primary.port},{self.replica.port} dbname=app"
        self.weir = pgweir(databases={"app": entry}, **{"lag_poll_interval": "50ms", **FULL, **options})
        self.weir.wait_reads_on_replica()

    def lose_idle(self):
        """All idle servers are lost, and pgweir has noticed."""
        self.primary.reset()
        self.replica.reset()
        wait_until(lambda: sum(int(pool["sv_idle"]) for pool in self.weir.show("POOLS")) == 0)

    def outage(self):
        """The primary cannot be reached until primary.accept()."""
        self.primary.refuse()
        self.lose_idle()
        self.weir.wait_log(r"probe\.failed .*node=127\.0\.0\.1:%d" % self.primary.port)


@pytest.fixture
def table(cluster):
    """Table kept, for all; it outlives pgweir and the proxies, and nobody's transaction outlives it."""
    cluster.sql("primary", "CREATE TABLE kept (n int)")
    cluster.sql("primary", "GRANT ALL ON kept TO PUBLIC")
    cluster.wait_replayed()
    yield
    cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'app%'")
    cluster.sql("primary", "DROP TABLE kept")


@pytest.fixture
def stand(cluster, table, pgweir, faults):  # pylint: disable=unused-argument
    """stand(options...): pgweir with primary and replica, each behind a proxy, and reads on the replica."""
    return lambda **options: Stand(cluster, pgweir, faults, **options)


def kept(cluster):
    return cluster.sql("primary", "SELECT count(*) FROM kept")[0][0]


def kinds(messages):
    """Their types, without those that tell of settings: these may differ between nodes."""
    return "".join(m.type for m in messages if m.type != "S")


def row_of(messages):
    return next(m.row() for m in messages if m.type == "D")


def last_words(client):
    """(severity, SQLSTATE) of the errors up to the end of the connection."""
    return [(m.fields()["S"], m.fields()["C"]) for m in client.expect_closed() if m.type == "E"]


def node(client):
    return Cluster.node_of(client.rows(Cluster.WHO)[0][0])


# ---- links to the nodes ----

def test_fault_01_a_read_whose_replica_is_lost_runs_on_the_primary(cluster, stand):
    s = stand()
    with login(s.weir.port) as c:
        c.send(query(f"{Cluster.WHO}, pg_sleep(1)"))
        cluster.wait_active("pg_sleep(1)")
        s.replica.reset()
        answers = c.read_until("Z", 20)
        assert kinds(answers) == "TDCZ" and row_of(answers)[0] == b"0"


def test_fault_02_rows_of_a_lost_replica_are_not_followed_by_others(stand):
    s = stand()
    with login(s.weir.port) as c:
        c.send(query("SELECT (17 - length(pi()::text)) / 2, generate_series(1, 10000000)"))
        c.read_until("D")
        s.replica.reset()
        told = c.expect_closed(20)
        assert {m.row()[0] for m in told if m.type == "D"} <= {b"1"}
        assert kinds(told).strip("D") in ("", "E")  # in the middle of a row there is no place for an error
        assert [m.fields()["C"] for m in told if m.type == "E"] in ([], ["08006"])


def test_fault_03_idle_servers_that_are_lost_are_nobodys(stand):
    s = stand()
    with login(s.weir.port) as c:
        c.query("INSERT INTO kept VALUES (1)")
        wait_until(lambda: node(c) == "replica1")
        s.lose_idle()
        assert kinds(c.query("INSERT INTO kept VALUES (2)")) == "CZ"
        assert c.rows("SELECT count(*) FROM kept") == [["2"]]


def test_fault_04_a_transaction_on_a_lost_replica_is_not_moved(stand):
    s = stand()
    with login(s.weir.port) as c:
        c.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        assert node(c) == "replica1"
        s.replica.reset()
        assert last_words(c) == [("FATAL", "08006")]


def test_fault_05_a_transaction_whose_primary_is_lost_has_not_happened(cluster, stand):
    s = stand()
    with login(s.weir.port) as c:
        c.query("BEGIN; SELECT 1")
        c.query("INSERT INTO kept VALUES (1)")
        c.send(query("INSERT INTO kept SELECT 2 FROM pg_sleep(30)"))
        cluster.wait_active("pg_sleep(30)")
        s.primary.reset()
        assert last_words(c) == [("FATAL", "08006")]
    assert kept(cluster) == 0


@pytest.mark.parametrize("begin,last", [("BEGIN; INSERT INTO kept VALUES (1)", "COMMIT"), ("DELETE FROM kept", "INSERT INTO kept VALUES (1)"),
                                        ("BEGIN; INSERT INTO kept VALUES (1)", "PREPARE TRANSACTION 'fault 06'")])
def test_fault_06_a_commit_without_its_answer_is_unknown_and_never_run_again(cluster, stand, begin, last):
    s = stand()
    with login(s.weir.port) as c:
        c.query(begin)
        s.primary.down.stall()
        c.send(query(last))
        if last.startswith("PREPARE"):
            wait_until(lambda: cluster.sql("primary", "SELECT 1 FROM pg_prepared_xacts"))
            cluster.sql("primary", "COMMIT PREPARED 'fault 06'")
        wait_until(lambda: kept(cluster) == 1)
        s.primary.reset()
        assert last_words(c) == [("FATAL", "08007")]
    s.primary.go()
    assert s.weir.sql("INSERT INTO kept VALUES (2) RETURNING (SELECT count(*) FROM kept)") == [(1,)]


def test_fault_07_writes_wait_while_the_primary_cannot_be_reached(stand):
    s = stand()
    with login(s.weir.port) as c:
        c.query("INSERT INTO kept VALUES (1)")
        s.outage()
        c.send(query("INSERT INTO kept VALUES (2)"))
        with login(s.weir.port) as other:
            assert other.rows("SELECT 'a read'") == [["a read"]]
        assert c.silent()
        s.primary.accept()
        assert kinds(c.read_until("Z", 20)) == "CZ"


def test_fault_09_a_primary_that_turned_read_only_says_so_itself(cluster, stand):
    s = stand()
    with login(s.weir.port) as c:
        c.query("INSERT INTO kept VALUES (1)")
        try:
            cluster.sql("primary", "ALTER ROLE app_scram SET default_transaction_read_only = on")
            s.lose_idle()
            for _ in range(2):
                assert error_of(c.query("INSERT INTO kept VALUES (2)")).sqlstate == "25006" and c.status == "I"
        finally:
            cluster.sql("primary", "ALTER ROLE app_scram RESET default_transaction_read_only")
        s.lose_idle()
        assert "C" in kinds(c.query("INSERT INTO kept VALUES (3)"))
    assert kept(cluster) == 2


def test_fault_10_the_servers_last_words_reach_their_client_only(cluster, stand):
    s = stand()
    with login(s.weir.port) as c, login(s.weir.port) as other:
        c.query("BEGIN; INSERT INTO kept VALUES (1)")
        c.send(query("SELECT pg_sleep(30) AS fault_10"))
        cluster.wait_active("fault_10")
        cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%fault_10' AND state = 'active'")
        assert last_words(c) == [("FATAL", "57P01")]
        assert kinds(other.query("INSERT INTO kept VALUES (2)")) == "CZ"
    assert kept(cluster) == 1


def test_fault_13_a_probe_that_hangs_says_nothing_good(stand):
    s = stand(probe_timeout="500ms")
    since = len(s.weir.log())
    with login(s.weir.port) as c:
        s.replica.stall()
        s.weir.wait_log(r"route\.node_ineligible", since=since)
        assert node(c) == "primary"
        s.replica.go()
    wait_until(lambda: Cluster.node_of(s.weir.sql(Cluster.WHO)[0][0]) == "replica1", 20)


def test_fault_14_a_link_that_stalls_and_goes_on_loses_nothing(cluster, stand):
    s = stand()
    with login(s.weir.port) as c, login(s.weir.port) as other:
        c.query("BEGIN; INSERT INTO kept VALUES (1)")
        s.primary.stall()
        c.send(query("INSERT INTO kept VALUES (2)"))
        assert other.rows("SELECT 'a read'") == [["a read"]]
        assert c.silent()
        s.primary.go()
        assert kinds(c.read_until("Z", 20)) == "CZ"
        assert kinds(c.query("COMMIT")) == "CZ"
    assert kept(cluster) == 2


def test_fault_14_a_login_at_a_server_that_stalls_ends_in_time(stand):
    s = stand(server_connect_timeout="500ms", queue_timeout="1s", failover_wait="1s")
    s.primary.stall()
    with s.weir.raw() as c, pytest.raises(PgError) as e:
        c.login("app_md5", "app", "secret")  # who has no server yet
    assert (e.value.fields["S"], e.value.sqlstate) in (("FATAL", "53300"), ("FATAL", "57P03"))
    s.weir.wait_log(r"server\.\w+ node=127\.0\.0\.1:%d .*app_md5" % s.primary.port)
    s.primary.go()
    wait_until(lambda: served(s.weir, "app_md5"), 20)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("stopped", [1, 2])
@pytest.mark.parametrize("asks", ["a login", "a client"])
def test_fault_14_an_idle_server_that_stalls_costs_its_next_client_little(cluster, pgweir, stopped, asks):
    """Settings have to be set on it first. Nothing of the client's has been sent, so that it gets another server: one of those that
    had rested as long, if it still answers, or a new one. A backend is stopped; to us that is a link on which nothing comes."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=2, workers=1)
    other = login(weir.port, application_name="other")
    holders = [login(weir.port, application_name="its own") for _ in range(2)]
    for c in holders:
        c.query("BEGIN; SELECT 1")
    pids = [int(c.rows("SELECT pg_backend_pid()")[0][0]) for c in holders]
    for c in holders:
        c.query("COMMIT")
    assert holders[0].silent(1.5)  # the servers rest
    try:
        for pid in pids[:stopped]:
            os.kill(pid, signal.SIGSTOP)
        for n in range(2):  # one of them may get the server that goes on
            start = time.monotonic()
            c = login(weir.port, application_name=f"a new one {n}") if asks == "a login" else other
            assert c.rows("SELECT 'mine', current_setting('application_name')") == [["mine", f"a new one {n}" if c is not other else "other"]]
            assert time.monotonic() - start < 8  # it was 10 s, and then 08006 for a login
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert "server.no_answer" in weir.log()


def served(weir, user):
    try:
        return weir.sql("SELECT 1", user=user) == [(1,)]
    except psycopg2.Error:
        return False


# ---- clients ----

def option_of(pid, fd, level, name):
    """A socket option of another process of ours (pidfd_getfd); None if that is no such socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        copy = libc.syscall(438, pidfd, fd, 0)
        if copy < 0:
            pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
        with socket.socket(fileno=copy) as s:
            return s.getsockopt(level, name) if s.family == socket.AF_INET else None
    except OSError:
        return None
    finally:
        os.close(pidfd)


def test_fault_15_silent_connections_are_probed_by_the_kernel(cluster, pgweir):
    """That the kernel then ends them cannot be shown on loopback, where every segment arrives."""
    weir = pgweir(tcp_keepidle="7s", tcp_keepintvl="3s", tcp_keepcnt=2, tcp_user_timeout=9000)
    with login(weir.port) as c:
        c.query("CREATE TEMP TABLE t ()")  # on a server of its own
        wanted = {socket.SO_KEEPALIVE: 1, socket.TCP_KEEPIDLE: 7, socket.TCP_KEEPINTVL: 3, socket.TCP_KEEPCNT: 2, 18: 9000}
        seen = []
        for fd in map(int, os.listdir(f"/proc/{weir.pid}/fd")):
            if not os.readlink(f"/proc/{weir.pid}/fd/{fd}").startswith("socket:"):
                continue
            got = {name: option_of(weir.pid, fd, socket.SOL_SOCKET if name == socket.SO_KEEPALIVE else socket.IPPROTO_TCP, name)
                   for name in wanted}
            seen.append(got)
        assert seen.count(wanted) >= 2, seen  # the client's and the server's


def test_fault_16_a_client_that_is_reset_in_its_query_leaves_nothing_running(cluster, pgweir, faults):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1)
    front = faults(weir.port)
    c = login(front.port)
    c.send(query("SELECT pg_sleep(30) AS fault_16"))
    cluster.wait_active("fault_16")
    front.reset()
    cluster.wait_active("fault_16", 0)
    with login(weir.port) as other:
        assert other.rows("SELECT 'mine'") == [["mine"]]


def test_fault_17_a_client_that_has_said_all_gets_all_answers(cluster, pgweir):
    weir = pgweir()
    c = login(weir.port)
    c.send(query("SELECT 1"), query("SELECT pg_sleep(0.3), 2"), parse("", "SELECT 3"), bind("", ""), execute(), sync())
    c.sock.shutdown(socket.SHUT_WR)
    answers = c.expect_closed(20)
    assert [m.row()[-1] for m in answers if m.type == "D"] == [b"1", b"2", b"3"]
    assert kinds(answers) == "TDCZTDCZ12DCZ"
    wait_until(lambda: sum(int(p["cl_active"]) for p in weir.show("POOLS")) == 0)


def test_fault_19_a_copy_that_drips_in_holds_up_nobody(cluster, pgweir, faults):
    weir = pgweir()
    front = faults(weir.port)
    cluster.sql("primary", "CREATE TABLE drip (n int); GRANT ALL ON drip TO PUBLIC")
    try:
        with login(front.port) as c, login(weir.port) as other:
            c.send(query("COPY drip FROM STDIN"))
            assert kinds(c.read_until("G")) == "G"
            front.up.bytes_per_s = 10000
            c.send(*[copy_data(b"%d\n" % n) for n in range(1000)], copy_done())
            for n in range(20):
                assert other.rows(f"SELECT {n}") == [[str(n)]]
            assert kinds(c.read_until("Z", 30)) == "CZ"
        assert cluster.sql("primary", "SELECT count(*), sum(n) FROM drip") == [(1000, 499500)]
    finally:
        cluster.sql("primary", "DROP TABLE drip")


def test_fault_20_who_sends_and_does_not_read_is_held_up_alone(pgweir):
    weir = pgweir(default_pool_size=2)
    with login(weir.port) as c, login(weir.port) as other:
        n = 200
        text = "SELECT '%s', repeat('y', 100000)" % ("x" * 100000)
        sender = threading.Thread(target=lambda: c.send(*[query(text)] * n), daemon=True)
        c.sock.settimeout(60)
        sender.start()
        for i in range(100):
            assert other.rows(f"SELECT {i}") == [[str(i)]]
        assert sender.is_alive(), "20 MB fit into the buffers between us"
        got = 0
        while got < n:
            got += kinds(c.read_until("Z", 30)).count("D")
        sender.join(10)
        assert c.rows("SELECT 'in step'") == [["in step"]]


SCRIPT = [query("SELECT 1"), query("SELECT * FROM generate_series(1, 20)"), query("SELECT 1/0"),
          parse("s", "SELECT $1::int + 1") + describe("S", "s") + sync(), bind("", "s", [41]) + describe("P") + execute() + sync(),
          query("BEGIN"), query("CREATE TEMP TABLE drip (t text) ON COMMIT DROP"), (query("COPY drip FROM STDIN"), "G"),
          (copy_data(b"one\n") + copy_data(b"two\n") + copy_done(), "Z"), query("COPY drip TO STDOUT"), query("COMMIT")]


def test_fault_21_segments_of_one_byte_on_both_sides(cluster, pgweir, faults):
    back = faults(cluster.ports["primary"])
    back.up.piece = back.down.piece = 1
    weir = pgweir(databases={"app": f"host=127.0.0.1 port={back.port} dbname=app"}, probe_timeout="10s")
    front = faults(weir.port)
    front.up.piece = front.down.piece = 1

    class Behind:
        port = front.port
    same_as_postgres(cluster, Behind, SCRIPT)


def raw_message(kind, size, body=b""):
    return kind + struct.pack("!I", size) + body


NONSENSE = {
    "unknown type": raw_message(b"\xf0", 4), "length 3": raw_message(b"D", 3), "length 0": raw_message(b"C", 0),
    "negative length": raw_message(b"D", 0xfffffff0), "a client's type": raw_message(b"Q", 5, b"\0"),
    "error without fields": raw_message(b"E", 5, b"\0"), "error without SQLSTATE": raw_message(b"E", 13, b"SFATAL\0\0\0"),
    "error without end": raw_message(b"E", 9, b"CXXXX"), "status of one byte too many": raw_message(b"Z", 6, b"II"),
    "unknown status": raw_message(b"Z", 5, b"?"), "authentication again": raw_message(b"R", 8, b"\0\0\0\0"),
    "key data again": raw_message(b"K", 12, b"12345678"), "ready before the end": raw_message(b"Z", 5, b"I")}
# In the middle of a query this cannot be told from its end, as a Query may have many; unless more comes behind it.
UNASKED = {"an answer without being asked": raw_message(b"C", 13, b"SELECT 1\0")}


@pytest.mark.deadline(120)
@pytest.mark.parametrize("when", ["idle", "asked"])
def test_fault_23_a_server_that_talks_nonsense_is_discarded(cluster, stand, when):
    s = stand(default_pool_size=1)
    for name, data in (NONSENSE if when == "asked" else {**NONSENSE, **UNASKED}).items():
        with login(s.weir.port) as c:
            c.query("INSERT INTO kept VALUES (1)")
            if when == "asked":
                c.send(query("INSERT INTO kept SELECT 2 FROM pg_sleep(1)"))
                cluster.wait_active("pg_sleep(1)")
            s.primary.down.inject(data)
            with contextlib.suppress(Closed):
                c.read_until("Z", 20) if when == "asked" else None
            for n in range(3):
                with login(s.weir.port) as other:
                    other.send(query(f"INSERT INTO kept VALUES ({n}) RETURNING 'answer {n}'"))
                    answers = other.read_until("Z", 20)
                    assert kinds(answers) == "TDCZ" and row_of(answers) == [b"answer %d" % n], (name, answers)
        cluster.wait_active("pg_sleep(1)", 0)


@pytest.mark.parametrize("kind", "QPBd")
def test_fault_24_memory_is_not_taken_by_claim(pgweir, kind):
    weir = pgweir()
    with login(weir.port) as bystander:
        before = weir.pss_kb()
        clients = [login(weir.port) for _ in range(20)]
        for c in clients:
            c.send(raw_message(kind.encode(), 250_000_000, b"SELECT 1"))
        assert bystander.rows("SELECT 'well'") == [["well"]]
        assert weir.pss_kb() - before < 60_000
        for c in clients:
            c.close()
        assert bystander.rows("SELECT 'still'") == [["still"]]


# ---- the machine ----

def test_fault_25_no_descriptors_left(pgweir):
    weir = pgweir(default_pool_size=2)
    with login(weir.port) as first:
        first.rows("SELECT 1")
        soft, hard = resource.prlimit(weir.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, (weir.fds() + 5, hard))
        crowd = [socket.create_connection(("127.0.0.1", weir.port)) for _ in range(50)]
        for n in range(20):
            assert first.rows(f"SELECT {n}") == [[str(n)]]
        cpu = cpu_seconds(weir.pid)
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 1)
        assert cpu_seconds(weir.pid) - cpu < 0.5, "it spins on EMFILE"
        for s in crowd:
            s.close()
        resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert weir.sql("SELECT 2") == [(2,)]


def cpu_seconds(pid):
    return time.clock_gettime((~pid << 3) | 2)


class StoppedThread:
    """A thread of a child, stopped while the others run (ptrace(2))."""
    SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000

    def __init__(self, tid):
        self.tid, libc = tid, ctypes.CDLL(None, use_errno=True)
        for request in self.SEIZE, self.INTERRUPT:
            assert libc.ptrace(request, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        assert os.WIFSTOPPED(os.waitpid(tid, self.WALL)[1])

    def ends(self):
        return not os.WIFSTOPPED(os.waitpid(self.tid, self.WALL)[1])


def test_fault_30_a_worker_that_is_stuck_ends_the_process(pgweir):
    """One that sleeps is not stuck, for however long."""
    weir = pgweir(workers=2, watchdog_timeout="1500ms")
    c, begun = login(weir.port), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3)
    assert c.rows("SELECT 'well'") == [["well"]]
    worker = next(t.name for t in Path(f"/proc/{weir.pid}/task").iterdir() if (t / "comm").read_text().strip() == "pgweir-w1")
    thread = StoppedThread(int(worker))
    weir.process.send_signal(signal.SIGHUP)  # now it has something to do
    weir.wait_log(r"ERROR worker\.stuck .*worker=1 waited_ms=1500 .*watchdog_timeout")
    assert thread.ends()
    assert weir.process.wait(20) == -signal.SIGABRT
    weir._start()


def test_the_watchdog_leaves_alone_who_has_ended_already(pgweir):
    """A worker without clients is ready long before one with a transaction, and waits for that."""
    weir = pgweir(workers=2, watchdog_timeout="1s", drain_timeout="30s")
    c, begun = login(weir.port), time.monotonic()
    c.query("BEGIN; SELECT 1")
    weir.process.send_signal(signal.SIGTERM)
    wait_until(lambda: time.monotonic() - begun > 4)
    assert kinds(c.query("COMMIT")).startswith("C")
    assert weir.process.wait(20) == 0


def preloaded(library, **env):
    (found,) = Path("/usr/lib").glob(f"*/{library}")
    return {"binary": RELEASE, "env": {"LD_PRELOAD": str(found), **env}}


@pytest.fixture
def clock(tmp_path):
    """A wall clock for a pgweir: write to it how far it is off."""
    path = tmp_path / "clock"
    path.write_text("+0")
    return path


def off(clock):
    return preloaded("faketime/libfaketimeMT.so.1", FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1",
                     FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")


def sleeps_in(pid, name):
    """Where in the kernel the threads of that name sleep."""
    tasks = [t for t in Path(f"/proc/{pid}/task").iterdir() if (t / "comm").read_text().strip() == name]
    return [(t / "wchan").read_text() for t in tasks]


def test_fault_32_names_and_their_addresses(cluster, pgweir, faults, tmp_path):
    """A name that is not known any more keeps its address; another address gets all servers; a name server that hangs holds up nobody."""
    old = faults(cluster.ports["primary"])
    new = faults(cluster.ports["primary"], host="127.0.0.2", own_port=old.port)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 db.test\n")
    entry = "host={} port=%d dbname=app" % old.port
    weir = pgweir(databases={"app": entry.format("db.test"), "late": entry.format("late.test")}, dns_max_ttl="1s", failover_wait="1s",
                  **preloaded("libnss_wrapper.so", NSS_WRAPPER_HOSTS=str(hosts)))
    c = login(weir.port)
    assert c.rows("SELECT 'here'") == [["here"]]
    with pytest.raises(PgError, match="57P03"):
        RawPg(weir.port).login("app_scram", "late", "secret")
    replace(hosts, "127.0.0.1 late.test\n")
    weir.wait_log(r"node\.resolve_failed .*db\.test")
    assert RawPg(weir.port).login("app_scram", "late", "secret").rows("SELECT 'known'") == [["known"]]
    assert c.rows("SELECT 'still'") == [["still"]] and not new.links
    replace(hosts, "127.0.0.2 db.test late.test\n")
    wait_until(lambda: c.rows("SELECT 'there'") == [["there"]] and new.links and not old.links)
    hosts.unlink()
    os.mkfifo(hosts)  # who opens it waits; and libpq in a probe would: nss_wrapper has one lock for all look-ups
    wait_until(lambda: not any("futex" in x for x in sleeps_in(weir.pid, "pgweir-dns")))
    cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'app%'")
    wait_until(lambda: login(weir.port).rows("SELECT 'nevertheless'") == [["nevertheless"]])
    weir.stop()


def test_fault_33_the_wall_clock_jumps(cluster, pgweir, clock):
    """Deadlines go by the clock that only goes forward."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="60s", **off(clock))
    holder, waiter = login(weir.port), login(weir.port)
    holder.query("BEGIN; SELECT 1")
    waiter.send(query("SELECT 'served'"))
    for jump in "+1h", "-1h":
        replace(clock, jump)
        shown = time.strftime("%Y-%m-%dT%H:", time.gmtime(time.time() + int(jump[:2]) * 3600))
        since = len(weir.log())
        login(weir.port).close()
        weir.wait_log("^" + shown + r".*client\.login", since=since)
        assert waiter.silent()
    holder.query("COMMIT")
    assert kinds(waiter.read_until("Z")) == "TDCZ"


def test_fault_34_a_machine_that_stood_still_sheds_nobody_at_once(cluster, pgweir):
    """Deadlines that passed while nothing ran are put off, so that who could be served then is."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="3s", workers=1)
    holder, waiters = login(weir.port), [login(weir.port) for _ in range(5)]
    holder.query("BEGIN; SELECT 1")
    for c in waiters:
        c.send(query("SELECT 'served'"))
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS")) == 5)
    os.kill(weir.pid, signal.SIGSTOP)
    begun = time.monotonic()
    holder.send(query("COMMIT"))
    wait_until(lambda: time.monotonic() - begun > 5)
    os.kill(weir.pid, signal.SIGCONT)
    for c in waiters:  # and they may hear that they have waited for long
        assert kinds(c.read_until("Z", 20)).lstrip("N") == "TDCZ"


def certificate(port):
    """What a TLS client is shown, DER."""
    c = RawPg(port)
    c.start_tls()
    with contextlib.closing(c):
        return c.sock.getpeercert(binary_form=True)


def test_fault_36_certificates_are_changed_by_a_reload(pgweir, tmp_path):
    def make():
        subprocess.run([ROOT / "scripts/certs", tmp_path], check=True)
    make()
    weir = pgweir(client_tls_sslmode="require", client_tls_cert_file=tmp_path / "server.crt",
                  client_tls_key_file=tmp_path / "server.key")
    first = certificate(weir.port)
    make()
    weir.reload()
    wait_until(lambda: certificate(weir.port) != first)
    second, since = certificate(weir.port), len(weir.log())
    (tmp_path / "server.crt").write_text("no certificate")
    weir.reload()
    assert str(tmp_path / "server.crt") in weir.wait_log("WARN|ERROR", since=since)
    assert certificate(weir.port) == second
    make()
    weir.reload()
    wait_until(lambda: certificate(weir.port) not in (first, second))


def test_fault_37_a_certificate_comes_to_its_end(pgweir, tmp_path, clock):
    """Told once a day, while pgweir runs; a new file is enough."""
    subprocess.run([ROOT / "scripts/certs", tmp_path], check=True)
    weir = pgweir(client_tls_sslmode="require", client_tls_cert_file=tmp_path / "server.crt",
                  client_tls_key_file=tmp_path / "server.key", **off(clock))
    for days in 3, 2:  # and a half; of 30 (scripts/certs), which began a moment ago
        replace(clock, f"+{29.5 - days}d")
        weir.wait_log(rf"WARN certificate\.expires .*file={tmp_path}/server\.crt .*days={days}$")
    replace(clock, "+31d")
    weir.wait_log(r"ERROR certificate\.expired .*option=client_tls_cert_file")
    assert len(re.findall(r"certificate\.expire", weir.log())) == 3


@pytest.mark.parametrize("asked", [False, True])
def test_fault_45_a_node_that_hangs_does_not_hold_up_the_end(stand, asked):
    """The query in flight is cancelled, which is not answered either."""
    s = stand(drain_timeout="1s")
    c = login(s.weir.port)
    c.query("BEGIN; INSERT INTO kept VALUES (1)")
    s.primary.stall()
    if asked:
        c.send(query("INSERT INTO kept VALUES (2)"))
        assert c.silent()
    s.weir.stop()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSEGV])
def test_fault_46_killed_it_leaves_nothing_and_needs_nothing(cluster, stand, sig):
    """31 as well: a worker that crashes takes the whole process with it."""
    s = stand()
    c = login(s.weir.port)
    c.query("BEGIN; INSERT INTO kept VALUES (1)")
    s.weir.process.send_signal(sig)
    assert s.weir.process.wait(20) != 0
    assert c.expect_closed() == []
    s.weir._start()
    wait_until(lambda: not cluster.sql("primary", "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'"))
    assert kept(cluster) == 0
    assert kinds(login(s.weir.port).query("INSERT INTO kept VALUES (2)")) == "CZ"


def test_fault_49_a_login_that_drips_in_ends_in_time(pgweir, faults):
    weir = pgweir(client_login_timeout="1s")
    front = faults(weir.port)
    front.up.bytes_per_s = 20
    begun = time.monotonic()
    with pytest.raises((Closed, PgError)):
        login(front.port, application_name="x" * 200)
    assert 0.9 < time.monotonic() - begun < 8
    assert login(weir.port).rows("SELECT 1") == [["1"]]


def test_fault_57_everybody_comes_back_after_an_outage(stand):
    s = stand(default_pool_size=4)
    clients = [login(s.weir.port) for _ in range(100)]
    s.outage()
    for n, c in enumerate(clients):
        c.send(query(f"INSERT INTO kept VALUES ({n})"))
    before = s.primary.accepted
    s.primary.accept()
    for c in clients:
        assert kinds(c.read_until("Z", 30)) == "CZ"
    assert s.primary.accepted - before < 30, "more connections than a pool of 4 and the probes need"


def test_the_table_names_tests_that_exist():
    """tests/faults/README.md: one row for each fault; the tests in it are there."""
    text = (ROOT / "tests/faults/README.md").read_text()
    rows = re.findall(r"^\| (\d+) \|", text, re.M)
    assert rows == [str(n) for n in range(1, 61)]
    for path, name in re.findall(r"(test_\w+)::(\w+)", text):
        where = ROOT / ("tests/integration" if (ROOT / f"tests/integration/{path}.py").exists() else "tests/unit")
        source = next(where.glob(f"{path}.*")).read_text()
        assert re.search(rf"\b{name}\(", source), f"{path} has no {name}()"
