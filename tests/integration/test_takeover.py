"""A new process takes the listening sockets of the one before it: nobody is refused, and cancels find the older one's clients."""
import os
import signal
import socket
import subprocess
import threading

import pytest
from conftest import free_port, wait_until
from protocol import login
from rawpg import Closed, PgError, RawPg, query


def clean():
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PGWEIR_")}, "ASAN_OPTIONS": "exitcode=99:detect_leaks=1"}


class Next:
    """Another process with the same configuration."""

    def __init__(self, weir):
        self.weir, self.log_path = weir, weir.dir / "next.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([weir.binary, weir.ini], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=clean())

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        assert code == 0, self.log()[-3000:]
        assert "clients=0 servers=0 conns=0 buffers=0 heap_blocks=0 budget=0" in self.log()


@pytest.fixture
def weir(pgweir, work_dir):
    return pgweir(takeover_socket=work_dir / f"takeover-{free_port()}", unix_socket_dir=work_dir, drain_timeout="10s")


@pytest.fixture
def later(weir):
    started = []

    def start():
        started.append(Next(weir))
        return started[-1]
    yield start
    for n in started:
        if n.process.poll() is None:
            n.stop()


class Crowd(threading.Thread):
    """Logs in, asks, leaves, again and again."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.done, self.wrong, self.ends = port, 0, [], threading.Event()

    def run(self):
        while not self.ends.is_set():
            try:
                with login(self.port) as c:
                    self.ask(c)
            except (OSError, AssertionError, PgError) as e:
                self.wrong.append(repr(e))

    def ask(self, c):
        """Answered, or told that the process ends: that may come while the query is on its way."""
        messages = []
        try:
            c.send(query("SELECT 1"))
            while not messages or messages[-1].type != "Z":
                messages.append(c.read())
            self.done += 1
        except (Closed, BrokenPipeError):
            if [m.fields()["C"] for m in messages if m.type == "E"] != ["57P01"]:
                raise


def test_nobody_is_refused_while_the_process_changes(weir, later):
    crowd = [Crowd(weir.port) for _ in range(4)]
    for c in crowd:
        c.start()
    wait_until(lambda: all(c.done > 5 for c in crowd))
    new = later()
    assert weir.process.wait(20) == 0
    before = [c.done for c in crowd]
    wait_until(lambda: all(c.done > n + 5 for c, n in zip(crowd, before)))
    for c in crowd:
        c.ends.set()
        c.join(10)
    assert [w for c in crowd for w in c.wrong] == []
    assert "takeover.taken" in new.log() and "takeover.given" in weir.log()


def test_a_cancel_finds_the_client_of_the_older_process(cluster, weir, later):
    old = login(weir.port)
    old.send(query("SELECT pg_sleep(60)"))
    cluster.wait_active("pg_sleep(60)")
    new = later()
    weir.wait_log("takeover.given")
    wait_until(lambda: "takeover.taken" in new.log())
    old.cancel()
    error = [m.fields()["C"] for m in old.read_until("Z", 10) if m.type == "E"]
    assert error == ["57014"]
    old.close()
    assert weir.process.wait(15) == 0
    wait_until(lambda: "takeover.ended" in new.log())
    with login(weir.port) as c:
        assert c.rows("SELECT 1") == [["1"]]


def test_the_unix_socket_and_the_path_stay(weir, later):
    first = later()
    assert weir.process.wait(15) == 0
    second = later()
    assert first.process.wait(15) == 0
    path = f"{weir.options['unix_socket_dir']}/.s.PGSQL.{weir.port}"
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
    second.stop()
    assert not os.path.exists(path) and not os.path.exists(weir.options["takeover_socket"])


def ask(weir):
    """Another asks for the sockets; one at a time may."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(str(weir.options["takeover_socket"]))
    if s.recv(100) == b"F\x01":
        return s
    s.close()
    return None


def test_one_that_cannot_start_changes_nothing(weir):
    c = login(weir.port)
    wait_until(lambda: ask(weir)).close()
    s = wait_until(lambda: ask(weir))
    assert ask(weir) is None
    for nonsense in (b"X", b"C", b"C\0\0\0\0", b"C" + bytes(300)):
        s.send(nonsense)
    s.close()
    wait_until(lambda: ask(weir)).close()
    assert c.rows("SELECT 1") == [["1"]]
    assert "takeover.given" not in weir.log()


def test_sockets_of_systemd(pgweir):
    """LISTEN_FDS: what is inherited is listened on, whatever listen_addr says."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        weir = pgweir(unix_socket_dir="")
        log = weir.dir / "inherited.log"
        command = f'exec 3<&{s.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$1"'
        with open(log, "wb") as out:
            process = subprocess.Popen(["bash", "-c", command, weir.binary, weir.ini], stdout=out, stderr=out, pass_fds=[s.fileno()], env=clean())
    try:
        with RawPg(port).login("app_scram", "app", "secret") as c:
            assert c.rows("SELECT 1") == [["1"]]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, log.read_text()
