"""The simple and the extended protocol, message by message: the same answers as PostgreSQL's own."""
import struct
import threading

import pytest
from protocol import byte_by_byte, error_of, login, run, same_as_postgres, split_at, types
from rawpg import (bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, message, parse, query, sync)

BOOM = "SELECT 1/(n - 2) FROM generate_series(1, 3) n"  # fails at its second row


def pbe(sql, values=(), name="", portal="", rows=0):
    return parse(name, sql) + bind(portal, name, values) + execute(portal, rows)


def function_call(oid, *values):
    body = struct.pack("!IHH", oid, 0, len(values))
    for value in values:
        body += struct.pack("!i", len(value)) + value
    return message("F", body + struct.pack("!H", 0))


SCRIPTS = {
    "simple": [query("SELECT 1, 'two', NULL"), query("SELECT n FROM generate_series(1, 3) n"), query("VALUES (1), (2)")],
    "empty query": [query(""), query(" ; ;"), query("/* nothing */")],
    "several statements": [query("SELECT 1; SELECT 2; SELECT 3"), query("SELECT 1; SELECT 1/0; SELECT 2"),
                           query("BEGIN; SELECT 1; COMMIT"), query("BEGIN; SELECT 1"), query("SELECT 2"),
                           query("ROLLBACK")],
    "errors": [query("SELECT wrong"), query("SELEC 1"), query("SELECT 1/0"), query("SELECT 1"),
               query("BEGIN"), query("SELECT 1/0"), query("SELECT 1"), query("COMMIT"), query("SELECT 2")],
    "notice": [query("DO $$ BEGIN RAISE NOTICE 'n1'; RAISE WARNING 'w1'; END $$"), query("SELECT 1")],
    "simple pipeline": [query("SELECT 1") + query("SELECT 1/0") + query("SELECT 3"),
                        query("BEGIN") + query("SELECT 1") + query("COMMIT") + query("SELECT 2")],
    "sync alone": [sync(), sync() + sync(), query("SELECT 1"), sync()],
    "unnamed": [parse("", "SELECT $1::int + 1") + describe("S") + bind("", "", [41]) + describe("P") + execute() + sync(),
                bind("", "", [1]) + execute() + sync(), bind("", "", [2]) + execute() + sync()],
    "unnamed goes with a query": [parse("", "SELECT 7") + sync(), query("SELECT 1"), bind("", "") + execute() + sync()],
    "unnamed never parsed": [bind("", "") + execute() + sync(), describe("S") + sync(), query("SELECT 1")],
    "unnamed whose parse failed": [parse("", "SELECT 7") + sync(), parse("", "SELEC") + sync(),
                                   bind("", "") + execute() + sync()],
    "unnamed closed": [parse("", "SELECT 7") + sync(), close("S") + sync(), bind("", "") + execute() + sync()],
    "named": [parse("s", "SELECT $1::text") + describe("S", "s") + sync(), bind("", "s", ["a"]) + execute() + sync(),
              bind("", "s", ["b"]) + describe("P") + execute() + sync(), describe("S", "s") + sync(),
              close("S", "s") + sync(), bind("", "s", ["c"]) + execute() + sync()],
    "close and parse again": [parse("s", "SELECT 1") + sync(), close("S", "s") + parse("s", "SELECT 2") + sync(),
                              bind("", "s") + execute() + sync(), close("S", "s") + sync() + parse("s", "SELECT 3") + sync(),
                              bind("", "s") + execute() + sync()],
    "close of nothing": [close("S", "no") + close("P", "no") + sync(), close("S", "no") + sync()],
    "duplicate name": [parse("s", "SELECT 1") + sync(), parse("s", "SELECT 2") + bind("", "s") + execute() + sync(),
                       bind("", "s") + execute() + sync(), parse("s", "SELECT 1") + sync(),
                       parse("t", "SELECT 3") + parse("t", "SELECT 4") + sync(), bind("", "t") + execute() + sync()],
    "duplicate name in a transaction": [query("BEGIN") + parse("s", "SELECT 1") + sync(), parse("s", "SELECT 2") + sync(),
                                        parse("u", "SELECT 2") + sync(), query("ROLLBACK"),
                                        bind("", "s") + execute() + sync(), bind("", "u") + execute() + sync()],
    "a taken name and another error": [
        parse("s", "SELECT 1") + sync(), parse("s", "SELEC") + sync(), parse("s", "SELECT * FROM nowhere") + sync(), query("BEGIN; SELECT 1/0"),
        parse("s", "SELECT 2") + sync(), query("ROLLBACK"), parse("n" * 70, "SELECT 3") + parse("n" * 70, "SELECT 4") + sync(),
        bind("", "s") + execute() + sync()],
    "too many values": [parse("s", "SELECT 1") + bind("", "s", ["1"]) + sync(), bind("", "s", ["1"]) + sync(), bind("", "s") + execute() + sync()],
    "binds in a failed transaction": [
        parse("s", "SELECT $1::int, $2::text") + parse("r", "ROLLBACK") + sync(), query("BEGIN; SELECT 1/0"), bind("", "s", ["1", "x"]) + execute() + sync(),
        bind("", "r") + execute() + bind("", "s", ["1", "x"]) + execute() + sync(), query("BEGIN; SAVEPOINT p; SELECT 1/0"),
        bind("", "s", ["1", "x"]) + execute() + sync(), bind("", "r") + execute() + sync(), bind("", "s", ["2", None]) + execute() + sync(),
        parse("", "SELECT 7") + sync(), query("BEGIN; SELECT 1/0") + bind("", "") + sync(), query("ROLLBACK")],
    "a query that is skipped": [
        parse("", "SELECT 7") + sync(), (execute("p1") + query("SELECT 8") + function_call(870, b"A") + sync(), "Z"), bind("", "") + execute() + sync(),
        (pbe("SELECT 1") + query("SELECT 2") + bind("", "") + sync(), "ZZ"), query("BEGIN"), (execute("p1") + query("COMMIT") + sync(), "Z"), query("ROLLBACK")],
    "begin leaves no portal": [query("BEGIN"), describe("P") + sync(), query("ROLLBACK"), query("BEGIN"), execute() + sync(), query("ROLLBACK")],
    "wrong messages": [
        *[message(kind, body) + sync() for kind, body in [
            ("P", b"s1\0SELECT 1"), ("P", b"s1\0SELECT 1\0\xff\xff"), ("P", b"s1\0SELECT 1\0\0\0more"), ("B", b"no end"), ("D", b"Ss"), ("D", b"Sno\0more"),
            ("D", b""), ("C", b"Ss"), ("C", b"Sno\0more"), ("C", b"x\0")]],
        message("S", b"x"), query("BEGIN"), message("S", b"x"), query("ROLLBACK"), query("SELECT 1")],
    "failed parse, same name again": [parse("s", "SELECT wrong") + sync(), parse("s", "SELECT 5") + sync(),
                                      bind("", "s") + execute() + sync(),
                                      parse("t", "SELEC") + bind("", "t") + execute() + sync() + parse("t", "SELECT 6") + sync(),
                                      bind("", "t") + execute() + sync()],
    "unknown name": [bind("", "nope") + execute() + sync(), describe("S", "nope") + sync(), query("SELECT 1"),
                     execute("nope") + sync(), describe("P", "nope") + sync()],
    "parse after an error of its segment": [query("SELECT 1/0") + parse("s", "SELECT 1") + sync(),
                                            bind("", "no") + parse("x", "SELECT 1") + sync(),
                                            bind("", "x") + execute() + sync(), bind("", "s") + execute() + sync()],
    "pipeline": [b"".join(pbe(f"SELECT {n}") for n in range(5)) + sync(),
                 b"".join(pbe(f"SELECT {n}") + sync() for n in range(5))],
    "pipeline with an error": [pbe("SELECT 1") + pbe("SELECT 1/0") + pbe("SELECT 3") + sync() + pbe("SELECT 4") + sync(),
                               pbe("SELECT 1") + sync() + pbe("SELEC") + pbe("SELECT 2") + sync() + query("SELECT 5")],
    "error among rows": [query(BOOM), pbe(BOOM) + pbe("SELECT 1") + sync(), pbe("SELECT 2") + sync()],
    "flush": [(parse("f", "SELECT $1::int") + describe("S", "f") + flush(), "1tT"),
              (bind("", "f", [5]) + execute() + sync(), "Z"),
              (parse("", "SELECT 8") + flush(), "1"), (bind("", "") + flush(), "2"), (describe("P") + flush(), "T"),
              (execute() + flush(), "C"), (close("P") + flush(), "3"), (sync(), "Z")],
    "flush and an error": [(parse("", "SELEC") + flush(), "E"), (bind("", "") + flush() + sync(), "Z"),
                           (parse("", "SELECT 1/0") + bind("", "") + execute() + flush(), "E"), (sync(), "Z"),
                           query("SELECT 1")],
    "row limits": [(pbe("SELECT n FROM generate_series(1, 5) n", portal="p", rows=2) + flush(), "s"),
                   (execute("p", 2) + flush(), "s"), (execute("p", 2) + flush(), "C"), (sync(), "Z"),
                   (execute("p", 2) + sync(), "Z")],
    "a portal in a transaction": [query("BEGIN"), pbe("SELECT n FROM generate_series(1, 5) n", portal="p", rows=2) + sync(),
                                  execute("p", 2) + sync(), query("SELECT 1"), execute("p") + sync(), close("P", "p") + sync(),
                                  execute("p") + sync(), query("ROLLBACK")],
    "function call": [function_call(870, b"ABC"), function_call(870, b"ABC") + query("SELECT 1"),
                      function_call(1, b""), query("SELECT 1")],
    "sql prepare": [query("PREPARE sq AS SELECT 1"), query("EXECUTE sq"), query("DEALLOCATE sq"), query("EXECUTE sq")],
    "deallocate all": [parse("s", "SELECT 1") + sync(), query("DEALLOCATE ALL"), bind("", "s") + execute() + sync(),
                       parse("s", "SELECT 2") + sync(), bind("", "s") + execute() + sync()],
    "discard all": [parse("s", "SELECT 1") + sync(), query("DISCARD ALL"), bind("", "s") + execute() + sync(),
                    parse("s", "SELECT 1") + bind("", "s") + execute() + sync(), bind("", "s") + execute() + sync()],
    "deallocate all in a pipeline": [parse("s", "SELECT 1") + sync(),
                                     query("DEALLOCATE ALL") + parse("s", "SELECT 1") + bind("", "s") + execute() + sync(),
                                     bind("", "s") + execute() + sync()],
    "deallocate all in a transaction": [parse("s", "SELECT 1") + sync(), query("BEGIN"), query("DEALLOCATE ALL"),
                                        parse("s", "SELECT 2") + sync(), bind("", "s") + execute() + sync(),
                                        query("COMMIT"), bind("", "s") + execute() + sync()],
    "deallocate all by the extended protocol": [parse("s", "SELECT 1") + sync(), pbe("DEALLOCATE ALL") + sync(),
                                                parse("s", "SELECT 2") + bind("", "s") + execute() + sync()],
    "copy in": [query("CREATE TEMP TABLE c (n int)"), (query("COPY c FROM STDIN"), "G"),
                (copy_data(b"1\n2\n") + copy_data(b"3\n") + copy_done(), "Z"), query("SELECT n + 0 FROM c"), query("DROP TABLE c")],
    "copy in at once": [query("CREATE TEMP TABLE c (n int)"),
                        (query("COPY c FROM STDIN") + copy_data(b"1\n2\n") + copy_done() + query("SELECT n + 0 FROM c"), "ZZ"),
                        query("DROP TABLE c")],
    "copy fails by us": [query("CREATE TEMP TABLE c (n int)"), (query("COPY c FROM STDIN"), "G"),
                         (copy_data(b"1\n") + copy_fail("enough"), "Z"), query("SELECT n + 0 FROM c"), query("DROP TABLE c")],
    "copy fails by its data": [query("CREATE TEMP TABLE c (n int)"), (query("COPY c FROM STDIN"), "G"),
                               (copy_data(b"1\nx\n") + copy_data(b"3\n") + copy_done(), "Z"),
                               query("SELECT n + 0 FROM c"), query("DROP TABLE c")],
    "copy in, extended": [query("CREATE TEMP TABLE c (n int)"), (pbe("COPY c FROM STDIN") + sync(), "G"),
                          (copy_data(b"1\n") + copy_done() + sync(), "Z"), query("SELECT n + 0 FROM c"),
                          (pbe("COPY c FROM STDIN") + flush(), "G"), (copy_data(b"2\n") + copy_done() + sync(), "Z"),
                          (pbe("COPY c FROM STDIN") + sync(), "G"), (copy_data(b"x\n") + copy_done() + sync(), "Z"),
                          (pbe("COPY c FROM STDIN") + sync(), "G"), (copy_fail("no") + sync(), "Z"),
                          query("SELECT n + 0 FROM c"), query("DROP TABLE c")],
    "copy fails ahead of Syncs": [
        query("CREATE TEMP TABLE c (n int)"), (query("COPY c FROM STDIN") + copy_data(b"x\n") + sync() + sync() + query("SELECT 1"), "ZZZZ"),
        (pbe("COPY c FROM STDIN") + copy_data(b"x\n") + sync() + copy_data(b"2\n") + copy_done() + sync(), "ZZ"),
        (pbe("COPY c FROM STDIN") + copy_data(b"1\n") + sync() + copy_data(b"x\n") + sync() + pbe("SELECT 2") + sync(), "ZZ"),
        (pbe("COPY c FROM STDIN") + copy_data(b"1\n") + sync() + copy_data(b"x\n") + copy_done() + pbe("SELECT 3") + sync(), "Z"),
        (pbe("COPY c FROM STDIN") + copy_data(b"1\n") + sync() + copy_done() + pbe("SELECT 4") + sync(), "Z"),
        (pbe("COPY c FROM STDIN") + flush(), "G"), (copy_data(b"x\n"), "E"), (copy_data(b"2\n") + copy_done() + sync() + query("SELECT 5"), "ZZ"),
        query("BEGIN"), (query("COPY c FROM STDIN") + copy_data(b"x\n") + sync() + query("ROLLBACK"), "ZZZ"),
        query("SELECT n + 0 FROM c"), query("DROP TABLE c")],
    "copy data behind a row": [
        (pbe("SELECT 1") + copy_data(b"x\n") + pbe("SELECT 2") + copy_done() + sync(), "Z"),
        (parse("", "SELECT 1") + copy_data(b"x\n") + pbe("SELECT 2") + copy_data(b"x\n") + sync(), "Z")],
    "copy out": [query("COPY (SELECT n FROM generate_series(1, 3) n) TO STDOUT"),
                 pbe("COPY (SELECT n FROM generate_series(1, 3) n) TO STDOUT") + sync(),
                 query("COPY (%s) TO STDOUT" % BOOM), pbe("COPY (%s) TO STDOUT" % BOOM) + sync(), query("SELECT 1")],
    "copy data out of place": [(copy_data(b"1\n") + copy_done() + query("SELECT 1"), "Z"),
                               query("BEGIN"), (copy_data(b"1\n") + copy_done() + query("SELECT 1"), "Z"), query("COMMIT")],
    "large values": [query("SELECT repeat('x', 100000)"), pbe("SELECT length($1)", ["y" * 70000]) + sync(),
                     query("SELECT length('%s')" % ("z" * 70000))],
    "many types": [parse("", "SELECT $1, $2", [23, 25]) + bind("", "", [1, "x"]) + describe("P") + execute() + sync(),
                   parse("s", "SELECT $1", [23]) + describe("S", "s") + sync(),
                   parse("t", "SELECT $1", [25]) + describe("S", "t") + sync()],
}
LONG = {"large values"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_answers_are_those_of_postgres(cluster, pgweir, name):
    same_as_postgres(cluster, pgweir(databases={"app": cluster.entry(["primary"])}), SCRIPTS[name])


@pytest.mark.parametrize("before", [b"", parse("", "SELECT 1"), query("BEGIN") + parse("", "SELECT 1")])
def test_an_unknown_message_ends_the_session_behind_the_answers(cluster, pgweir, before):
    weir, got = pgweir(), []
    for port in (cluster.ports["primary"], weir.port):
        with login(port) as c:
            c.send(before, message("z"), query("SELECT 2"))
            got.append(c.expect_closed())
    direct, answers = ([m.type for m in answers] for answers in got)
    assert direct == answers
    assert error_of(got[1]).fields["S"] == "FATAL" and error_of(got[1]).sqlstate == "08P01"
    with login(weir.port) as c:
        assert c.rows("SELECT 1") == [["1"]]


def test_answers_are_those_of_postgres_with_a_replica(cluster, pgweir):
    weir = pgweir()
    weir.wait_reads_on_replica()
    for script in SCRIPTS.values():
        same_as_postgres(cluster, weir, script)


def test_messages_may_come_byte_by_byte(cluster, pgweir):
    weir = pgweir()
    for name in SCRIPTS.keys() - LONG:
        same_as_postgres(cluster, weir, SCRIPTS[name], byte_by_byte)


class Disturber:
    """Between the steps of a script: other clients use the same names on the server that the script used last, and
    keep it busy every second time, so that the script goes on elsewhere."""

    def __init__(self, port):
        self.holder, self.other, self.held = login(port), login(port), False

    def __call__(self):
        self.holder.query("COMMIT" if self.held else "BEGIN; SELECT 1")
        self.held = not self.held
        self.other.send(pbe("SELECT 'not yours'") + close("S", "s") + close("S", "t") + parse("s", "SELECT 'other s'") +
                        parse("t", "SELECT 'other t'") + parse("", "SELECT 'other'") + sync())
        assert "E" not in types(self.other.read_until("Z"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.terminate()
        self.other.terminate()


@pytest.mark.parametrize("workers", [1, 2])
def test_other_clients_in_between_change_nothing(cluster, pgweir, workers):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=4, workers=workers)
    for script in SCRIPTS.values():
        with Disturber(weir.port) as disturber:
            same_as_postgres(cluster, weir, script, between=disturber)


@pytest.mark.parametrize("options", [{"max_prepared_statements": 2}, {"max_prepared_statements": 0},
                                     {"pool_mode": "session"}], ids=["two", "none", "session"])
def test_answers_with_other_limits(cluster, pgweir, options):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, **options)
    for name in ("named", "unnamed", "duplicate name", "close and parse again", "pipeline with an error",
                 "deallocate all", "discard all", "flush", "many types", "copy in, extended"):
        same_as_postgres(cluster, weir, SCRIPTS[name])


def test_each_step_split_at_every_place(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])})
    for script in (SCRIPTS["named"][:2], SCRIPTS["copy out"][:1], SCRIPTS["flush"][:2], SCRIPTS["pipeline with an error"][:1]):
        longest = max(len(step[0] if isinstance(step, tuple) else step) for step in script)
        with login(cluster.ports["primary"]) as c:
            expected = run(c, script)
        for at in range(1, longest):
            with login(weir.port) as c:
                assert run(c, script, split_at(at)) == expected, f"split at {at}"


