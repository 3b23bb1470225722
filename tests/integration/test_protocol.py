"""The simple and the extended protocol, message by message: the same answers as PostgreSQL's own."""
import struct

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


@pytest.mark.parametrize("name", SCRIPTS)
def test_answers_are_those_of_postgres_with_a_replica(cluster, pgweir, name):
    weir = pgweir()
    weir.wait_reads_on_replica()
    same_as_postgres(cluster, weir, SCRIPTS[name])


@pytest.mark.parametrize("name", [n for n in SCRIPTS if n not in LONG])
def test_messages_may_come_byte_by_byte(cluster, pgweir, name):
    same_as_postgres(cluster, pgweir(), SCRIPTS[name], byte_by_byte)
