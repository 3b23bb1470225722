"""psycopg2 as it comes: simple protocol, a transaction begins with the first statement and ends with `with db`."""
import io
import select

import psycopg2
from drive import (SELECT_SUM, TEXT, WHERE, Skip, await_running, code, in_thread, kept, kill_when_running, run, same)


def connect(**more):
    return psycopg2.connect(dbname="app", **{**WHERE, **more})


def ask(db, sql, values=None):
    """One transaction with one statement; its row, its one value, or how many rows it changed."""
    with db, db.cursor() as cursor:
        return step(cursor, sql, values)


def step(cursor, sql, values=None):
    cursor.execute(sql, values)
    if not cursor.description:
        return cursor.rowcount
    row = cursor.fetchone()
    return row[0] if len(row) == 1 else list(row)


def fails(db, sql, values=None):
    try:
        return ask(db, sql, values)
    except psycopg2.Error as e:
        return code(e)


def refused(**more):
    try:
        connect(**more)
    except psycopg2.Error as e:
        return code(e)


def scenario_login():
    return [*ask(connect(), "SELECT current_user, current_database()"), refused(password="wrong")]


def scenario_startup():
    db = connect(options="-c work_mem=9MB", application_name="drive")
    return [ask(db, "SHOW work_mem"), same(10, lambda: ask(db, "SHOW work_mem")), ask(db, "SHOW application_name"),
            refused(options="-c nosuch=1")]


def scenario_clients():
    clients = [connect() for _ in range(4)]
    return [same(5, lambda: ask(db, "SELECT %s::int", (n,))) for n, db in enumerate(clients)]


def scenario_settings():
    clients = [connect() for _ in range(4)]
    for n, db in enumerate(clients):
        ask(db, f"SET work_mem = '{n + 5}MB'")
    return same(5, lambda: [ask(db, "SHOW work_mem") for db in clients])


def scenario_simple():
    db = connect()
    seen = [ask(db, "SELECT 1 + 1"), ask(db, "INSERT INTO t VALUES (1, 'one')")]
    with db.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (2, 'two')")
        db.rollback()
    seen.append(fails(db, "SELECT * FROM nowhere"))
    with db, db.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (3, 'three')")
        cursor.execute("SAVEPOINT s")
        try:
            cursor.execute("INSERT INTO t VALUES (1, 'again')")
        except psycopg2.Error as e:
            seen.append(code(e))
        cursor.execute("ROLLBACK TO s")
    with db, db.cursor() as cursor:
        cursor.execute("SELECT id, note FROM t ORDER BY id")
        return [*seen, [list(row) for row in cursor.fetchall()]]


def scenario_extended():
    db = connect()
    row = ask(db, "SELECT %s::int, %s::text, %s::text, %s::bool, %s::float8, %s::bytea, %s::int[]",
              (7, TEXT, None, True, 1.5, b"\0\xff'", [1, 2, 3]))
    row[5] = bytes(row[5]).hex()
    return [row, ask(db, "INSERT INTO t VALUES (%s, %s) RETURNING id", (5, TEXT)), fails(db, "SELECT 1 / %s", (0,)),
            ask(db, "SELECT %s::int", (8,))]


def scenario_named():
    """psycopg2 has none of its own; its users write PREPARE and EXECUTE."""
    db, other = connect(), connect()
    ask(db, "PREPARE put AS INSERT INTO t VALUES ($1, 'x')")
    ask(db, "PREPARE total AS " + SELECT_SUM)
    ask(db, "PREPARE ratio AS SELECT 1 / $1::int")
    ask(db, "PREPARE s AS SELECT 'a'::text")
    ask(other, "PREPARE s AS SELECT 'b'::text")
    done = sum(ask(db, "EXECUTE put(%s)", (n,)) for n in range(1, 21))
    return [done, ask(db, "EXECUTE total"), fails(db, "EXECUTE ratio(0)"), ask(db, "EXECUTE total"),
            same(5, lambda: ask(db, "EXECUTE s")), same(5, lambda: ask(other, "EXECUTE s"))]


def scenario_pipeline():
    raise Skip("psycopg2 has no pipeline")


def copied_out(db):
    with db, db.cursor() as cursor:
        out = io.StringIO()
        cursor.copy_expert("COPY t TO STDOUT", out)
        return len(out.getvalue().splitlines())


def scenario_copy():
    db = connect()
    with db, db.cursor() as cursor:
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO("".join(f"{n}\trow\n" for n in range(1, 1001))))
        seen = [cursor.rowcount]
    seen += [ask(db, SELECT_SUM), copied_out(db)]
    try:
        with db, db.cursor() as cursor:
            cursor.copy_expert("COPY t FROM STDIN", io.StringIO("2000\tok\nbad\tx\n" + "3000\tx\n" * 5000))
    except psycopg2.Error as e:
        seen.append(code(e))
    return [*seen, ask(db, "SELECT count(*) FROM t")]


def heard(db):
    """The next notification within five seconds."""
    db.poll()
    if not db.notifies and select.select([db], [], [], 5)[0]:
        db.poll()
    return db.notifies.pop(0).payload if db.notifies else None


def scenario_listen():
    db, other = connect(), connect()
    db.autocommit = True  # as psycopg2's manual has it
    ask(db, "LISTEN news")
    ask(other, "NOTIFY news, 'one'")
    seen = [heard(db)]
    for n in range(10):
        ask(db, "INSERT INTO t VALUES (%s)", (n,))
    ask(other, "NOTIFY news, 'two'")
    seen.append(heard(db))
    with other.cursor() as cursor:
        cursor.execute("NOTIFY news, 'three'")
        other.rollback()
    ask(db, "NOTIFY news, 'four'")
    seen.append(heard(db))
    ask(db, "UNLISTEN news")
    return seen