def test_many_clients_with_the_same_names_and_few_servers(pgweir):
    weir = pgweir(default_pool_size=2, max_prepared_statements=3)
    clients = [login(weir.port) for _ in range(6)]
    for i, c in enumerate(clients):
        for n in range(4):
            c.send(parse(f"s{n}", f"SELECT {i * 10 + n} + $1::int") + sync())
        for _ in range(4):
            assert types(c.read_until("Z")) == "1Z"
    for r in range(12):
        for i, c in enumerate(clients):
            c.send(bind("", f"s{r % 4}", [r]) + execute() + sync())
        for i, c in enumerate(clients):
            assert c.read_until("Z")[1].row() == [str(i * 10 + r % 4 + r).encode()]


@pytest.mark.parametrize("size", [900_000, 3_000_000])
@pytest.mark.parametrize("name", ["", "long"])
def test_a_long_parse(cluster, pgweir, size, name):
    text = f"SELECT length('{'x' * size}') + $1::int"
    script = [parse(name, text) + describe("S", name) + sync(), bind("", name, [1]) + execute() + sync(),
              bind("", name, [2]) + execute() + sync(), parse("", "SELECT 5") + sync(), bind("", "") + execute() + sync()]
    if name:
        script += [bind("", name, [3]) + execute() + sync(), parse(name, text) + sync(), close("S", name) + sync(),
                   bind("", name, [3]) + execute() + sync()]
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=4)
    same_as_postgres(cluster, weir, script, between=Disturber(weir.port))


