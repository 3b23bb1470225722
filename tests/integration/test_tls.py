"""TLS towards clients and towards servers."""
import io
import socket
import ssl
import struct
import threading

import psycopg2
import pytest
from conftest import wait_until
from protocol import error_of, same_as_postgres, types
from rawpg import CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, Closed, PgError, RawPg, copy_data, copy_done, query, startup
from test_protocol import SCRIPTS

REQUEST = struct.pack("!II", 8, SSL_REQUEST)


@pytest.fixture
def client_tls(cluster):
    return {"client_tls_cert_file": cluster.tls_dir / "server.crt", "client_tls_key_file": cluster.tls_dir / "server.key"}


@pytest.fixture
def tls_weir(pgweir, client_tls, cluster, request):
    def start(mode="require", **more):
        return pgweir(client_tls_sslmode=mode, **client_tls, **more)
    return start


def tls_login(weir, ca_file=None, **more):
    c = weir.raw()
    c.start_tls(ca_file)
    return c.login("app_scram", "app", "secret", **more)


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_clients_by_tls(cluster, tls_weir, mode):
    weir = tls_weir(mode)
    assert weir.sql("SELECT 1", sslmode="verify-full", sslrootcert=str(cluster.tls_dir / "ca.crt"), host="localhost") == [(1,)]
    assert weir.sql("SELECT 1", sslmode="prefer") == [(1,)]
    if mode != "require":
        assert weir.sql("SELECT 1", sslmode="disable") == [(1,)]
        return
    with weir.raw() as c, pytest.raises(PgError) as e:
        c.login("app_scram", "app", "secret")
    assert e.value.sqlstate == "28000"


def test_no_tls_is_said_and_the_client_goes_on(pgweir):
    weir = pgweir(client_tls_sslmode="disable")
    with weir.raw() as c:
        assert c.ssl_request() == b"N"
        assert c.login("app_scram", "app", "secret").rows("SELECT 1") == [["1"]]
    with pytest.raises(psycopg2.OperationalError, match="SSL"):
        weir.connect(sslmode="require")


def test_gss_then_tls(tls_weir):
    with tls_weir().raw() as c:
        c.send(struct.pack("!II", 8, GSSENC_REQUEST))
        assert c.read_bytes(1) == b"N"
        c.start_tls()
        assert c.login("app_scram", "app", "secret").rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("mode", ["disable", "require"])
@pytest.mark.parametrize("again", [SSL_REQUEST, GSSENC_REQUEST])
def test_the_same_request_twice_is_refused(pgweir, client_tls, mode, again):
    weir = pgweir(client_tls_sslmode=mode, **client_tls)
    with weir.raw() as c:
        if mode == "require" and again == SSL_REQUEST:
            c.start_tls()
        else:
            c.send(struct.pack("!II", 8, again))
            c.read_bytes(1)
        c.send(struct.pack("!II", 8, again))
        assert error_of(c.expect_closed()).sqlstate == "08P01"
    assert weir.sql("SELECT 1", sslmode="prefer") == [(1,)]


@pytest.mark.parametrize("behind", [b"x", startup("app_scram", "app"), REQUEST])
def test_bytes_behind_the_tls_request_are_refused(tls_weir, behind):
    """CVE-2021-23214, CVE-2021-3935: they were not sent by the TLS peer."""
    weir = tls_weir()
    with weir.raw() as c:
        c.send(REQUEST + behind)
        try:
            data = b""
            while True:
                data += c.read_bytes(1)
        except Closed:
            pass
        assert b"AuthenticationOk" not in data and b"R\0\0" not in data
        assert data in (b"", b"S") or b"08P01" in data
    assert weir.sql("SELECT 1", sslmode="require") == [(1,)]


def test_garbage_in_place_of_a_handshake(tls_weir):
    weir = tls_weir(client_login_timeout="5s")
    for garbage in (b"\0" * 100, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 20000):
        with weir.raw() as c:
            assert c.ssl_request() == b"S"
            c.send(garbage)
            c.sock.shutdown(socket.SHUT_WR)
            wait_until(lambda: c.sock.recv(4096) == b"", 5)
    assert weir.sql("SELECT 1", sslmode="require") == [(1,)]


class Splitter:
    """A TLS client over memory, whose ciphertext is sent in pieces of one size."""

    def __init__(self, port, piece):
        self.sock, self.piece = socket.create_connection(("127.0.0.1", port), timeout=10), piece
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(REQUEST)
        assert self.sock.recv(1) == b"S"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self._until(self.tls.do_handshake)
        self._flush()

    def _flush(self):
        data = self.outgoing.read()
        for i in range(0, len(data), self.piece):
            self.sock.sendall(data[i:i + self.piece])

    def _until(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(self.piece)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def sendall(self, data):
        self.tls.write(data)
        self._flush()

    def recv(self, size):
        try:
            return self._until(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""

    def __getattr__(self, name):
        return getattr(self.sock, name)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 13, 64])