def scenario_cursor():
    db = connect()
    with db, db.cursor("part") as part, db.cursor() as beside:
        part.itersize = 100
        part.execute("SELECT n FROM big ORDER BY n")
        total = 0
        for _ in range(10):
            total += sum(n for n, in part.fetchmany(100))
            step(beside, "SELECT 1")
    with db, db.cursor("whole") as whole:
        whole.itersize = 100
        whole.execute("SELECT n FROM big ORDER BY n")
        everything = sum(n for n, in whole)
    return [total, everything, ask(db, "SELECT 1 + 1")]


def scenario_cancel():
    db, seen = connect(), []
    for n in range(2):
        join = in_thread(lambda: fails(db, f"SELECT pg_sleep(30) /* cancel-me-{n} */"))
        await_running(f"cancel-me-{n}")
        db.cancel()
        seen += [join(), ask(db, "SELECT 1")]
    return seen


def in_rolled_back(db, sql):
    with db.cursor() as cursor:
        cursor.execute(sql)
        db.rollback()


def scenario_set():
    db = connect()

    def show():
        return ask(db, "SHOW work_mem")
    ask(db, "SET work_mem = '7MB'")
    seen = [same(10, show)]
    ask(db, "SET search_path = extra, public")
    seen.append(same(5, lambda: ask(db, "SELECT note FROM only_extra")))
    in_rolled_back(db, "SET work_mem = '8MB'")
    seen.append(same(5, show))
    with db, db.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '6MB'")
        seen.append(step(cursor, "SHOW work_mem"))
    seen.append(same(5, show))
    ask(db, "SET TIME ZONE 'Asia/Tokyo'")
    seen.append(same(5, lambda: ask(db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')")))
    ask(db, "SET ROLE app")
    seen.append(same(5, lambda: ask(db, "SELECT current_user")))
    ask(db, "RESET ROLE")
    seen += [same(5, lambda: ask(db, "SELECT current_user")), fails(db, "SET work_mem = 'nonsense'")]
    ask(db, "RESET work_mem")
    seen.append(same(5, show))
    ask(db, "RESET search_path")
    seen.append(same(5, lambda: fails(db, "SELECT note FROM only_extra")))
    ask(db, "SELECT set_config(%s, %s, false)", ("work_mem", "5MB"))
    return [*seen, same(5, show)]


def scenario_kept():
    clients = {"one": connect(), "two": connect()}
    seen = [(ask(clients[who], sql), shows) for who, sql, shows in kept()]
    return [value for value, shows in seen if shows]


def scenario_large():
    db, big = connect(), "ü234567" * 1_000_000  # 8 MB of UTF-8
    sent = ask(db, "SELECT octet_length(%s)", (big,))
    ask(db, "INSERT INTO t VALUES (1, %s)", (big,))
    back = ask(db, "SELECT note FROM t")
    with db, db.cursor() as cursor:
        cursor.execute("SELECT repeat('x', 2000) FROM generate_series(1, 2000)")
        rows = cursor.fetchall()
    return [sent, len(back.encode()), len(rows), sum(len(x) for x, in rows)]


def scenario_readonly():
    db, other = connect(), connect()
    db.set_session(readonly=True)
    seen = [ask(db, "SELECT count(*) FROM t"), fails(db, "INSERT INTO t VALUES (1)")]
    db.set_session(readonly=False)
    ask(db, "INSERT INTO t VALUES (1)")
    seen.append(ask(db, "SELECT count(*) FROM t"))
    db.set_session(readonly=True, isolation_level="REPEATABLE READ")
    with db, db.cursor() as cursor:
        seen.append(step(cursor, "SELECT count(*) FROM t"))
        ask(other, "INSERT INTO t VALUES (2)")
        seen.append(step(cursor, "SELECT count(*) FROM t"))
    db.set_session(readonly=False, isolation_level="DEFAULT")
    ask(db, "INSERT INTO t VALUES (3)")
    return [*seen, ask(db, "SELECT count(*) FROM t")]


def scenario_ddl():
    db, other = connect(), connect()
    ask(db, "CREATE TABLE ddl_t (a int)")
    ask(db, "INSERT INTO ddl_t VALUES (1)")
    ask(db, "PREPARE look AS SELECT * FROM ddl_t")

    def look():
        return fails(db, "EXECUTE look")
    seen = [same(7, look)]
    for n, change in enumerate(["ALTER TABLE ddl_t ADD b int DEFAULT 2",
                                "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"]):
        ask(other, change)
        ask(db, "INSERT INTO t VALUES (%s)", (n,))  # what is read from now on is not older than the change
        seen += [look(), look(), look()]
        ask(db, "DEALLOCATE look")
        ask(db, "PREPARE look AS SELECT * FROM ddl_t")
        seen.append(look())
    return seen


def scenario_killed():
    db = connect()
    kill_when_running("kill-me")
    try:
        cursor = db.cursor()
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("SELECT pg_sleep(30) /* kill-me */")
        seen = ["not killed"]
    except psycopg2.Error as e:
        seen = [code(e)]
    again = connect()
    return [*seen, ask(again, "SELECT count(*) FROM t"), ask(again, "INSERT INTO t VALUES (2)")]


run(globals())