def test_long_messages(cluster, pgweir):
    big = "y" * 2_000_000
    script = [query("SELECT length('%s')" % ("q" * 5_000_000)), query("SELECT 1"),
              parse("b", "SELECT length($1)") + bind("", "b", [big]) + execute() + sync(),
              bind("", "b", [big]) + execute() + bind("", "b", ["z"]) + execute() + sync(),
              parse("", "SELECT $1::text") + bind("", "", [big]) + execute() + sync(), bind("", "nope", [big]) + sync(),
              query("SELECT wrong -- " + big) + query("SELECT 2")]
    weir = pgweir()
    same_as_postgres(cluster, weir, script)
    same_as_postgres(cluster, weir, script, split_at(-3))


def test_a_pipeline_longer_than_all_buffers(cluster, pgweir):
    """Far more than may be outstanding: the client has to be stopped, and both sides go on."""
    n = 12_000
    weir = pgweir()
    for data, expected in ((query("SELECT 1") * n, "TDCZ" * n), (pbe("SELECT 1") * n + sync(), "12DC" * n + "Z"),
                           ((pbe("SELECT 1") + sync()) * n, "12DCZ" * n)):
        with login(weir.port) as c:
            sender = threading.Thread(target=c.sock.sendall, args=(data,))
            sender.start()
            got = []
            while len(got) < len(expected):
                got.append(c.read(20).type)
            sender.join()
            assert "".join(got) == expected


