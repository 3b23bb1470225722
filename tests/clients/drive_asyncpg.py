"""asyncpg as it comes: statements prepared, kept and named by itself, Flush after each Parse."""
import asyncio

import asyncpg
from drive import SELECT_SUM, TEXT, WHERE, await_running, code, kept, kill_when_running, run


opened = []


async def connect(**more):
    opened.append(await asyncpg.connect(database="app", **{**WHERE, **more}))
    return opened[-1]


async def fails(query):
    try:
        return await query
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as e:
        return code(e)


async def same(times, ask):
    answers = [await ask() for _ in range(times)]
    return answers[0] if all(a == answers[0] for a in answers) else answers


async def scenario_login():
    db = await connect()
    return [*await db.fetchrow("SELECT current_user, current_database()"), await fails(connect(password="wrong"))]


async def scenario_startup():
    db = await connect(server_settings={"work_mem": "9MB", "application_name": "drive"})
    return [await db.fetchval("SHOW work_mem"), await same(10, lambda: db.fetchval("SHOW work_mem")),
            await db.fetchval("SHOW application_name"), await fails(connect(server_settings={"nosuch": "1"}))]


async def scenario_clients():
    clients = [await connect() for _ in range(4)]
    return [await same(5, lambda: db.fetchval("SELECT $1::int", n)) for n, db in enumerate(clients)]


async def scenario_settings():
    clients = [await connect() for _ in range(4)]
    for n, db in enumerate(clients):
        await db.execute(f"SET work_mem = '{n + 5}MB'")

    async def shown():
        return [await db.fetchval("SHOW work_mem") for db in clients]
    return await same(5, shown)


def changed(tag):
    return int(tag.split()[-1])


async def scenario_simple():
    db = await connect()
    seen = [await db.fetchval("SELECT 1 + 1"), changed(await db.execute("INSERT INTO t VALUES (1, 'one')"))]
    transaction = db.transaction()
    await transaction.start()
    await db.execute("INSERT INTO t VALUES (2, 'two')")
    await transaction.rollback()
    seen.append(await fails(db.execute("SELECT * FROM nowhere")))
    async with db.transaction():
        await db.execute("INSERT INTO t VALUES (3, 'three')")
        try:
            async with db.transaction():  # a savepoint
                await db.execute("INSERT INTO t VALUES (1, 'again')")
        except asyncpg.PostgresError as e:
            seen.append(code(e))
    return [*seen, [list(row) for row in await db.fetch("SELECT id, note FROM t ORDER BY id")]]


async def scenario_extended():
    db = await connect()
    row = list(await db.fetchrow("SELECT $1::int, $2::text, $3::text, $4::bool, $5::float8, $6::bytea, $7::int[]",
                                 7, TEXT, None, True, 1.5, b"\0\xff'", [1, 2, 3]))
    row[5] = row[5].hex()
    return [row, await db.fetchval("INSERT INTO t VALUES ($1, $2) RETURNING id", 5, TEXT),
            await fails(db.fetchval("SELECT 1 / $1::int", 0)), await db.fetchval("SELECT $1::int", 8)]


async def scenario_named():
    db, other = await connect(), await connect()
    put = await db.prepare("INSERT INTO t VALUES ($1, 'x') RETURNING 1")
    total = await db.prepare(SELECT_SUM)
    ratio = await db.prepare("SELECT 1 / $1::int")
    done = sum([await put.fetchval(n) for n in range(1, 21)])
    seen = [done, await same(10, total.fetchval), await fails(ratio.fetchval(0)), await same(10, total.fetchval)]
    a, b = await db.prepare("SELECT 'a'"), await other.prepare("SELECT 'b'")
    return [*seen, await same(5, a.fetchval), await same(5, b.fetchval)]


async def scenario_pipeline():
    """executemany() is asyncpg's only pipeline: one Sync at its end."""
    db = await connect()
    seen = [await fails(db.executemany("INSERT INTO t VALUES ($1, 'x')", [(1,), (2,), (1,), (3,)]))]
    await db.executemany("INSERT INTO t VALUES ($1, 'x')", [(n,) for n in range(10, 3000)])
    seen.append(await db.fetchval("SELECT count(*) FROM t"))
    seen.append(await fails(db.executemany("INSERT INTO t VALUES ($1, $2)", [(n, "y" * 5000) for n in range(2500, 4000)])))
    return [*seen, await db.fetchval("SELECT count(*) FROM t")]


async def lines(*texts):
    for text in texts:
        yield text.encode()


async def scenario_copy():
    db = await connect()
    seen = [changed(await db.copy_records_to_table("t", records=[(n, "row") for n in range(1, 1001)])),
            await db.fetchval(SELECT_SUM)]
    got = []

    async def sink(data):
        got.append(data)
    await db.copy_from_table("t", output=sink)
    seen.append(len(b"".join(got).splitlines()))
    seen.append(await fails(db.copy_to_table("t", source=lines("2000\tok\nbad\tx\n", "3000\tx\n" * 5000))))
    return [*seen, await db.fetchval("SELECT count(*) FROM t")]


async def scenario_listen():
    db, other, heard = await connect(), await connect(), asyncio.Queue()
    await db.add_listener("news", lambda *news: heard.put_nowait(news[3]))

    async def next_news():
        return await asyncio.wait_for(heard.get(), 5)
    await other.execute("NOTIFY news, 'one'")
    seen = [await next_news()]
    for n in range(10):
        await db.execute("INSERT INTO t VALUES ($1)", n)
    await other.execute("NOTIFY news, 'two'")
    seen.append(await next_news())
    transaction = other.transaction()
    await transaction.start()
    await other.execute("NOTIFY news, 'three'")
    await transaction.rollback()
    await db.execute("NOTIFY news, 'four'")
    seen.append(await next_news())
    await db.reset()  # UNLISTEN and more, as a pool does it
    return seen


