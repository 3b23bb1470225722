"""Who may come in, with every kind of secret on both sides, and what the startup packet brings along."""
import hashlib
import socket
import struct

import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import PROTOCOL_3_0, PROTOCOL_3_2, Closed, PgError, RawPg, cstr, message, query, startup


def md5_secret(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


@pytest.fixture(scope="module")
def secrets(session_cluster):
    """What PostgreSQL stores: {user: secret}."""
    return dict(session_cluster.sql("primary", "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"))


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
@pytest.mark.parametrize("kind", ["plain", "md5", "scram"])
def test_each_method_with_each_kind_of_secret(pgweir, secrets, auth_type, kind):
    """The server side needs no password here (app is trusted), so that only our own proof counts."""
    stored = {"plain": "secret", "md5": md5_secret("app", "secret"), "scram": secrets["app_scram"]}[kind]
    weir = pgweir(auth_type=auth_type, users={"app": stored})
    possible = not (auth_type == "scram-sha-256" and kind == "md5")
    for password, good in (("secret", possible), ("wrong", False), ("", False)):
        if good:
            assert weir.sql("SELECT session_user", user="app", password=password) == [("app",)]
            continue
        with weir.raw() as c, pytest.raises(PgError) as e:
            c.login("app", "app", password)
        assert (e.value.sqlstate, e.value.fields["M"]) == ("28P01", 'password authentication failed for user "app"')


def test_scram_keys_of_the_client_open_the_server(cluster, pgweir, secrets):
    """auth_file holds PostgreSQL's own secret, no password: what the client proves is enough."""
    weir = pgweir(users={"app_scram": secrets["app_scram"]})
    assert weir.sql("SELECT session_user") == [("app_scram",)]
    assert weir.sql("SELECT 1") == [(1,)]


def test_md5_secret_opens_the_server(pgweir, secrets):
    weir = pgweir(auth_type="md5", users={"app_md5": secrets["app_md5"]})
    assert weir.sql("SELECT session_user", user="app_md5") == [("app_md5",)]


def test_the_server_refuses_what_the_client_proved(pgweir):
    weir = pgweir(users={"app_scram": "not the servers"})
    with weir.raw() as c, pytest.raises(PgError) as e:
        c.login("app_scram", "app", "not the servers")
    assert e.value.sqlstate == "28P01"
    assert weir.log().count("not the servers") == 0


def test_user_of_the_database_entry(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(user="app_plain", password="secret")}, users={"somebody": "else"})
    assert weir.sql("SELECT session_user", user="somebody", password="else") == [("app_plain",)]


def test_trust_lets_in_only_users_of_the_list(pgweir):
    weir = pgweir(auth_type="trust", users={"app": ""})
    assert weir.sql("SELECT session_user", user="app", password=None) == [("app",)]
    with weir.raw() as c, pytest.raises(PgError) as e:
        c.login("postgres", "app")
    assert e.value.sqlstate == "28000"


def test_postgres_does_not_know_the_database(cluster, pgweir):
    weir = pgweir(databases={"ghost": cluster.entry(dbname="ghost")})
    with weir.raw() as c, pytest.raises(PgError) as e:
        c.login("app_scram", "ghost", "secret")
    assert (e.value.sqlstate, e.value.fields["M"]) == ("3D000", 'database "ghost" does not exist')


def test_protocol_3_2_has_long_cancel_keys(pgweir):
    weir = pgweir()
    with weir.raw() as c:
        c.login("app_scram", "app", "secret", PROTOCOL_3_2)
        assert len(c.key) == 4 + 32
        assert c.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("protocol,params,minor,unknown", [
    (3 << 16 | 9, {}, 2, []), (3 << 16 | 9999, {}, 2, []),
    (PROTOCOL_3_0, {"_pq_.test": "1", "_pq_.other": "x"}, 0, [b"_pq_.test", b"_pq_.other"]),
    (3 << 16 | 9, {"_pq_.test": "1"}, 2, [b"_pq_.test"])])
