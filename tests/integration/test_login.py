"""Logging in: who gets in, who does not, and what they are told."""
import psycopg2
import pytest
from conftest import PASSWORDS, wait_until
from rawpg import Closed, PgError


@pytest.mark.parametrize("auth_type,user", [
    ("trust", "app"),
    ("plain", "app_plain"),
    ("md5", "app_md5"),
    ("scram-sha-256", "app_scram"),
    ("scram-sha-256", "app_md5"),  # the client by SCRAM, towards PostgreSQL by md5
    ("md5", "app_scram"),
])
def test_login_and_select(pgweir, auth_type, user):
    weir = pgweir(auth_type=auth_type)
    assert weir.sql("SELECT 1 + 1, current_user", user=user) == [(2, user)]


def test_raw_login_tells_parameters_and_a_key(pgweir):
    with pgweir().raw() as c:
        c.login("app_scram", "app", "secret", application_name="raw")
        assert c.status == "I"
        assert len(c.key) == 8
        assert c.params["client_encoding"] == "UTF8"
        assert {"server_version", "DateStyle", "TimeZone", "integer_datetimes"} <= c.params.keys()
        assert c.rows("SELECT 'x', NULL") == [["x", None]]


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
@pytest.mark.parametrize("user,password", [("app_scram", "wrong"), ("nobody_of_that_name", "secret")])
def test_wrong_password_and_unknown_user_look_the_same(pgweir, auth_type, user, password):
    with pgweir(auth_type=auth_type).raw() as c:
        with pytest.raises(PgError) as e:
            c.login(user, "app", password)
        assert e.value.sqlstate == "28P01"
        assert e.value.fields["S"] == "FATAL"
        assert e.value.fields["M"] == f'password authentication failed for user "{user}"'
        with pytest.raises(Closed):
            c.read()


def test_psycopg2_sees_the_wrong_password(pgweir):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        pgweir().connect(password="wrong")


def test_unknown_database_after_the_password(pgweir):
    weir = pgweir()
    with weir.raw() as c:
        with pytest.raises(PgError) as e:
            c.login("app_scram", "no_such_db", "secret")
        assert (e.value.sqlstate, e.value.fields["S"]) == ("3D000", "FATAL")
        assert "no_such_db" in e.value.fields["M"]
    with weir.raw() as c:  # without the password nothing is learnt about databases
        with pytest.raises(PgError) as e:
            c.login("app_scram", "no_such_db", "wrong")
        assert e.value.sqlstate == "28P01"


def test_others_go_on_while_logins_fail(pgweir):
    weir = pgweir()
    db = weir.connect()
    with db.cursor() as cursor:
        for n in range(20):
            with weir.raw() as c, pytest.raises(PgError):
                c.login("app_scram", "app", "wrong")
            cursor.execute("SELECT %s", (n,))
            assert cursor.fetchone() == (n,)
    db.close()


def test_reads_reach_the_replica_and_writes_the_primary(cluster, pgweir):
    weir = pgweir()
    weir.wait_reads_on_replica()
    assert weir.sql("CREATE TABLE IF NOT EXISTS login_probe (n int)") == []
    weir.sql("INSERT INTO login_probe VALUES (1)")
    cluster.wait_replayed()
    assert weir.sql("SELECT count(*) FROM login_probe")[0][0] >= 1
    weir.sql("DROP TABLE login_probe")


def test_every_user_of_the_list(pgweir):
    weir = pgweir()
    for user in ("app_scram", "app_md5", "app_plain"):
        assert weir.sql("SELECT session_user::text", user=user) == [(user,)], PASSWORDS