def test_a_lone_flush_or_sync_takes_no_server(cluster, pgweir):
    weir = pgweir(default_pool_size=1, queue_timeout="10s", databases={"app": cluster.entry(["primary"])})
    holder, c = login(weir.port), login(weir.port)
    holder.query("BEGIN; SELECT 1")
    c.send(flush() + sync() + flush() + sync())
    assert types(c.read_until("Z") + c.read_until("Z")) == "ZZ"
    c.send(close("S", "x") + close("S") + sync())
    assert types(c.read_until("Z")) == "33Z"
    holder.query("COMMIT")


def test_prepared_commit_and_rollback_on_a_server_without_them(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=4)
    script = [parse("c", "COMMIT") + parse("r", "ROLLBACK") + sync(), query("BEGIN"), bind("", "c") + execute() + sync(),
              query("BEGIN") + query("SELECT 1/0"), bind("", "r") + execute() + sync(),
              query("BEGIN") + query("SELECT 1/0"), bind("", "c") + execute() + sync(), query("SELECT 1")]
    same_as_postgres(cluster, weir, script, between=Disturber(weir.port))


def test_a_name_of_ours_reaches_nobodys_statement(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, workers=1)
    one, two = login(weir.port), login(weir.port)
    one.send(parse("secret", "SELECT 'secret'") + sync())
    one.read_until("Z")
    for n in range(4):
        two.send(bind("", f"_pgweir_0_{n}") + execute() + sync())
        assert error_of(two.read_until("Z")).sqlstate == "26000"
