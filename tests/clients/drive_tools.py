"""PostgreSQL's own programs. What a dump through pgweir must be is the dump from the primary itself.

What tests/integration/test_tools_*.py look into (COPY of a million rows, Ctrl-C, parallel dumps) is not done again."""
import hashlib
import os
import re
import subprocess
import tempfile

import drive
from drive import run

ENV = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(drive.PORT), "PGDATABASE": "app", "PGUSER": "app_scram",
       "PGPASSWORD": "secret", "PSQLRC": "/dev/null"}


def tool(name, *args, stdin=None, **env):
    """Its output; an error if it fails."""
    done = subprocess.run([os.path.join(os.environ["PGBIN"], name), *args], input=stdin, capture_output=True, text=True,
                          timeout=35, env={**ENV, **env})
    if done.returncode:
        raise RuntimeError(f"{name} ends with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def psql(script, *args):
    """Errors are part of what is seen, as a person would see them."""
    done = subprocess.run([os.path.join(os.environ["PGBIN"], "psql"), "-XAt", *args], input=script, capture_output=True,
                          text=True, timeout=35, env=ENV)
    return done.stdout.splitlines() + done.stderr.splitlines()


def text(dump):
    """A dump without the random keys of newer versions and without its comments; of a long one its hash."""
    lines = [x for x in dump.splitlines() if x and not re.match(r"\\(un)?restrict |--", x)]
    return [len(lines), hashlib.md5("\n".join(lines).encode()).hexdigest()]


SHOP = """
    DROP SCHEMA IF EXISTS shop CASCADE;
    CREATE SCHEMA shop;
    SET search_path = shop;
    CREATE TYPE state AS ENUM ('new', 'paid');
    CREATE TABLE customer (id serial PRIMARY KEY, name text UNIQUE);
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customer, state state, note bytea);
    CREATE VIEW open_orders AS SELECT * FROM orders WHERE state = 'new';
    CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
    INSERT INTO customer (name) SELECT 'customer ' || n FROM generate_series(1, 100) n;
    INSERT INTO orders (customer, state, note) SELECT n % 100 + 1, 'new', decode(md5(n::text), 'hex') FROM generate_series(1, 1000) n;
"""


def make_shop():
    tool("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c", SHOP)


def scenario_pg_dump():
    make_shop()
    plain = [text(tool("pg_dump", "-n", "shop", *options)) for options in ([], ["--inserts"], ["-s"], ["--serializable-deferrable"])]
    with tempfile.TemporaryDirectory() as directory:
        tool("pg_dump", "-n", "shop", "-Fc", "-f", f"{directory}/dump")
        return [*plain, text(tool("pg_restore", "-f", "-", f"{directory}/dump"))]


def scenario_pg_restore():
    make_shop()
    before = text(tool("pg_dump", "-n", "shop"))
    seen = []
    with tempfile.TemporaryDirectory() as directory:
        tool("pg_dump", "-n", "shop", "-Fc", "-f", f"{directory}/dump")
        for options in ([], ["--clean", "--if-exists"], ["-1", "--clean"], ["-j", "2", "--clean"]):
            if not options:
                tool("psql", "-Xqc", "DROP SCHEMA shop CASCADE")
            tool("pg_restore", "-d", "app", *options, f"{directory}/dump")
            seen.append(text(tool("pg_dump", "-n", "shop")) == before)
    make_shop()
    return seen


def scenario_pg_dumpall():
    """As its superuser; whole, and its parts."""
    make_shop()
    user = {"PGUSER": "postgres", "PGPASSWORD": "postgres"}
    return [text(tool("pg_dumpall", *options, **user)) for options in ([], ["-g"], ["-s"])]


def scenario_watch():
    done = subprocess.run(["timeout", "-s", "INT", "3", os.path.join(os.environ["PGBIN"], "psql"), "-XAtq"], text=True, timeout=35,
                          input="SET work_mem = '7MB';\nSHOW work_mem \\watch 0.2\n", capture_output=True, env=ENV)
    return [sorted({x for x in done.stdout.splitlines() if x and " every " not in x}), done.stdout.count("7MB") >= 4,
            done.stderr.strip()]


def scenario_gset():
    return psql(r"""
        SELECT 5 AS work, 'extra' AS place \gset my_
        \set my_mem :my_work MB
        SET work_mem = :'my_mem';
        SHOW work_mem;
        SELECT :my_work + 1, :'my_place' \gx
        SELECT format('SELECT %s', n) FROM generate_series(1, 3) n \gexec
        SELECT note FROM :my_place.only_extra \g
        SELECT 1 AS one, 2 AS two \gdesc
        SELECT 1 AS a, 'x' AS b, 10 AS c UNION SELECT 2, 'y', 20 \crosstabview
        \set ON_ERROR_ROLLBACK on
        BEGIN;
        INSERT INTO t VALUES (1);
        INSERT INTO t VALUES (1);
        INSERT INTO t VALUES (2);
        COMMIT;
        SELECT count(*) FROM t;
        \set AUTOCOMMIT off
        INSERT INTO t VALUES (3);
        ROLLBACK;
        SELECT count(*) FROM t;
        \set FETCH_COUNT 2
        SELECT count(*), sum(n) FROM big;
        SELECT n FROM big WHERE n < 6 ORDER BY n;
        \echo :ROW_COUNT :SQLSTATE
        SELECT 1 / 0;
        \echo :LAST_ERROR_SQLSTATE
        """, "-v", "VERBOSITY=sqlstate")


def scenario_copy():
    with tempfile.NamedTemporaryFile("w+") as rows, tempfile.NamedTemporaryFile("w+") as out:
        rows.write("".join(f"{n}\trow\n" for n in range(1, 1001)))
        rows.flush()
        seen = psql(f"\\copy t FROM {rows.name}\nSELECT count(*) FROM t;\n\\copy (SELECT * FROM t ORDER BY id) TO {out.name}\n"
                    f"\\copy t FROM {rows.name}\nSELECT count(*) FROM t;\nCOPY t FROM STDIN;\n2001\tx\n2002\ty\n\\.\n"
                    "SELECT count(*) FROM t;\nBEGIN;\nCOPY t FROM STDIN;\n2003\tx\n\\.\nROLLBACK;\nSELECT count(*) FROM t;\n"
                    "COPY (SELECT 1) TO STDOUT; SELECT 2;\n", "-v", "VERBOSITY=sqlstate")
        rows.seek(0)
        return [*seen, out.read() == rows.read()]


def scenario_pgbench():
    """Its modes; which queries it has run is known by what they did."""
    tool("pgbench", "-i", "-q", "-I", "dtgp")
    seen = []
    for mode in ("simple", "extended", "prepared"):
        tool("pgbench", "-n", "-M", mode, "-c", "4", "-t", "5", "--max-tries=10")
        seen.append(tool("psql", "-XAtc", "SELECT count(*), (SELECT sum(bbalance) FROM pgbench_branches) = sum(delta) FROM"
                         " pgbench_history").strip())
    with tempfile.NamedTemporaryFile("w") as script:
        script.write("\\startpipeline\nBEGIN;\nUPDATE pgbench_tellers SET tbalance = 7 WHERE tid = 1;\nSELECT 1;\nEND;\n\\endpipeline\n")
        script.flush()
        tool("pgbench", "-n", "-M", "prepared", "-f", script.name, "-c", "4", "-t", "5")
    seen.append(tool("psql", "-XAtc", "SELECT tbalance FROM pgbench_tellers WHERE tid = 1").strip())
    tool("pgbench", "-i", "-q", "-I", "d")
    return seen


run(globals())
