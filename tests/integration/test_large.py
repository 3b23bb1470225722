"""Amounts: a million rows in and out, results far larger than memory may be."""
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from rawpg import bind, execute, parse, query, sync

LIMIT_KB = 50 * 1024


def psql(cluster, weir, *args, stdin=None, stdout=None):
    return subprocess.Popen([cluster.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(weir.port), "-U",
                             "app_scram", *args, "app"], env={**os.environ, "PGPASSWORD": "secret"}, stdin=stdin, stdout=stdout,
                            stderr=subprocess.PIPE)


class Rss(threading.Thread):
    """The largest resident set of a process while this runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.stop = pid, 0, threading.Event()

    def run(self):
        while not self.stop.wait(0.02):
            text = Path(f"/proc/{self.pid}/status").read_text()
            self.most = max(self.most, int(re.search(r"VmRSS:\s+(\d+)", text).group(1)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()


@pytest.fixture
def release(pgweir):
    binary = Path(os.environ.get("PGWEIR_RELEASE_BIN", ROOT / "build/pgweir"))
    if not binary.exists():
        pytest.skip("no release binary: run make")
    return lambda **more: pgweir(binary=binary, **more)


@pytest.mark.deadline(120)
def test_a_million_rows_by_copy_in_and_out(cluster, release, tmp_path):
    weir = release()
    cluster.sql("primary", "DROP TABLE IF EXISTS million; CREATE UNLOGGED TABLE million (n int, x text); GRANT ALL ON million TO PUBLIC")
    source, target = tmp_path / "in", tmp_path / "out"
    with open(source, "w") as f:
        f.writelines(f"{n}\trow {n} of a million\n" for n in range(1_000_000))
    with Rss(weir.pid) as rss:
        for command in (f"\\copy million FROM '{source}'", f"\\copy (SELECT * FROM million ORDER BY n) TO '{target}'"):
            p = psql(cluster, weir, "-c", command)
            assert p.wait(60) == 0, p.stderr.read()
    assert target.read_bytes() == source.read_bytes()
    assert rss.most < LIMIT_KB
    print(f"rss {rss.most} kB")
    cluster.sql("primary", "DROP TABLE million")


ROWS = "SELECT repeat(md5(n::text), 32) FROM generate_series(1, 520000) n"


@pytest.mark.deadline(120)
@pytest.mark.parametrize("sql,slow", [(ROWS, False), (f"COPY ({ROWS}) TO STDOUT", True),
                                      ("SELECT repeat('x', 260000000) FROM generate_series(1, 2)", True)],
                         ids=["rows", "copy, slow reader", "long rows, slow reader"])
def test_half_a_gigabyte_passes_through(cluster, release, sql, slow):
    weir = release(workers=1)
    size = 0
    with weir.raw(deadline_s=60) as c, Rss(weir.pid) as rss:
        c.login("app_scram", "app", "secret")
        c.send(query(sql))
        start, tail = time.monotonic(), b""
        while not tail.endswith(b"Z\0\0\0\5I"):
            data = c.sock.recv(1 << 20)
            assert data
            size += len(data)
            tail = (tail + data)[-6:]
            if slow and size < 20_000_000:
                time.sleep(0.01)
        seconds = time.monotonic() - start
    print(f"{size >> 20} MB in {seconds:.1f} s, rss {rss.most} kB")
    assert size > 500_000_000
    assert rss.most < LIMIT_KB, f"{rss.most} kB"


@pytest.mark.deadline(120)
def test_a_hundred_megabytes_in(cluster, release):
    """A Bind and a Query far larger than memory may be, while the server is slow to read."""
    weir = release(workers=1)
    with weir.raw(deadline_s=60) as c, Rss(weir.pid) as rss:
        c.login("app_scram", "app", "secret")
        c.send(parse("", "SELECT length($1)") + bind("", "", ["x" * 100_000_000]) + execute() + sync())
        assert [m.row() for m in c.read_until("Z") if m.type == "D"] == [[b"100000000"]]
        c.send(query("SELECT length('%s')" % ("y" * 100_000_000)))
        assert [m.row() for m in c.read_until("Z") if m.type == "D"] == [[b"100000000"]]
    print(f"rss {rss.most} kB")
    assert rss.most < LIMIT_KB
