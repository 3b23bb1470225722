"""psycopg 3 as it comes: extended protocol, statements prepared by themselves at their sixth use, `with db.transaction()`."""
import psycopg
from drive import SELECT_SUM, TEXT, WHERE, await_running, code, in_thread, kept, kill_when_running, run, same


def connect(**more):
    return psycopg.connect(dbname="app", **{**WHERE, **more})


def ask(db, sql, values=None, **more):
    """One transaction with one statement; its row, its one value, or how many rows it changed."""
    with db.transaction():
        return step(db, sql, values, **more)


def step(db, sql, values=None, **more):
    return result(db.execute(sql, values, **more))


def result(cursor):
    if not cursor.description:
        return cursor.rowcount
    row = cursor.fetchone()
    return row[0] if len(row) == 1 else list(row)


def fails(db, sql, values=None, **more):
    try:
        return ask(db, sql, values, **more)
    except psycopg.Error as e:
        return code(e)


def refused(**more):
    try:
        connect(**more)
    except psycopg.Error as e:
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
    db.execute("INSERT INTO t VALUES (2, 'two')")
    db.rollback()
    seen.append(fails(db, "SELECT * FROM nowhere"))
    with db.transaction():
        db.execute("INSERT INTO t VALUES (3, 'three')")
        try:
            with db.transaction():  # a savepoint
                db.execute("INSERT INTO t VALUES (1, 'again')")
        except psycopg.Error as e:
            seen.append(code(e))
    with db.transaction():
        return [*seen, [list(row) for row in db.execute("SELECT id, note FROM t ORDER BY id").fetchall()]]


def scenario_extended():
    db = connect()
    row = ask(db, "SELECT %s::int, %s::text, %s::text, %s::bool, %s::float8, %b::bytea, %s::int[]",
              (7, TEXT, None, True, 1.5, b"\0\xff'", [1, 2, 3]))
    row[5] = bytes(row[5]).hex()
    return [row, ask(db, "INSERT INTO t VALUES (%s, %s) RETURNING id", (5, TEXT)), fails(db, "SELECT 1 / %s::int", (0,)),
            ask(db, "SELECT %s::int", (8,))]


def scenario_named():
    db, other = connect(), connect()
    done = sum(ask(db, "INSERT INTO t VALUES (%s, 'x')", (n,), prepare=True) for n in range(1, 21))

    def total():
        return ask(db, SELECT_SUM, prepare=True)
    return [done, same(10, total), fails(db, "SELECT 1 / %s::int", (0,), prepare=True), same(10, total),
            *same(10, lambda: [ask(db, "SELECT 'a'"), ask(other, "SELECT 'b'")])]


def scenario_pipeline():
    db, seen = connect(), []
    db.autocommit = True
    cursors = [db.cursor() for _ in range(4)]
    try:
        with db.pipeline():
            for cursor, n in zip(cursors, (1, 2, 1, 3)):
                cursor.execute("INSERT INTO t VALUES (%s, 'x')", (n,))
    except psycopg.Error as e:
        seen.append(code(e))
    seen += [cursor.rowcount for cursor in cursors]
    with db.pipeline() as pipeline:
        db.execute("INSERT INTO t VALUES (10, 'x')")
        pipeline.sync()
        for send in (lambda: db.execute("SELECT 1 / 0"), lambda: db.execute("INSERT INTO t VALUES (11, 'x')"), pipeline.sync):
            try:
                send()
            except psycopg.errors.PipelineAborted:
                pass  # psycopg has read the error already, and sends nothing more until the Sync
            except psycopg.Error as e:
                seen.append(code(e))
        cursors = [db.execute("SELECT %s::int", (n,)) for n in range(20)]  # prepared on the way
        seen.append([cursor.fetchone()[0] for cursor in cursors])
    with db.pipeline(), db.transaction():
        db.execute("INSERT INTO t VALUES (12, 'x')")
    return [*seen, [n for n, in db.execute("SELECT id FROM t ORDER BY id").fetchall()]]


def copied_out(db):
    with db.transaction(), db.cursor() as cursor, cursor.copy("COPY t TO STDOUT") as copy:
        return sum(1 for _ in copy.rows())


def scenario_copy():
    db = connect()
    with db.transaction(), db.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for n in range(1, 1001):
                copy.write_row((n, "row"))
        seen = [cursor.rowcount]
    seen += [ask(db, SELECT_SUM), copied_out(db)]
    try:
        with db.transaction(), db.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            copy.write("2000\tok\nbad\tx\n" + "3000\tx\n" * 5000)
    except psycopg.Error as e:
        seen.append(code(e))
    return [*seen, ask(db, "SELECT count(*) FROM t")]


