"""client_statements_memory: how many prepared statements of one client pgweir remembers."""
import re

import pytest
from conftest import wait_until
from protocol import login, types
from rawpg import bind, close, execute, parse, query, sync

LIMIT = 20000
FULL = "the prepared statements of this client would need more than client_statements_memory"


@pytest.fixture
def weir(cluster, pgweir):
    return pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=3, client_statements_memory=LIMIT)


def answer(client, *messages):
    client.send(*messages)
    return client.read_until("Z")


def error(messages):
    return next(m.fields() for m in messages if m.type == "E")


def text(n):
    return f"SELECT 1, '{n:04}'"


def prepare(client, n):
    """True: it is prepared. False: it was refused, and the client is in step."""
    got = answer(client, parse(f"n{n:04}", text(n)), sync())
    assert types(got) in ("1Z", "EZ")
    if types(got) == "EZ":
        assert (error(got)["S"], error(got)["C"], error(got)["M"]) == ("ERROR", "53400", FULL)
    return types(got) == "1Z"


def fill(client):
    """Prepares as many as it may; how many that are."""
    n = 0
    while prepare(client, n):
        n += 1
    return n


def test_the_limit_holds_to_the_byte_for_each_client_and_says_so(weir):
    c, other = login(weir.port), login(weir.port)
    n = fill(c)
    got = answer(c, parse("one_more", text(9999)), sync())
    assert "Close or DEALLOCATE" in error(got)["H"]
    had, bytes_, limit = map(int, re.fullmatch(r"PGWEIR-STATEMENTS-MEMORY: (\d+) statements take (\d+) bytes, limit (\d+)"
                                               r" \(client_statements_memory\)\.", error(got)["D"]).groups())
    assert had == n > 10 and limit == LIMIT and bytes_ % n == 0
    each = bytes_ // n
    assert bytes_ <= LIMIT < bytes_ + each
    assert types(answer(c, close("S", "n0000"), sync())) == "3Z"
    longer = text(0) + " " * (LIMIT - bytes_)
    assert types(answer(c, parse("n0000", longer + " "), sync())) == "EZ"
    assert types(answer(c, parse("n0000", longer), sync())) == "1Z"
    assert fill(other) == n  # the same texts: they count for each
    assert answer(c, bind("", "n0007"), execute(), sync())[1].row() == [b"1", b"0007"]
    assert c.rows("SELECT 2") == [["2"]] and types(answer(c, parse("", "SELECT 3"), sync())) == "1Z"


def test_what_is_closed_is_room_again(weir):
    c = login(weir.port)
    n = fill(c)
    assert types(answer(c, close("S", "n0003"), sync())) == "3Z"
    assert prepare(c, 3) and not prepare(c, n)
    c.query("DEALLOCATE n0004")
    assert prepare(c, 4) and not prepare(c, n)
    got = answer(c, *(m for i in range(n) for m in (close("S", f"n{i:04}"), parse(f"m{i:04}", text(i)))), sync())
    assert types(got) == "31" * n + "Z"  # in one segment
    assert not prepare(c, 0)
    got = answer(c, *[close("S", "m0000")] * 9, parse("n0000", text(0)), parse("n0001", text(0)), sync())
    assert types(got) == "3" * 9 + "1EZ"  # one name is room for one
    c.send(close("S", "m0001"), sync(), parse("n0001", text(0)), sync(), parse("n0002", text(0)), sync())
    assert [types(c.read_until("Z")) for _ in range(3)] == ["3Z", "1Z", "EZ"]  # in one write
    for _ in range(2):
        c.query("DEALLOCATE ALL")
        assert fill(c) == n
    c.query("DISCARD ALL")
    assert fill(c) == n
    assert types(answer(c, parse("n0003", "SELECT 4"), sync())) == "EZ"
    assert error(answer(c, parse("n0003", "SELECT 4"), sync()))["C"] == "42P05"  # as it is without a limit


