"""PAUSE, RESUME, RECONNECT, WAIT_CLOSE, KILL, DISABLE and ENABLE act on all workers; PAUSE answers when no server is left."""
import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import Deadline, PgError, RawPg, query


def open_db(weir, database):
    return RawPg(weir.port).login("app_scram", database, "secret")


@pytest.fixture(params=[1, 4])
def weir(request, cluster, pgweir):
    entry = cluster.entry(["primary"])
    return pgweir(databases={"app": entry, "other": entry}, default_pool_size=4, workers=request.param, queue_timeout="1s",
                  admin_users="app_scram")


@pytest.fixture
def console(weir):
    return open_db(weir, "pgweir")


def servers(cluster, weir):
    return int(cluster.sql("primary", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_scram'")[0][0])


def says(console, text):
    answer = console.query(text)
    assert "E" not in types(answer), error_of(answer)
    return [m.body.rstrip(b"\0").decode() for m in answer if m.type == "C"][-1]


def test_pause_waits_for_transactions_and_holds_who_comes(cluster, weir, console):
    busy, idle, new = (login(weir.port) for _ in range(3))
    idle.query("SELECT 1")
    busy.query("BEGIN; SELECT 1")
    console.send(query("PAUSE app"))
    wait_until(lambda: servers(cluster, weir) == 1, what="idle servers are closed, the busy one stays")
    new.send(query("SELECT 'later'"))
    with pytest.raises(Deadline):
        console.read_until("Z", 0.3)
    assert types(busy.query("COMMIT")) == "CZ"
    assert types(console.read_until("Z")) == "CZ"
    assert servers(cluster, weir) == 0
    with pytest.raises(Deadline):  # longer than queue_timeout: who waits for RESUME is not shed
        new.read_until("Z", 2.5)
    assert open_db(weir, "other").rows("SELECT 1") == [["1"]]
    assert says(console, "RESUME app") == "RESUME"
    assert types(new.read_until("Z")) == "TDCZ"
    assert idle.rows("SELECT 1") == [["1"]]


def test_who_waited_for_resume_has_its_whole_time_for_a_server(cluster, pgweir):
    """Many come during a PAUSE, and all want a server when it ends."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="4s", workers=2)
    console, clients = open_db(weir, "pgweir"), [login(weir.port) for _ in range(5)]
    assert says(console, "PAUSE app") == "PAUSE"
    for c in clients:
        c.send(query("SELECT pg_sleep(0.5)"))
    with pytest.raises(Deadline):
        clients[0].read_until("Z", 4.5)
    assert says(console, "RESUME app") == "RESUME"
    assert [types(c.read_until("Z")).lstrip("N") for c in clients] == ["TDCZ"] * 5  # a NOTICE says that they wait


def test_who_comes_when_all_had_left_a_paused_database_logs_in(weir, console):
    """Without a server: what they are greeted with is known from before."""
    old = login(weir.port)
    assert says(console, "PAUSE app") == "PAUSE"
    old.close()
    weir.wait_log(r"client\.logout .*reason=client_left")
    login(weir.port)


def test_who_is_the_first_to_come_during_a_pause_is_told_of_it(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, client_login_timeout="1s")
    assert says(open_db(weir, "pgweir"), "PAUSE app") == "PAUSE"
    with pytest.raises(PgError) as late:
        login(weir.port)
    assert "the database is paused" in late.value.fields["D"]


def test_pause_of_all_and_resume_by_another_console(cluster, weir, console):
    clients = [open_db(weir, d) for d in ("app", "other", "app")]
    for c in clients:
        c.query("SELECT 1")
    assert says(console, "pause;") == "PAUSE"
    assert servers(cluster, weir) == 0
    for c in clients:
        c.send(query("SELECT 1"))
    other = open_db(weir, "pgweir")
    assert says(other, "RESUME") == "RESUME"
    for c in clients:
        assert types(c.read_until("Z")) == "TDCZ"


def test_reconnect_closes_what_is_free_now_and_the_others_later(cluster, weir, console):
    pid = "SELECT pg_backend_pid()"
    busy = login(weir.port)
    busy.query("BEGIN; SELECT 1")
    kept = busy.rows(pid)
    before = login(weir.port).rows(pid)
    assert says(console, 'RECONNECT "app"') == "RECONNECT"
    console.send(query("WAIT_CLOSE app"))
    assert login(weir.port).rows(pid) not in (before, kept)
    with pytest.raises(Deadline):
        console.read_until("Z", 0.3)
    assert busy.rows(pid) == kept
    busy.query("COMMIT")
    assert types(console.read_until("Z")) == "CZ"
    assert busy.rows(pid) not in (before, kept)
    assert says(console, "WAIT_CLOSE") == "WAIT_CLOSE"


def test_kill_ends_clients_and_servers_and_pauses(cluster, weir, console):
    running, idle, other = login(weir.port), login(weir.port), open_db(weir, "other")
    weir.wait_log(r"catalog\.loaded database=app")  # until then nothing is known to be a read, and the outcome not known
    idle.query("SELECT 1")
    running.send(query("SELECT pg_sleep(60)"))
    cluster.wait_active("pg_sleep(60)")
    assert says(console, "KILL app") == "KILL"
    for c in (running, idle):
        assert [m.fields()["C"] for m in c.expect_closed(5) if m.type == "E"] == ["57P01"]
    assert other.rows("SELECT 1") == [["1"]]
    new = login(weir.port)
    new.send(query("SELECT 1"))
    with pytest.raises(Deadline):
        new.read_until("Z", 0.3)
    assert says(console, "RESUME app") == "RESUME"
    assert types(new.read_until("Z")) == "TDCZ"
    wait_until(lambda: not cluster.active("pg_sleep(60)"))


def test_kill_does_not_call_refused_what_may_be_done(cluster, weir, console):
    """A write whose answer has not come: unknown. Within a transaction it is rolled back."""
    alone, within = login(weir.port), login(weir.port)
    alone.send(query("CREATE TABLE kill_t AS SELECT 1 FROM pg_sleep(60)"))
    within.query("BEGIN")
    within.send(query("CREATE TABLE kill_t AS SELECT 1 FROM pg_sleep(60)"))
    cluster.wait_active("kill_t", 2)
    assert says(console, "KILL app") == "KILL"
    for c, sqlstate in ((alone, "08007"), (within, "57P01")):
        assert [m.fields()["C"] for m in c.expect_closed(5) if m.type == "E"] == [sqlstate]
    wait_until(lambda: not cluster.active("kill_t"))


def test_disable_refuses_logins_only(weir, console):
    c = login(weir.port)
    assert says(console, "DISABLE app") == "DISABLE"
    assert c.rows("SELECT 1") == [["1"]]
    with pytest.raises(PgError) as refused:
        login(weir.port)
    assert refused.value.fields["C"] == "55000"
    assert says(console, "ENABLE app") == "ENABLE"
    assert login(weir.port).rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("text,sqlstate", [("PAUSE nowhere", "3D000"), ("DISABLE", "42601"), ("PAUSES", "42601"), ("RESUME app other", "3D000")])
def test_what_is_wrong_is_said(weir, console, text, sqlstate):
    assert error_of(console.query(text)).sqlstate == sqlstate


def test_only_admins_may(cluster, pgweir):
    weir = pgweir(stats_users="app_scram", admin_users="")
    console = open_db(weir, "pgweir")
    for word in ("PAUSE", "RESUME", "KILL", "DISABLE app", "ENABLE app", "RECONNECT", "WAIT_CLOSE"):
        assert error_of(console.query(word)).sqlstate == "42501"


def test_a_console_that_leaves_leaves_nothing(cluster, weir, console):
    busy = login(weir.port)
    busy.query("BEGIN; SELECT 1")
    console.send(query("PAUSE"))
    wait_until(lambda: "command=pause" in weir.log())
    console.close()
    busy.query("COMMIT")
    assert says(open_db(weir, "pgweir"), "RESUME") == "RESUME"
    assert busy.rows("SELECT 1") == [["1"]]