def scenario_listen():
    db, other = connect(autocommit=True), connect()
    seen = []

    def heard():  # psycopg 3.1's notifies() has no timeout: wait for the socket, then ask
        return in_thread(lambda: next(db.notifies()).payload)()
    ask(db, "LISTEN news")
    ask(other, "NOTIFY news, 'one'")
    seen.append(heard())
    for n in range(10):
        ask(db, "INSERT INTO t VALUES (%s)", (n,))
    ask(other, "NOTIFY news, 'two'")
    seen.append(heard())
    other.execute("NOTIFY news, 'three'")
    other.rollback()
    ask(other, "NOTIFY news, 'four'")
    seen.append(heard())
    ask(db, "UNLISTEN news")
    return seen


def scenario_cursor():
    db = connect()
    with db.transaction(), db.cursor("part") as part:
        part.execute("SELECT n FROM big ORDER BY n")
        total = 0
        for _ in range(10):
            total += sum(n for n, in part.fetchmany(100))
            step(db, "SELECT 1")
    with db.transaction(), db.cursor("whole") as whole:
        whole.itersize = 100
        everything = sum(n for n, in whole.execute("SELECT n FROM big ORDER BY n"))
    for row in db.cursor().stream("SELECT n FROM big ORDER BY n"):  # row by row, and left in the middle
        if row[0] == 100:
            break
    db.rollback()
    return [total, everything, ask(db, "SELECT 1 + 1")]


def scenario_cancel():
    db, seen = connect(), []
    for n in range(2):
        join = in_thread(lambda: fails(db, f"SELECT pg_sleep(30) /* cancel-me-{n} */"))
        await_running(f"cancel-me-{n}")
        db.cancel()
        seen += [join(), ask(db, "SELECT 1")]
    return seen


def scenario_set():
    db = connect()

    def show():
        return ask(db, "SHOW work_mem")
    ask(db, "SET work_mem = '7MB'")
    seen = [same(10, show)]
    ask(db, "SET search_path = extra, public")
    seen.append(same(5, lambda: ask(db, "SELECT note FROM only_extra")))
    db.execute("SET work_mem = '8MB'")
    db.rollback()
    seen.append(same(5, show))
    with db.transaction():
        db.execute("SET LOCAL work_mem = '6MB'")
        seen.append(step(db, "SHOW work_mem"))
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
    rows = db.execute("SELECT repeat('x', 2000) FROM generate_series(1, 2000)").fetchall()
    return [sent, len(back.encode()), len(rows), sum(len(x) for x, in rows)]


def scenario_readonly():
    db, other = connect(), connect()
    db.read_only = True
    seen = [ask(db, "SELECT count(*) FROM t"), fails(db, "INSERT INTO t VALUES (1)")]
    db.read_only = False
    ask(db, "INSERT INTO t VALUES (1)")
    seen.append(ask(db, "SELECT count(*) FROM t"))
    db.read_only, db.isolation_level = True, psycopg.IsolationLevel.REPEATABLE_READ
    with db.transaction():
        seen.append(step(db, "SELECT count(*) FROM t"))
        ask(other, "INSERT INTO t VALUES (2)")
        seen.append(step(db, "SELECT count(*) FROM t"))
    db.read_only = db.isolation_level = None
    ask(db, "INSERT INTO t VALUES (3)")
    return [*seen, ask(db, "SELECT count(*) FROM t")]


def scenario_ddl():
    db, other = connect(), connect()
    ask(db, "CREATE TABLE ddl_t (a int)")
    ask(db, "INSERT INTO ddl_t VALUES (1)")

    def look():
        return fails(db, "SELECT * FROM ddl_t")
    seen = [same(7, look)]
    for n, change in enumerate(["ALTER TABLE ddl_t ADD b int DEFAULT 2",
                                "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"]):
        ask(other, change)
        ask(db, "INSERT INTO t VALUES (%s)", (n,))  # what is read from now on is not older than the change
        seen += [look() for _ in range(8)]
    return seen


def scenario_killed():
    db = connect()
    kill_when_running("kill-me")
    try:
        db.execute("INSERT INTO t VALUES (1)")
        db.execute("SELECT pg_sleep(30) /* kill-me */")
        seen = ["not killed"]
    except psycopg.Error as e:
        seen = [code(e)]
    again = connect()
    return [*seen, ask(again, "SELECT count(*) FROM t"), ask(again, "INSERT INTO t VALUES (2)")]


run(globals())