def test_what_is_under_way_counts_too_and_the_rest_of_the_segment_is_skipped(weir):
    c, same = login(weir.port), login(weir.port)
    n = fill(same)
    got = answer(c, *(parse(f"n{i:04}", text(i)) for i in range(n + 20)), bind("", "n0000"), execute(), sync())
    assert types(got) == "1" * n + "EZ" and error(got)["C"] == "53400"
    assert answer(c, bind("", f"n{n - 1:04}"), execute(), sync())[1].row() == [b"1", f"{n - 1:04}".encode()]
    c.query("DEALLOCATE ALL")
    bad = [m for i in range(5 * n) for m in (parse(f"n{i:04}", "SELECT nothing_like_this"), sync())]
    c.send(*bad)  # none of them becomes true: none stays counted
    assert all([m.fields()["C"] == "42703" for m in c.read_until("Z") if m.type == "E"] for _ in range(5 * n))
    assert fill(c) == n


def test_a_transaction_fails_as_by_any_other_error(weir):
    c = login(weir.port)
    n = fill(c)
    c.query("BEGIN")
    c.query("CREATE TEMP TABLE mine (n int) ON COMMIT DROP")
    assert not prepare(c, n) and c.status == "E"
    assert error(c.query("SELECT 1"))["C"] == "25P02"
    assert types(c.query("COMMIT")) == "CZ" and c.status == "I"
    assert c.rows("SELECT to_regclass('mine') IS NULL") == [["t"]]
    c.query("BEGIN")  # ours to answer: no server has heard of it yet
    assert not prepare(c, n) and c.status == "E"
    c.query("ROLLBACK")


@pytest.mark.parametrize("sql", ["BEGIN", "SET pgweir.route = 'primary'", "SHOW pgweir.route"])
def test_what_pgweir_answers_itself_counts_as_well(weir, sql):
    c = login(weir.port)
    names = 0
    while True:
        got = answer(c, parse(f"own{names}", sql), sync())
        if types(got) != "1Z":
            break
        names += 1
    assert types(got) == "EZ" and (error(got)["C"], error(got)["M"]) == ("53400", FULL) and 10 < names < LIMIT // 100
    assert c.status == "I" and c.rows("SELECT 1") == [["1"]]


def test_a_reload_moves_the_limit(weir):
    c = login(weir.port)
    n = fill(c)
    weir.reload(client_statements_memory=0)
    wait_until(lambda: prepare(c, n), what="no limit")
    assert all(prepare(c, i) for i in range(n + 1, 3 * n))
    weir.reload(client_statements_memory=LIMIT)
    wait_until(lambda: answer(c, parse("late", "SELECT 1"), sync())[0].type == "E"
               or types(answer(c, close("S", "late"), sync())) != "3Z", what="the limit is back")
    assert answer(c, bind("", f"n{2 * n:04}"), execute(), sync())[1].row() == [b"1", f"{2 * n:04}".encode()]


def test_on_a_replica_it_is_an_error_of_the_transaction_too(cluster, pgweir):
    weir = pgweir(client_statements_memory=LIMIT)
    weir.wait_reads_on_replica()
    c = login(weir.port)
    n = fill(c)
    c.query("BEGIN READ ONLY")
    assert c.rows("SELECT 1") == [["1"]]
    assert not prepare(c, n) and c.status == "E"
    c.query("ROLLBACK")
    got = answer(c, parse(f"n{n:04}", text(n)), bind("", f"n{n:04}"), execute(), sync())
    assert types(got) == "EZ" and error(got)["C"] == "53400" and c.status == "I"


def test_where_postgres_keeps_the_names_there_is_no_limit_of_ours(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, pool_mode="session", client_statements_memory=1)
    c = login(weir.port)
    assert all(prepare(c, i) for i in range(20))
    assert c.rows("SELECT count(*) FROM pg_prepared_statements") == [["20"]]
