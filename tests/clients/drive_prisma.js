// Prisma over its pg adapter, with the client that tests/clients/build generates: an ORM, so what it has no word for is raw SQL.
'use strict';
const path = require('path');
const { PrismaClient } = require(path.join(process.env.DRIVERS_BUILD, 'prisma'));
const { PrismaPg } = require('@prisma/adapter-pg');
const { where, TEXT, awaitRunning, killWhenRunning, Skip, same, kept, code: codeOf, run } = require('./drive');

const opened = [];

// max: 1, so that a "client" is one connection; all else is the default.
function connect(more = {}) {
  opened.push(new PrismaClient({ adapter: new PrismaPg({ ...where, max: 1, ...more }) }));
  return opened[opened.length - 1];
}

// PostgreSQL's SQLSTATE out of Prisma's own errors.
function code(error) {
  const cause = error.meta?.driverAdapterError?.cause ?? error.cause ?? {};
  const own = { P2002: '23505', P1000: '28P01' }[error.code];
  return own ?? codeOf({ code: cause.originalCode ?? error.code, name: error.name, message: `${error.message} ${cause.message ?? ''}` });
}

const fails = (promise) => promise.catch(code);
const number = (v) => (typeof v === 'bigint' ? Number(v) : v);

// The row, or its one value.
async function ask(db, sql, ...values) {
  const rows = await db.$queryRawUnsafe(sql, ...values);
  const row = rows[0] && Object.values(rows[0]).map(number);
  return row && row.length === 1 ? row[0] : row;
}

const rollback = new Error('roll back');
const rollingBack = (db, work) => db.$transaction(async (tx) => { await work(tx); throw rollback; })
  .catch((e) => { if (e !== rollback) throw e; });

const SUM = 'SELECT coalesce(sum(id), 0)::int AS v FROM t';
const lacks = (what) => async () => { throw new Skip(`Prisma has no ${what}`); };

