"""`pgweir route`: what it prints, and that no input breaks it."""
import json
import subprocess

import pytest
from conftest import BINARY, RELEASE

REASONS = [
    ("SELECT count(*) FROM t", "read", "replica", "read"),
    ("SELECT n FROM t FOR UPDATE", "locking_read", "primary", "locking_read"),
    ("SELECT nextval('s')", "writer_function", "primary", "writer_function"),
    ("SELECT my_function(1)", "unknown", "primary", "unknown_function"),
    ("INSERT INTO t VALUES (';')", "write", "primary", "write"),
    ("WITH d AS (DELETE FROM t RETURNING 1) SELECT 1", "hidden_write", "primary", "hidden_write"),
    ("COPY t TO STDOUT", "copy_out", "replica", "copy_out"),
]


def route(*args, stdin=b"", code=0, binary=BINARY):
    done = subprocess.run([binary, "route", *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout.decode("utf-8") if code == 0 else done.stderr.decode()


def objects(*args, **more):
    found = [json.loads(line) for line in route("--json", *args, **more).splitlines()]
    assert all(sorted(o) == ["class", "reason", "route", "sql"] for o in found), found
    return found


def routes(text):
    return [(o["route"], o["reason"]) for o in objects(text)]


def test_each_statement_has_class_route_and_reason():
    found = objects(*(f"{sql};" for sql, *_ in REASONS))
    assert [tuple(o[k] for k in ("sql", "class", "route", "reason")) for o in found] == REASONS


def test_arguments_a_file_and_standard_input_are_the_same(tmp_path):
    text = ";\n".join(sql for sql, *_ in REASONS)  # no semicolon at the end
    file = tmp_path / "some.sql"
    file.write_text(text)
    assert objects(text) == objects(stdin=text.encode()) == objects("-f", file) == objects("--file", file)
    assert len(objects(text)) == len(REASONS)
    assert route(text) == route("-f", file) == route("--", text)


def test_the_table_is_aligned_and_each_statement_is_one_line():
    lines = route("SELECT 1,\n\t 2; SELECT nextval('s'); SELECT '\x1b[2J'; SELECT '" + "ä" * 200 + "'").splitlines()
    assert lines[0].split() == ["class", "route", "reason", "statement"] and len(lines) == 5
    at = lines[0].index("statement")
    assert [line[at:] for line in lines[1:3]] == ["SELECT 1, 2", "SELECT nextval('s')"]
    assert lines[3][at:] == "SELECT '?[2J'"
    assert lines[4].endswith("ä ...") and len(lines[4].encode()) < at + 110
    assert lines[2].split()[:3] == ["writer_function", "primary", "writer_function"]


def test_empty_statements_and_comments():
    assert objects("", ";;", " -- nothing", "/* */") == []
    assert [(o["sql"], o["class"]) for o in objects("/* a */; SELECT 1 /* b */; -- c")] == [
        ("/* a */", "empty"), ("SELECT 1 /* b */", "read")]


READ, TX, READ_ONLY = ("replica", "read"), ("primary", "transaction"), ("replica", "read_only_tx")


@pytest.mark.parametrize("text,expected", [
    ("BEGIN; SELECT 1; COMMIT; SELECT 1", [TX] * 3 + [READ]),
    ("BEGIN READ ONLY; SELECT 1; SAVEPOINT s; SELECT 2; COMMIT; SELECT 1", [READ_ONLY] * 5 + [READ]),
    ("BEGIN READ ONLY; SELECT pg_advisory_lock(1); SELECT 1; ROLLBACK; SELECT 1", [READ_ONLY, TX, TX, TX, READ]),
    ("BEGIN READ ONLY; SELECT 1; SELECT txid_current(); SELECT 2; END", [READ_ONLY] * 2 + [("primary", "tx_moved"), TX, TX]),
    ("BEGIN READ ONLY, ISOLATION LEVEL SERIALIZABLE; SELECT 1", [("primary", "serializable")] * 2),
    ("BEGIN; SET TRANSACTION READ ONLY; SELECT 1; COMMIT AND CHAIN; SELECT 2; END; SELECT 3", [TX] + [READ_ONLY] * 5 + [READ]),
    ("BEGIN; COMMIT AND CHAIN; SELECT 1; ROLLBACK; SELECT 1", [TX] * 4 + [READ]),
    ("BEGIN READ ONLY; INSERT INTO t VALUES (1); END", [READ_ONLY] * 3),  # its own error, there as here
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; BEGIN; SELECT 1; END; BEGIN READ WRITE; SELECT 1; END",
     [("primary", "session_state")] + [READ_ONLY] * 3 + [TX] * 3),
    ("BEGIN; BEGIN READ ONLY; SELECT 1", [TX] * 3),
    ("BEGIN READ ONLY; SELECT 1; SELECT f(); SELECT 2; END", [READ_ONLY] * 2 + [("primary", "tx_moved"), TX, TX]),
    ("BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT f()", [READ_ONLY] * 3),
])
def test_a_transaction_is_one_place(text, expected):
    assert routes(text) == expected


def test_hints_count():
    assert routes("/* pgweir: route=primary */ SELECT 1; SELECT 2 /* pgweir: route=replica */; SELECT 3") == [
        ("primary", "hint_primary"), READ, READ]
    assert routes("SELECT f() /* pgweir: route=replica */") == [("primary", "unknown_function")]
    assert routes("SELECT f() /* pgweir: route=replica! */")[0][0] == "replica"


def test_nul_bytes_and_broken_text_are_told_and_go_to_the_primary():
    text = b"SELECT 1\0 FROM t; SELECT 2; SELECT '\xff\xc3\xa4\xed\xa0\x80'; SELECT 3abc; SELECT 4; SELECT 'x; SELECT 5"
    found = objects(stdin=text)
    assert [o["sql"] for o in found] == ["SELECT 1\0 FROM t", "SELECT 2", "SELECT '\ufffdä\ufffd\ufffd\ufffd'", "SELECT 3abc",
                                         "SELECT 4", "SELECT 'x; SELECT 5"]
    assert [o["reason"] for o in found] == ["bad_token", "read", "read", "bad_token", "read", "bad_token"]
    assert len(route(stdin=text).splitlines()) == 7
    for raw in (bytes(range(256)) * 40, b"\xf0\x9f", b"\0", b"'", b"$", b'"', b"/*", b"U&", b";" * 1000):
        objects(stdin=raw)


def test_answers_come_while_the_input_is_still_open():
    with subprocess.Popen([BINARY, "route", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        for n in range(3):
            p.stdin.write(b"SELECT %d" % n)
            p.stdin.flush()
            p.stdin.write(b";\n")
            p.stdin.flush()
            assert json.loads(p.stdout.readline())["sql"] == f"SELECT {n}"
        p.stdin.close()
        assert p.stdout.read() == b"" and p.wait() == 0


def test_a_large_input_is_streamed():
    many = 50000
    text = b"SELECT a.id, b.total FROM accounts a JOIN orders b ON b.id = a.id WHERE a.id = 17 AND b.state = 'open; not paid';\n" * many
    lines = route("--json", stdin=text, binary=RELEASE).splitlines()
    assert len(lines) == many and len(set(lines)) == 1 and '"route":"replica"' in lines[0]
    long = b"SELECT '" + b"x;" * 5_000_000 + b"'; SELECT 2"
    assert [len(o["sql"]) for o in objects(stdin=long, binary=RELEASE)] == [10_000_009, 8]


def test_bad_usage_and_files_that_are_not_there(tmp_path):
    assert "usage: pgweir route" in route("--help")
    for args in (["--no-such"], ["-f"], ["--catalog"], ["-f", "x", "SELECT 1"]):
        assert "usage: pgweir route" in route(*args, code=64)
    assert "No such file" in route("-f", tmp_path / "no.sql", code=66)
    assert "directory" in route("-f", tmp_path, code=66)


def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run([BINARY, "route", "SELECT 1"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 74 and "No space left" in done.stderr


CATALOG = """
DROP SCHEMA IF EXISTS told CASCADE;
CREATE SCHEMA told;
SET search_path = told;
CREATE TABLE plain (n int);
CREATE UNLOGGED TABLE quick (n int);
CREATE FUNCTION pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO told.plain VALUES (1) RETURNING n';
CREATE VIEW fine AS SELECT pure(n) FROM plain;
CREATE VIEW writing AS SELECT writes() AS n;
"""


def test_with_a_catalog_names_are_known(cluster):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(CATALOG)
    db.close()
    dsn = f"host=127.0.0.1 port={cluster.ports['primary']} user=postgres dbname=app"
    statements = ["SELECT n FROM told.plain", "SELECT n FROM told.quick", "SELECT told.pure(1)", "SELECT told.writes()",
                  "SELECT * FROM told.fine", "SELECT * FROM told.writing", "SELECT n FROM told.missing"]
    read, unknown = ("replica", "read"), ("primary", "unknown_function")
    assert routes(";".join(statements)) == [read, read, unknown, unknown, read, read, read]
    found = [(o["route"], o["reason"]) for o in objects("--catalog", dsn, *statements)]
    assert found == [read, ("primary", "unlogged_table"), read, ("primary", "user_function"), read, ("primary", "view"),
                     ("primary", "unknown_relation")]


def test_a_catalog_that_cannot_be_read_is_told_with_the_servers_words(cluster):
    port = cluster.ports["primary"]
    assert 'database "no_such" does not exist' in route(
        "--catalog", f"host=127.0.0.1 port={port} user=postgres dbname=no_such", "SELECT 1", code=69)
    assert "refused" in route("--catalog", "host=127.0.0.1 port=1", "SELECT 1", code=69)
    assert "cannot read the catalog" in route("--catalog", "no=such option", "SELECT 1", code=69)
