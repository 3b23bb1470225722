"""Wrong bytes and wrong configurations: one clear answer each, and everybody else goes on."""
import os
import socket
import struct
import subprocess

import pytest
from conftest import BINARY, free_port
from protocol import error_of, login, types
from rawpg import PROTOCOL_3_0, bind, cstr, execute, message, parse, query, startup, sync


@pytest.fixture(scope="module")
def shared(shared_pgweir, session_cluster):
    weir = shared_pgweir(databases={"app": session_cluster.entry()}, client_login_timeout="5s")
    weir.bystander = login(weir.port)
    return weir


@pytest.fixture
def weir(shared):
    yield shared
    assert shared.bystander.rows("SELECT 'still here'") == [["still here"]]


def told(c, deadline_s=4):
    """What came until the end of the connection: at most one message, and that is FATAL."""
    answers = c.expect_closed(deadline_s)
    assert types(answers) in ("", "E")
    for m in answers:
        assert m.fields()["S"] == "FATAL" and m.fields()["M"]
    return answers


def packet(body):
    return struct.pack("!I", len(body) + 4) + body


VERSION = struct.pack("!I", PROTOCOL_3_0)
FIRST = {
    "http": b"GET / HTTP/1.0\r\n\r\n", "http post": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": b"\0" * 64, "2 GB": struct.pack("!I", 0x7fffffff) + VERSION, "4 GB": b"\xff" * 8, "length 7": struct.pack("!I", 7) + b"abc",
    "length 4": struct.pack("!I", 4), "no user": packet(VERSION + b"\0"), "no end": packet(VERSION + b"user\0app"),
    "no value": packet(VERSION + b"user\0app\0database\0"), "text behind the end": packet(VERSION + b"user\0app_scram\0\0more"),
    "empty user": startup("", "app"), "over 10000 bytes": startup("app_scram", "app", x="y" * 10100),
    "long user": startup("u" * 5000, "app"), "short cancel": struct.pack("!III", 12, 80877102, 1),
    "a message": query("SELECT 1"), "tls hello": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"x" * 600,
}


@pytest.mark.parametrize("name", FIRST)
def test_wrong_first_bytes(weir, name):
    with weir.raw() as c:
        c.send(FIRST[name])
        answers = told(c) if name != "long user" else []
        if name not in ("tls hello", "short cancel", "long user"):
            assert answers, "no word about it"


@pytest.mark.parametrize("size", [9_990, 9_999, 10_000])
def test_a_startup_packet_of_the_largest_size(weir, size):
    base = len(startup("app_scram", "app", application_name=""))
    with weir.raw() as c:
        c.send(startup("app_scram", "app", application_name="n" * (size - base)))
        answer = c.read()
        assert answer.type in "RE"


LATER = {
    "2 GB query": b"Q\x7f\xff\xff\xff", "4 GB query": b"Q\xff\xff\xff\xff", "length 3": b"Q\0\0\0\3", "length 0": b"Q\0\0\0\0",
    "1 GB and one": b"Q\x40\0\0\0", "unknown type": message("y", b"abc"), "type 0": b"\0\0\0\0\4", "password": message("p", cstr("x")),
    "long sync": b"S\0\0\x40\0", "long execute": b"E\0\1\0\0", "http": b"GET / HTTP/1.0\r\n\r\n", "startup": startup("app_scram", "app"),
    "tls request": struct.pack("!II", 8, 80877103), **{f"server's {t}": message(t, b"\0\0\0\0") for t in "RKZTtAVWGnNsv123I"},
    "parse without end": message("P", b"abc"), "parse without types": message("P", b"a\0b\0"),
    "parse with too few types": message("P", b"a\0b\0" + struct.pack("!HI", 2, 23)),
    "parse with 65535 types": message("P", b"a\0b\0\xff\xff"), "bind without end": message("B", b"abc"),
    "bind without statement": message("B", b"\0abc"), "describe without end": message("D", b"Sabc"), "close without end": message("C", b"Sabc"),
}


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("name", LATER)
def test_wrong_messages_after_login(weir, name, in_transaction):
    c = login(weir.port)
    if in_transaction:
        c.query("BEGIN; SELECT 1")
    c.send(LATER[name])
    if not LATER[name].startswith((b"P", b"B", b"D", b"C")):
        assert error_of(told(c)).sqlstate == "08P01"
        return
    c.send(sync())
    answers = []
    try:
        answers = c.read_until("Z", 4)
    except AssertionError:
        pass
    if answers:  # PostgreSQL itself was asked, and the connection goes on
        assert types(answers) == "EZ"


def inner(kind, body):
    return {"B": message("B", body), "P": message("P", body), "F": message("F", body)}[kind]


@pytest.mark.parametrize("data", [
    inner("B", b"\0\0" + b"\xff\xff"), inner("B", b"\0\0" + struct.pack("!HH", 0, 0xffff)),
    inner("B", b"\0\0" + struct.pack("!HHi", 0, 1, 0x7fffffff)), inner("B", b"\0\0" + struct.pack("!HHi", 0, 1, -2)),
    inner("B", b"\0\0" + struct.pack("!HHIH", 0, 1, 0xffffffff, 0xffff)), inner("F", b""), inner("F", b"\0\0\0\1"),
    message("E", b"abc"), message("E", b""), message("D", b"X\0"), message("C", b"X\0"), message("D", b""), message("C", b""),
    message("Q", b""), message("Q", b"SELECT 1"), message("Q", b"SELECT 1\0SELECT 2\0"), message("S", b"x"), message("H", b"x"),
    message("E", b"\0\xff\xff\xff\xff"), message("B", b"")], ids=str)