const scenarios = {
  async login() {
    return [...await ask(connect(), 'SELECT current_user::text, current_database()::text'),
      await fails(ask(connect({ password: 'wrong' }), 'SELECT 1'))];
  },

  async startup() {
    const db = connect({ options: '-c work_mem=9MB', application_name: 'drive' });
    const show = () => ask(db, 'SHOW work_mem');
    return [await show(), await same(10, show), await ask(db, 'SHOW application_name'),
      await fails(ask(connect({ options: '-c nosuch=1' }), 'SELECT 1'))];
  },

  async clients() {
    const clients = [connect(), connect(), connect(), connect()], seen = [];
    for (const [n, db] of clients.entries()) seen.push(await same(5, () => ask(db, 'SELECT $1::int', n)));
    return seen;
  },

  async settings() {
    const clients = [connect(), connect(), connect(), connect()];
    for (const [n, db] of clients.entries()) await db.$executeRawUnsafe(`SET work_mem = '${n + 5}MB'`);
    return same(5, () => Promise.all(clients.map((db) => ask(db, 'SHOW work_mem'))));
  },

  async simple() {
    const db = connect();
    const seen = [await ask(db, 'SELECT 1 + 1'), await db.$executeRawUnsafe("INSERT INTO t VALUES (1, 'one')")];
    await rollingBack(db, (tx) => tx.t.create({ data: { id: 2, note: 'two' } }));
    seen.push(await fails(ask(db, 'SELECT * FROM nowhere')));
    await db.$transaction(async (tx) => {
      await tx.t.create({ data: { id: 3, note: 'three' } });
      await tx.$executeRawUnsafe('SAVEPOINT s');
      seen.push(await fails(tx.t.create({ data: { id: 1, note: 'again' } })));
      await tx.$executeRawUnsafe('ROLLBACK TO s');
    });
    return [...seen, (await db.t.findMany({ orderBy: { id: 'asc' } })).map((row) => [row.id, row.note])];
  },

  async extended() {
    const db = connect();
    const row = await ask(db, 'SELECT $1::int a, $2::text b, $3::text c, $4::bool d, $5::float8 e, $6::bytea f, $7::int[] g',
      7, TEXT, null, true, 1.5, Buffer.from([0, 255, 39]), [1, 2, 3]);
    row[5] = Buffer.from(row[5]).toString('hex');
    return [row, (await db.t.create({ data: { id: 5, note: TEXT } })).id, await fails(ask(db, 'SELECT 1 / $1::int', 0)),
      await ask(db, 'SELECT $1::int', 8)];
  },

  named: lacks('prepared statements over its pg adapter'),

  // $transaction([...]): one after the other, all or nothing.
  async pipeline() {
    const db = connect(), create = (id) => db.t.create({ data: { id } });
    const seen = [await fails(db.$transaction([create(1), create(2), create(1), create(3)])), await ask(db, SUM)];
    await db.$transaction([create(1), create(2)]);
    seen.push((await db.t.createMany({ data: [{ id: 5 }, { id: 6 }] })).count);
    return [...seen, await ask(db, SUM)];
  },

  copy: lacks('COPY'),
  listen: lacks('LISTEN'),
  cursor: lacks('cursors of the server: its own are WHERE and LIMIT'),
  cancel: lacks('cancel'),

  async set() {
    const db = connect(), show = () => ask(db, 'SHOW work_mem'), who = () => ask(db, 'SELECT current_user::text');
    const run = (sql, on = db) => on.$executeRawUnsafe(sql);
    await run("SET work_mem = '7MB'");
    const seen = [await same(10, show)];
    await run('SET search_path = extra, public');
    seen.push(await same(5, () => ask(db, 'SELECT note FROM only_extra')));
    await rollingBack(db, (tx) => run("SET work_mem = '8MB'", tx));
    seen.push(await same(5, show));
    await db.$transaction(async (tx) => {
      await run("SET LOCAL work_mem = '6MB'", tx);
      seen.push(await ask(tx, 'SHOW work_mem'));
    });
    seen.push(await same(5, show));
    await run("SET TIME ZONE 'Asia/Tokyo'");
    seen.push(await same(5, () => ask(db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')")));
    await run('SET ROLE app');
    seen.push(await same(5, who));
    await run('RESET ROLE');
    seen.push(await same(5, who), await fails(run("SET work_mem = 'nonsense'")));
    await run('RESET work_mem');
    seen.push(await same(5, show));
    await run('RESET search_path');
    seen.push(await same(5, () => fails(ask(db, 'SELECT note FROM only_extra'))));
    await ask(db, 'SELECT set_config($1, $2, false)', 'work_mem', '5MB');
    return [...seen, await same(5, show)];
  },

  async kept() {
    const clients = { one: connect(), two: connect() }, seen = [];
    for (const [who, sql, shows] of kept()) {
      const value = await (shows ? ask(clients[who], sql) : clients[who].$executeRawUnsafe(sql));
      if (shows) seen.push(value);
    }
    return seen;
  },

  async large() {
    const db = connect(), big = 'ü234567'.repeat(1000000); // 8 MB of UTF-8
    const sent = await ask(db, 'SELECT octet_length($1)', big);
    await db.t.create({ data: { id: 1, note: big } });
    const { note } = await db.t.findUnique({ where: { id: 1 } });
    const rows = await db.$queryRawUnsafe("SELECT repeat('x', 2000) AS x FROM generate_series(1, 2000)");
    return [sent, Buffer.byteLength(note), rows.length, rows.reduce((sum, row) => sum + row.x.length, 0)];
  },

  async readonly() {
    const db = connect(), other = connect(), seen = [];
    await rollingBack(db, async (tx) => {
      await tx.$executeRawUnsafe('SET TRANSACTION READ ONLY');
      seen.push(await tx.t.count(), await fails(tx.$executeRawUnsafe('INSERT INTO t VALUES (1)')));
    });
    await db.t.create({ data: { id: 1 } });
    seen.push(await db.t.count());
    await db.$transaction(async (tx) => {
      await tx.$executeRawUnsafe('SET TRANSACTION READ ONLY');
      seen.push(await tx.t.count());
      await other.t.create({ data: { id: 2 } });
      seen.push(await tx.t.count());
    }, { isolationLevel: 'RepeatableRead' });
    await db.t.create({ data: { id: 3 } });
    return [...seen, await db.t.count()];
  },

  async ddl() {
    const db = connect(), other = connect(), seen = [];
    await db.$executeRawUnsafe('CREATE TABLE ddl_t (a int)');
    await db.$executeRawUnsafe('INSERT INTO ddl_t VALUES (1)');
    const look = () => fails(ask(db, 'SELECT * FROM ddl_t'));
    seen.push(await same(7, look));
    const changes = [['ALTER TABLE ddl_t ADD b int DEFAULT 2'],
      ['DROP TABLE ddl_t', 'CREATE TABLE ddl_t (a text)', "INSERT INTO ddl_t VALUES ('x')"]];
    for (const [n, steps] of changes.entries()) {
      for (const step of steps) await other.$executeRawUnsafe(step);
      await db.t.create({ data: { id: n } }); // what is read from now on is not older than the change
      seen.push(await look(), await look(), await look());
    }
    return seen;
  },

  async killed() {
    const db = connect(), again = connect();
    killWhenRunning('kill-me');
    const seen = [await fails(db.$transaction(async (tx) => {
      await tx.t.create({ data: { id: 1 } });
      await tx.$executeRawUnsafe('SELECT pg_sleep(30) /* kill-me */');
    }, { timeout: 20000 }))];
    return [...seen, await again.t.count(), await again.$executeRawUnsafe('INSERT INTO t VALUES (2)')];
  },
};

run(scenarios, () => Promise.all(opened.splice(0).map((db) => db.$disconnect())));