def test_what_is_newer_is_negotiated_once(pgweir, protocol, params, minor, unknown):
    with pgweir().raw() as c:
        c.send(startup("app_scram", "app", protocol, **params))
        answer = c.read()
        assert answer.type == "v"
        assert struct.unpack_from("!I", answer.body)[0] in (minor, 3 << 16 | minor)
        (n,) = struct.unpack_from("!I", answer.body, 4)
        assert sorted(answer.body[8:].split(b"\0")[:n]) == sorted(unknown)
        assert c.read().type == "R"


def test_other_major_versions_are_refused(pgweir):
    for protocol in (1 << 16, 2 << 16, 4 << 16, 0):
        with pgweir().raw() as c:
            c.send(startup("app_scram", "app", protocol))
            answers = c.expect_closed()
            assert error_of(answers).sqlstate in ("0A000", "08P01") and types(answers) == "E"


@pytest.mark.parametrize("nodes", [["primary"], None])
def test_startup_parameters_are_applied_and_told(cluster, pgweir, nodes):
    weir = pgweir(databases={"app": cluster.entry(nodes)}, default_pool_size=1)
    settings = {"application_name": "it's me", "client_encoding": "LATIN1", "TimeZone": "Asia/Tokyo", "DateStyle": "German",
                "search_path": "a,\"B c\"", "options": "-c work_mem=77MB --statement_timeout=12345 -c geqo=off"}
    one, other = login(weir.port, **settings), login(weir.port)
    shown = {"application_name": "it's me", "client_encoding": "LATIN1", "TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY",
             "search_path": 'a,"B c"', "work_mem": "77MB", "statement_timeout": "12345ms", "geqo": "off"}
    assert {k: v for k, v in one.params.items() if k in shown} == {k: v for k, v in shown.items() if k in one.params}
    assert one.params["TimeZone"] == "Asia/Tokyo" and one.params["client_encoding"] == "LATIN1"
    assert one.params["application_name"] == "it's me"
    assert other.params["client_encoding"] == "UTF8" and other.params["TimeZone"] != "Asia/Tokyo"
    for _ in range(3):
        for name, value in shown.items():
            assert one.rows(f"SHOW {name}") == [[value]]
        for name in shown:
            assert other.rows(f"SHOW {name}") != [[shown[name]]]


@pytest.mark.parametrize("params,sqlstate", [
    ({"TimeZone": "No/Where"}, "22023"), ({"no_such_setting": "1"}, "42704"), ({"client_encoding": "KLINGON"}, "22023"),
    ({"options": "-c work_mem=lots"}, "22023"), ({"options": "-x"}, "22023"), ({"options": "-c="}, "22023"),
    ({"options": "-c"}, "22023"), ({"options": "--"}, "22023"), ({"options": "-c wal_level=minimal"}, "55P02")])
def test_bad_startup_parameters(pgweir, params, sqlstate):
    weir = pgweir()
    bystander = login(weir.port)
    for _ in range(2):
        with weir.raw() as c:
            with pytest.raises(PgError) as e:
                c.login("app_scram", "app", "secret", **params)
            assert e.value.sqlstate == sqlstate
            with pytest.raises(Closed):
                c.read_until("Z")
    assert bystander.rows("SELECT 1") == [["1"]]


def test_an_ignored_startup_parameter(pgweir):
    weir = pgweir(ignore_startup_parameters="extra_float_digits, no_such_setting")
    assert login(weir.port, no_such_setting="1", extra_float_digits="2").rows("SELECT 1") == [["1"]]


def test_ignored_options(pgweir):
    weir = pgweir(ignore_startup_parameters="options, no_such_setting")
    c = login(weir.port, options="-c work_mem=5MB -c no_such_setting=1 -x -c jit=off")
    assert c.rows("SHOW work_mem; SHOW jit") == [["5MB"], ["on"]]