def test_wrong_inner_lengths_are_for_postgres(weir, data):
    """What we do not read is PostgreSQL's to refuse; the server that choked on it is nobody else's problem."""
    c = login(weir.port)
    c.send(parse("", "SELECT $1::text") + data + sync())
    try:
        answers = c.read_until("Z", 4)
        assert "E" in types(answers) or types(answers) in ("1Z", "1sZ")
    except AssertionError:
        pass
    for n in range(4):
        other = login(weir.port)
        assert other.rows(f"SELECT {n}") == [[str(n)]]
        other.send(parse("", "SELECT 1") + bind("", "") + execute() + sync())
        assert types(other.read_until("Z")) == "12DCZ"


@pytest.mark.parametrize("kind", "QPBDCSHFdcfXE")
def test_every_message_before_the_password(weir, kind):
    for first in (b"", startup("app_scram", "app")):
        with weir.raw() as c:
            c.send(first)
            if first:
                assert c.read().type == "R"
            c.send(message(kind, b"\0" * 8))
            told(c)


@pytest.mark.parametrize("again", [startup("postgres", "app"), struct.pack("!II", 8, 80877103), struct.pack("!IIII", 16, 80877102, 1, 2)])
def test_a_second_startup_packet_while_proving(weir, again):
    """CVE-2026-107350: it must not change who is proving."""
    for wait in (True, False):
        with weir.raw() as c:
            c.send(startup("app_scram", "app") + (b"" if wait else again))
            assert c.read().type == "R"
            if wait:
                c.send(again)
            assert told(c)


@pytest.mark.parametrize("size", [0, 3, 4, 1025, 65536, 0x7fffffff, 0xffffffff])
def test_wrong_lengths_of_the_password(weir, size):
    with weir.raw() as c:
        c.send(startup("app_scram", "app"))
        c.read()
        c.send(b"p" + struct.pack("!I", size) + b"x" * min(max(size - 4, 0), 2000))
        assert told(c)


def test_truncated_messages(weir):
    whole = parse("t", "SELECT 1") + bind("", "t") + execute() + sync() + query("SELECT 2")
    for n in range(len(whole)):
        c = login(weir.port)
        c.send(whole[:n])
        c.sock.shutdown(socket.SHUT_WR)
        c.expect_closed(5)
    assert login(weir.port).rows("SELECT 1") == [["1"]]


# Configurations

def start(tmp_path, ini, deadline_s=10):
    path = tmp_path / "pgweir.ini"
    if ini is not None:
        path.write_text(ini)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PGWEIR_")}
    done = subprocess.run([BINARY, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=deadline_s, env=env)
    assert "AddressSanitizer" not in done.stdout and "LeakSanitizer" not in done.stdout
    return done.returncode, done.stdout


GOOD = "[databases]\napp = host=127.0.0.1 port=1\n[pgweir]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nauth_type = trust\n"
BAD_INI = {
    "a misspelt key": ("default_pol_size = 5\n", ["pgweir.ini:7", "default_pol_size", "default_pool_size"]),
    "a bad number": ("default_pool_size = many\n", ["pgweir.ini:7", "default_pool_size", "many"]),
    "out of bounds": ("listen_port = 70000\n", ["pgweir.ini:7", "listen_port", "70000"]),
    "a bad choice": ("pool_mode = sometimes\n", ["pgweir.ini:7", "pool_mode", "transaction"]),
    "a bad time": ("queue_timeout = 5 parsecs\n", ["pgweir.ini:7", "queue_timeout"]),
    "no such auth_file": ("auth_file = /nowhere/users.txt\n", ["auth_file", "/nowhere/users.txt", "No such file"]),
    "a directory as auth_file": ("auth_file = /tmp\n", ["auth_file", "/tmp"]),
    "a bad address": ("listen_addr = no.such.host.invalid\n", ["listen_addr", "no.such.host.invalid"]),
    "no certificate": ("client_tls_sslmode = require\n", ["client_tls"]),
    "a missing certificate": ("client_tls_sslmode = require\nclient_tls_cert_file = /nowhere/c.pem\nclient_tls_key_file = /nowhere/k.pem\n",
                              ["/nowhere/c.pem"]),
    "a broken line": ("what is this\n", ["pgweir.ini:7"]),
    "an unknown section": ("[sections]\na = b\n", ["pgweir.ini:7", "sections"]),
    "a bad database": ("[databases]\nx = hots=a\n", ["pgweir.ini:8", "hots", "host"]),
}


@pytest.mark.parametrize("name", BAD_INI)
def test_a_wrong_configuration_is_named_once(tmp_path, name):
    text, words = BAD_INI[name]
    code, out = start(tmp_path, GOOD % free_port() + text)
    assert code in (1, 78), out
    for word in words:
        assert word in out, out
    assert len(out.strip().splitlines()) <= 3, out


def test_all_errors_at_once(tmp_path):
    code, out = start(tmp_path, GOOD % free_port() + "pool_moed = x\nqueue_timeout = never\ndefault_pool_size = -1\n")
    assert code == 78
    assert all(f"pgweir.ini:{line}" in out for line in (7, 8, 9)), out


def test_no_file(tmp_path):
    code, out = start(tmp_path, None)
    assert code == 78 and "pgweir.ini" in out and "No such file" in out, out
    assert len(out.strip().splitlines()) == 1


def test_an_unreadable_auth_file(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    users = tmp_path / "users.txt"
    users.write_text("")
    users.chmod(0)
    code, out = start(tmp_path, GOOD % free_port() + f"auth_file = {users}\n")
    assert code == 78 and "Permission denied" in out


def test_a_port_in_use(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        code, out = start(tmp_path, GOOD % port)
    assert code in (1, 78)
    assert [line for line in out.splitlines() if "in use" in line and str(port) in line and "listen_port" in line], out
    assert out.count("in use") == 1
