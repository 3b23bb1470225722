"""Many at once: who waits and who does not read costs nobody else anything."""
import re
import selectors
import socket
import time
from pathlib import Path

import pytest
from conftest import Cluster, wait_until
from protocol import types
from rawpg import RawPg, query, startup


@pytest.fixture(scope="module")
def roomy(work_dir):
    cluster = Cluster(work_dir / "cluster-roomy", "--replicas", 0, "--max-connections", 180)
    yield cluster
    cluster.stop()


def rss_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def trusted(port):
    return RawPg(port, deadline_s=30).login("app", "app")


@pytest.mark.deadline(120)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_waiting_and_a_hundred_not_reading(roomy, pgweir, workers):
    """The waiting ones wait for the servers of a pool of two; the others read nothing of a result that never ends."""
    weir = pgweir(databases={"app": roomy.entry(["primary"], pool_size=130), "small": roomy.entry(["primary"], dbname="postgres", pool_size=2)},
                  auth_type="trust", workers=workers, queue_timeout="60s", max_client_conn=5000, recv_buffers=512, admin_users="app")
    holders = [RawPg(weir.port).login("app", "small") for _ in range(2)]
    for c in holders:
        c.query("BEGIN; SELECT 1")
    deaf = [trusted(weir.port) for _ in range(100)]
    for c in deaf:
        c.send(query("SELECT repeat('x', 8000) FROM generate_series(1, 100000)"))
    waiting = [RawPg(weir.port, deadline_s=60).login("app", "small") for _ in range(1000)]
    for n, c in enumerate(waiting):
        c.send(query(f"SELECT {n}"))
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS", user="app", password=None)) == 1000, 30)
    others = [trusted(weir.port) for _ in range(10)]
    worst = 0.0
    for n in range(20):
        for c in others:
            start = time.monotonic()
            assert c.rows(f"SELECT {n}") == [[str(n)]]
            worst = max(worst, time.monotonic() - start)
        assert others[0].rows(f"SELECT length('{'y' * 200000}')") == [["200000"]]
    assert worst < 2.0
    for c in deaf:
        c.reset()
    for c in holders:
        c.query("COMMIT")
    for n, c in enumerate(waiting):
        assert [m.row() for m in c.read_until("Z", 60) if m.type == "D"] == [[str(n).encode()]]  # and maybe a NOTICE that it waits
    print(f"worst {worst * 1000:.1f} ms, rss {rss_kb(weir.pid)} kB")
    for c in [*waiting, *others, *holders]:
        c.close()


def test_many_idle_clients(roomy, pgweir):
    weir = pgweir(databases={"app": roomy.entry(["primary"])}, auth_type="trust", max_client_conn=5000, workers=2)
    clients = [trusted(weir.port) for _ in range(1500)]
    for c in clients[::50]:
        assert c.rows("SELECT 1") == [["1"]]
    for c in clients:
        c.close()
    wait_until(lambda: weir.fds() < 60)


@pytest.mark.deadline(120)
def test_thousands_of_logins_wait_for_one_server(roomy, pgweir):
    """Settings that nobody has logged in with before: each asks a server what they are, and is done with it at once."""
    weir = pgweir(databases={"app": roomy.entry(["primary"], pool_size=1)}, auth_type="trust", queue_timeout="60s",
                  max_client_conn=5000, client_login_timeout="60s", admin_users="app", workers=1)
    holder = trusted(weir.port)
    holder.query("BEGIN; SELECT 1")
    waiting = []
    while len(waiting) < 4000:
        for _ in range(200):  # few enough at once for the limit of those who have not proved who they are
            waiting.append(RawPg(weir.port, deadline_s=60))
            waiting[-1].send(startup("app", "app", application_name="a new one"))
        wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS", user="app", password=None)) == len(waiting), 30)
    holder.query("COMMIT")
    for c in waiting:
        c.read_until("Z")
    assert waiting[-1].rows("SHOW application_name") == [["a new one"]]
    for c in waiting:
        c.close()


def test_readers_that_stop_and_go(roomy, pgweir):
    """Every byte arrives, in order, however slowly it is read."""
    weir = pgweir(databases={"app": roomy.entry(["primary"])}, auth_type="trust", workers=1, recv_buffers=64)
    clients = [trusted(weir.port) for _ in range(20)]
    for c in clients:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
        c.send(query("SELECT n || repeat('x', 1000) FROM generate_series(1, 500) n"))
    poll = selectors.DefaultSelector()
    came = {c: bytearray() for c in clients}
    for c in clients:
        poll.register(c.sock, selectors.EVENT_READ, c)
    while poll.get_map():
        for key, _ in poll.select(10):
            c = key.data
            came[c] += c.sock.recv(30000)
            if came[c].endswith(b"Z\0\0\0\5I"):
                poll.unregister(c.sock)
    for c in clients:
        c.inbox = bytes(came[c])
        rows = [m.row()[0] for m in c.read_until("Z") if m.type == "D"]
        assert rows == [str(n).encode() + b"x" * 1000 for n in range(1, 501)]


def test_clients_that_come_and_go(roomy, pgweir):
    weir = pgweir(databases={"app": roomy.entry(["primary"])}, auth_type="trust", workers=2)
    for n in range(300):
        c = trusted(weir.port)
        c.send(query("SELECT 1"))
        if n % 3:
            assert types(c.read_until("Z")) == "TDCZ"
        (c.close, c.reset, c.terminate)[n % 3]()
    wait_until(lambda: weir.fds() < 60)