def test_max_client_conn_refuses_the_next_one_only(pgweir):
    weir = pgweir(max_client_conn=3)
    clients = [login(weir.port) for _ in range(3)]
    for _ in range(3):
        with weir.raw() as c, pytest.raises(PgError) as e:
            c.login("app_scram", "app", "secret")
        assert (e.value.sqlstate, e.value.fields["S"]) == ("53300", "FATAL")
    clients.pop().close()

    def another():
        try:
            clients.append(login(weir.port))
            return True
        except PgError:
            return False
    wait_until(another)
    assert all(c.rows("SELECT 1") == [["1"]] for c in clients)


def test_who_does_not_log_in_is_sent_away(pgweir):
    weir = pgweir(client_login_timeout="300ms")
    stay = login(weir.port)
    silent, half, proving = weir.raw(), weir.raw(), weir.raw()
    half.send(startup("app_scram", "app")[:9])
    proving.send(startup("app_scram", "app"))
    assert proving.read().type == "R"
    for c in (silent, half, proving):
        answers = c.expect_closed(5)
        assert [m.fields()["S"] for m in answers] == ["FATAL"]
    assert stay.rows("SELECT 1") == [["1"]]


def test_messages_sent_behind_the_password_are_not_lost(pgweir):
    with pgweir(auth_type="plain").raw() as c:
        c.send(startup("app_plain", "app"), message("p", cstr("secret")), query("SELECT 1"), query("SELECT 2"))
        assert types(c.read_until("Z")).startswith("RR") and types(c.read_until("Z")) == "TDCZ"
        assert types(c.read_until("Z")) == "TDCZ"


def test_a_login_byte_by_byte(pgweir):
    weir = pgweir()
    c = weir.raw()
    real = c.sock.sendall

    def slowly(data):
        for i in range(len(data)):
            real(data[i:i + 1])

    class Slow:
        def __getattr__(self, name):
            return slowly if name == "sendall" else getattr(c_sock, name)
    c_sock, c.sock = c.sock, Slow()
    assert c.login("app_scram", "app", "secret").rows("SELECT 1") == [["1"]]
    c.terminate()


def test_clients_that_leave_during_login(pgweir):
    weir = pgweir()
    packet = startup("app_scram", "app")
    for n in range(0, len(packet), 3):
        c = weir.raw()
        c.send(packet[:n])
        c.reset() if n % 2 else c.close()
    for _ in range(10):
        c = weir.raw()
        c.send(packet)
        c.read()
        c.send(message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", 40) + b"n,,n=,r=" + b"x" * 32))
        c.reset()
    assert weir.sql("SELECT 1") == [(1,)]


@pytest.mark.parametrize("body", [
    b"", b"x", b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff", b"SCRAM-SHA-256\0\x7f\xff\xff\xff",
    b"SCRAM-SHA-256\0\0\0\0\5n,,n=", b"SCRAM-SHA-256\0\0\0\0\3y,,", b"SCRAM-SHA-256-PLUS\0\0\0\0\0",
    b"SCRAM-SHA-256\0" + struct.pack("!I", 9) + b"n,,n=,r=\0", b"p" * 1000, b"n" * 3000])
def test_malformed_scram(pgweir, body):
    with pgweir().raw() as c:
        c.send(startup("app_scram", "app"))
        c.read()
        c.send(message("p", body))
        assert error_of(c.expect_closed()).fields["S"] == "FATAL"


def test_a_peer_that_only_connects_costs_nothing_for_others(pgweir):
    weir = pgweir()
    idle = [socket.create_connection(("127.0.0.1", weir.port)) for _ in range(50)]
    assert weir.sql("SELECT 1") == [(1,)]
    for s in idle:
        s.close()


def test_psycopg2_sees_the_settings(pgweir):
    db = pgweir().connect(application_name="psy", options="-c statement_timeout=7s")
    with db.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("7s",)
    assert db.get_parameter_status("application_name") == "psy"
    db.close()