async def scenario_cursor():
    db, total, everything = await connect(), 0, 0
    async with db.transaction():
        part = await db.cursor("SELECT n FROM big ORDER BY n")
        for _ in range(10):
            total += sum(row[0] for row in await part.fetch(100))
            await db.fetchval("SELECT 1")
    async with db.transaction():
        async for row in db.cursor("SELECT n FROM big ORDER BY n", prefetch=100):
            everything += row[0]
    return [total, everything, await db.fetchval("SELECT 1 + 1")]


async def scenario_cancel():
    """A task that is cancelled, or a timeout, sends the CancelRequest."""
    db, seen = await connect(), []
    loop = asyncio.get_running_loop()
    for n in range(2):
        task = asyncio.ensure_future(db.execute(f"SELECT pg_sleep(30) /* cancel-me-{n} */"))
        await loop.run_in_executor(None, await_running, f"cancel-me-{n}")
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            seen.append("57014")
        seen.append(await db.fetchval("SELECT 1"))
    return seen


async def scenario_set():
    db = await connect()

    def show():
        return db.fetchval("SHOW work_mem")
    await db.execute("SET work_mem = '7MB'")
    seen = [await same(10, show)]
    await db.execute("SET search_path = extra, public")
    seen.append(await same(5, lambda: db.fetchval("SELECT note FROM only_extra")))
    transaction = db.transaction()
    await transaction.start()
    await db.execute("SET work_mem = '8MB'")
    await transaction.rollback()
    seen.append(await same(5, show))
    async with db.transaction():
        await db.execute("SET LOCAL work_mem = '6MB'")
        seen.append(await show())
    seen.append(await same(5, show))
    await db.execute("SET TIME ZONE 'Asia/Tokyo'")
    seen.append(await same(5, lambda: db.fetchval("SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')")))
    await db.execute("SET ROLE app")
    seen.append(await same(5, lambda: db.fetchval("SELECT current_user::text")))
    await db.execute("RESET ROLE")
    seen.append(await same(5, lambda: db.fetchval("SELECT current_user::text")))
    seen.append(await fails(db.execute("SET work_mem = 'nonsense'")))
    await db.execute("RESET work_mem")
    seen.append(await same(5, show))
    await db.execute("RESET search_path")
    seen.append(await same(5, lambda: fails(db.fetchval("SELECT note FROM only_extra"))))
    await db.execute("SELECT set_config($1, $2, false)", "work_mem", "5MB")
    return [*seen, await same(5, show)]


async def scenario_kept():
    clients, seen = {"one": await connect(), "two": await connect()}, []
    for who, sql, shows in kept():
        value = await (clients[who].fetchval if shows else clients[who].execute)(sql)
        seen += [value] if shows else []
    return seen


async def scenario_large():
    db, big = await connect(), "ü234567" * 1_000_000  # 8 MB of UTF-8
    sent = await db.fetchval("SELECT octet_length($1)", big)
    await db.execute("INSERT INTO t VALUES (1, $1)", big)
    back = await db.fetchval("SELECT note FROM t")
    rows = await db.fetch("SELECT repeat('x', 2000) FROM generate_series(1, 2000)")
    return [sent, len(back.encode()), len(rows), sum(len(row[0]) for row in rows)]


async def scenario_readonly():
    db, other = await connect(), await connect()

    def count():
        return db.fetchval("SELECT count(*) FROM t")
    async with db.transaction(readonly=True):
        seen = [await count()]
        seen.append(await fails(db.execute("INSERT INTO t VALUES (1)")))
        try:
            await count()
        except asyncpg.InFailedSQLTransactionError:
            pass
        await db.execute("ROLLBACK; BEGIN")
    await db.execute("INSERT INTO t VALUES (1)")
    seen.append(await count())
    async with db.transaction(readonly=True, isolation="repeatable_read"):
        seen.append(await count())
        await other.execute("INSERT INTO t VALUES (2)")
        seen.append(await count())
    await db.execute("INSERT INTO t VALUES (3)")
    return [*seen, await count()]


async def scenario_ddl():
    db, other = await connect(), await connect()
    await db.execute("CREATE TABLE ddl_t (a int)")
    await db.execute("INSERT INTO ddl_t VALUES (1)")

    async def look():
        try:
            return list(await db.fetchrow("SELECT * FROM ddl_t"))
        except asyncpg.PostgresError as e:
            return code(e)
    seen = [await same(7, look)]
    for n, change in enumerate(["ALTER TABLE ddl_t ADD b int DEFAULT 2",
                                "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"]):
        await other.execute(change)
        await db.execute("INSERT INTO t VALUES ($1)", n)  # what is read from now on is not older than the change
        seen += [await look(), await look(), await look()]
        try:
            async with db.transaction():
                seen.append(await look())
        except asyncpg.PostgresError as e:
            seen.append(code(e))
    return seen


async def scenario_killed():
    db = await connect()
    kill_when_running("kill-me")
    try:
        await db.transaction().start()
        await db.execute("INSERT INTO t VALUES (1)")
        await db.execute("SELECT pg_sleep(30) /* kill-me */")
        seen = ["not killed"]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as e:
        seen = [code(e)]
    again = await connect()
    return [*seen, await again.fetchval("SELECT count(*) FROM t"), changed(await again.execute("INSERT INTO t VALUES (2)"))]


async def closing(scenario):
    try:
        return await scenario()
    finally:
        while opened:
            opened.pop().terminate()


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
run(globals(), call=lambda scenario: loop.run_until_complete(closing(scenario)))