def test_tls_records_in_pieces(tls_weir, piece):
    weir = tls_weir()
    with weir.raw() as c:
        c.sock.close()
        c.sock = Splitter(weir.port, piece)
        c.login("app_scram", "app", "secret")
        assert c.rows("SELECT 'a'; SELECT 'b'") == [["a"], ["b"]]
        c.send(query("SELECT length('%s')" % ("x" * 20000)))
        assert c.read_until("Z")[1].row() == [b"20000"]
        assert len(c.rows("SELECT repeat('y', 1000) FROM generate_series(1, 40)")) == 40


@pytest.mark.parametrize("server", ["disable", "require"])
def test_big_results_and_copy_by_tls(cluster, tls_weir, server):
    weir = tls_weir(server_tls_sslmode=server)
    db = weir.connect(sslmode="require")
    lines = 200_000
    with db.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (n int, x text)")
        text = "".join(f"{n}\t{'x' * 40}\n" for n in range(lines))
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO(text))
        cursor.execute("SELECT count(*), sum(n) FROM t")
        assert cursor.fetchone() == (lines, lines * (lines - 1) // 2)
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM t ORDER BY n) TO STDOUT", out)
        assert out.getvalue() == text
        cursor.execute("SELECT x FROM t")
        assert len(cursor.fetchall()) == lines
    db.close()


@pytest.mark.parametrize("name", ["copy in, extended", "pipeline with an error", "flush", "large values"])
def test_scripts_by_tls_on_both_sides(cluster, tls_weir, name, monkeypatch):
    weir = tls_weir(server_tls_sslmode="require")
    real = RawPg.login

    def with_tls(self, *args, **more):
        if self.address[1] == weir.port:
            self.start_tls()
        return real(self, *args, **more)
    monkeypatch.setattr(RawPg, "login", with_tls)
    same_as_postgres(cluster, weir, SCRIPTS[name])


@pytest.mark.parametrize("mode,ca", [("prefer", False), ("require", False), ("verify-ca", True), ("verify-full", True)])
def test_servers_by_tls(cluster, pgweir, mode, ca):
    more = {"server_tls_ca_file": cluster.tls_dir / "ca.crt"} if ca else {}
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, server_tls_sslmode=mode, **more)
    assert weir.sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]


def test_a_server_whose_certificate_is_wrong(cluster, pgweir):
    other_ca = cluster.tls_dir / "client.crt"
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, server_tls_sslmode="verify-full", server_tls_ca_file=other_ca,
                  queue_timeout="1s", client_login_timeout="3s")
    with weir.raw() as c, pytest.raises(PgError) as e:
        c.login("app_scram", "app", "secret")
    assert e.value.sqlstate[:2] in ("08", "53", "57")
    assert "certificate" in weir.log()


def test_a_server_without_tls(new_cluster, pgweir):
    bare = new_cluster("--replicas", 0)
    databases = {"app": bare.entry(["primary"])}
    assert pgweir(databases=databases, server_tls_sslmode="prefer").sql("SELECT 1") == [(1,)]
    weir = pgweir(databases=databases, server_tls_sslmode="require", queue_timeout="1s", client_login_timeout="3s")
    with weir.raw() as c, pytest.raises(PgError):
        c.login("app_scram", "app", "secret")


def test_cancel_by_tls_on_both_sides(cluster, tls_weir):
    weir = tls_weir(server_tls_sslmode="require")
    with tls_login(weir) as c:
        c.send(query("SELECT pg_sleep(30)"))
        cluster.wait_active("pg_sleep(30)")
        other = weir.raw()
        other.start_tls()
        other.send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
        assert other.expect_closed() == []
        assert error_of(c.read_until("Z")).sqlstate == "57014"


def test_a_reader_by_tls_that_is_slow_does_not_stop_others(tls_weir):
    weir = tls_weir(workers=1)
    slow, other = tls_login(weir), tls_login(weir)
    slow.send(query("SELECT repeat('x', 10000) FROM generate_series(1, 3000)"))
    for n in range(50):
        assert other.rows(f"SELECT {n}") == [[str(n)]]
    assert types(slow.read_until("Z", 20)).count("D") == 3000


def test_many_handshakes_at_once(tls_weir):
    weir = tls_weir()
    failures = []

    def some():
        try:
            for _ in range(4):
                assert tls_login(weir).rows("SELECT 1") == [["1"]]
        except Exception as e:  # pylint: disable=broad-except
            failures.append(e)
    threads = [threading.Thread(target=some) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
