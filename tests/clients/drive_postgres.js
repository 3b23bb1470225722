// postgres.js as it comes: every statement is prepared and named by itself, and sent without waiting for the one before.
'use strict';
const { pipeline } = require('stream/promises');
const { Readable, Writable } = require('stream');
const postgres = require('postgres');
const { where, TEXT, awaitRunning, killWhenRunning, same, kept, code, fails, run } = require('./drive');

const opened = [];

// max: 1, so that a "client" is one connection; all else is the default.
function connect(more = {}) {
  opened.push(postgres({ ...where, max: 1, onnotice() {}, ...more }));
  return opened[opened.length - 1];
}

const one = async (query) => {
  const rows = await query;
  if (rows.columns === undefined || rows.columns.length === 0) return rows.count;
  const row = rows[0] && Object.values(rows[0]);
  return row && row.length === 1 ? row[0] : row;
};
const sum = (sql) => one(sql`SELECT coalesce(sum(id), 0)::int FROM t`);
const rollback = new Error('roll back');
const rollingBack = (sql, work) => sql.begin(async (tx) => { await work(tx); throw rollback; })
  .catch((e) => { if (e !== rollback) throw e; });

const scenarios = {
  async login() {
    return [...await one(connect()`SELECT current_user, current_database()`),
      await fails(one(connect({ password: 'wrong' })`SELECT 1`))];
  },

  async startup() {
    const sql = connect({ connection: { work_mem: '9MB', application_name: 'drive' } });
    const show = () => one(sql`SHOW work_mem`);
    return [await show(), await same(10, show), await one(sql`SHOW application_name`),
      await fails(one(connect({ connection: { nosuch: '1' } })`SELECT 1`))];
  },

  async clients() {
    const clients = [connect(), connect(), connect(), connect()], seen = [];
    for (const [n, sql] of clients.entries()) seen.push(await same(5, () => one(sql`SELECT ${n}::int`)));
    return seen;
  },

  async settings() {
    const clients = [connect(), connect(), connect(), connect()];
    for (const [n, sql] of clients.entries()) await sql.unsafe(`SET work_mem = '${n + 5}MB'`);
    return same(5, () => Promise.all(clients.map((sql) => one(sql`SHOW work_mem`))));
  },

  async simple() {
    const sql = connect();
    const seen = [await one(sql`SELECT 1 + 1`.simple()), await one(sql`INSERT INTO t VALUES (1, 'one')`.simple())];
    await rollingBack(sql, (tx) => tx`INSERT INTO t VALUES (2, 'two')`);
    seen.push(await fails(one(sql`SELECT * FROM nowhere`)));
    await sql.begin(async (tx) => {
      await tx`INSERT INTO t VALUES (3, 'three')`;
      seen.push(await fails(tx.savepoint((inner) => inner`INSERT INTO t VALUES (1, 'again')`)));
    });
    return [...seen, (await sql`SELECT id, note FROM t ORDER BY id`).map((row) => Object.values(row))];
  },

  async extended() {
    const sql = connect();
    const row = await one(sql`SELECT ${7}::int a, ${TEXT}::text b, ${null}::text c, ${true}::bool d, ${1.5}::float8 e,
      ${Buffer.from([0, 255, 39])}::bytea f, ${[1, 2, 3]}::int[] g`);
    row[5] = row[5].toString('hex');
    return [row, await one(sql`INSERT INTO t VALUES (${5}, ${TEXT}) RETURNING id`), await fails(one(sql`SELECT 1 / ${0}::int`)),
      await one(sql`SELECT ${8}::int`)];
  },

  async named() {
    const sql = connect(), other = connect();
    let done = 0;
    for (let n = 1; n <= 20; n++) done += await one(sql`INSERT INTO t VALUES (${n}, 'x')`);
    const seen = [done, await same(10, () => sum(sql)), await fails(one(sql`SELECT 1 / ${0}::int`)), await same(10, () => sum(sql))];
    return [...seen, await same(5, () => one(sql`SELECT 'a' AS v`)), await same(5, () => one(other`SELECT 'b' AS v`))];
  },

  async pipeline() {
    const sql = connect();
    const seen = await Promise.all([1, 2, 1, 3].map((n) => fails(one(sql`INSERT INTO t VALUES (${n}, 'x')`))));
    seen.push(await Promise.all([...Array(20).keys()].map((n) => one(sql`SELECT ${n}::int`))));
    seen.push(await fails(sql.begin((tx) => [tx`INSERT INTO t VALUES (9, 'x')`, tx`SELECT 1 / 0`, tx`INSERT INTO t VALUES (10, 'x')`])));
    return [...seen, await sum(sql)];
  },

  // Without the COPY that fails: postgres.js 3.4 then waits for ever, whatever the server says.
  async copy() {
    const sql = connect(), chunks = [];
    const rows = function* () { for (let n = 1; n <= 1000; n++) yield `${n}\trow\n`; };
    await pipeline(Readable.from(rows()), await sql`COPY t FROM STDIN`.writable());
    const seen = [await one(sql`SELECT count(*)::int FROM t`), await sum(sql)];
    await pipeline(await sql`COPY t TO STDOUT`.readable(),
      new Writable({ write(chunk, _, done) { chunks.push(chunk); done(); } }));
    seen.push(Buffer.concat(chunks).toString().trimEnd().split('\n').length);
    return [...seen, await one(sql`SELECT count(*)::int FROM t`)];
  },

  // Its listen() opens a connection of its own.
  async listen() {
    const sql = connect(), other = connect(), seen = [], waiting = [], early = [];
    const { unlisten } = await sql.listen('news', (payload) => (waiting.length ? waiting.shift()(payload) : early.push(payload)));
    const heard = () => (early.length ? early.shift() : new Promise((done) => {
      waiting.push(done);
      setTimeout(done, 5000, null).unref();
    }));
    await other.notify('news', 'one');
    seen.push(await heard());
    for (let n = 0; n < 10; n++) await sql`INSERT INTO t VALUES (${n})`;
    await other.notify('news', 'two');
    seen.push(await heard());
    await rollingBack(other, (tx) => tx`SELECT pg_notify('news', 'three')`);
    await sql.notify('news', 'four');
    seen.push(await heard());
    await unlisten();
    return seen;
  },

  async cursor() {
    const sql = connect();
    let total = 0, everything = 0, read = 0;
    for await (const rows of sql`SELECT n FROM big ORDER BY n`.cursor(100)) {
      for (const row of rows) total += row.n;
      if ((read += rows.length) === 1000) break;
    }
    await sql`SELECT n FROM big ORDER BY n`.cursor(100, (rows) => { for (const row of rows) everything += row.n; });
    return [total, everything, await one(sql`SELECT 1 + 1`)];
  },

  async cancel() {
    const sql = connect(), seen = [];
    for (let n = 0; n < 2; n++) {
      const query = sql.unsafe(`SELECT pg_sleep(30) /* cancel-me-${n} */`);
      const sleeping = fails(one(query));
      await awaitRunning(`cancel-me-${n}`);
      query.cancel();
      seen.push(await sleeping, await one(sql`SELECT 1`));
    }
    return seen;
  },

  async set() {
    const sql = connect(), show = () => one(sql`SHOW work_mem`);
    await sql`SET work_mem = '7MB'`;
    const seen = [await same(10, show)];
    await sql`SET search_path = extra, public`;
    seen.push(await same(5, () => one(sql`SELECT note FROM only_extra`)));
    await rollingBack(sql, (tx) => tx`SET work_mem = '8MB'`);
    seen.push(await same(5, show));
    await sql.begin(async (tx) => {
      await tx`SET LOCAL work_mem = '6MB'`;
      seen.push(await one(tx`SHOW work_mem`));
    });
    seen.push(await same(5, show));
    await sql`SET TIME ZONE 'Asia/Tokyo'`;
    seen.push(await same(5, () => one(sql`SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')`)));
    await sql`SET ROLE app`;
    seen.push(await same(5, () => one(sql`SELECT current_user`)));
    await sql`RESET ROLE`;
    seen.push(await same(5, () => one(sql`SELECT current_user`)), await fails(one(sql`SET work_mem = 'nonsense'`)));
    await sql`RESET work_mem`;
    seen.push(await same(5, show));
    await sql`RESET search_path`;
    seen.push(await same(5, () => fails(one(sql`SELECT note FROM only_extra`))));
    await sql`SELECT set_config(${'work_mem'}, ${'5MB'}, false)`;
    return [...seen, await same(5, show)];
  },

  async kept() {
    const clients = { one: connect(), two: connect() }, seen = [];
    for (const [who, sql, shows] of kept()) {
      const value = await one(clients[who].unsafe(sql));
      if (shows) seen.push(value);
    }
    return seen;
  },

  async large() {
    const sql = connect(), big = 'ü234567'.repeat(1000000); // 8 MB of UTF-8
    const sent = await one(sql`SELECT octet_length(${big})`);
    await sql`INSERT INTO t VALUES (1, ${big})`;
    const back = await one(sql`SELECT note FROM t`);
    const rows = await sql`SELECT repeat('x', 2000) AS x FROM generate_series(1, 2000)`;
    return [sent, Buffer.byteLength(back), rows.length, rows.reduce((all, row) => all + row.x.length, 0)];
  },

  async readonly() {
    const sql = connect(), other = connect(), seen = [];
    const count = (tx) => one(tx`SELECT count(*)::int FROM t`);
    seen.push(await sql.begin('READ ONLY', count));
    seen.push(await fails(sql.begin('READ ONLY', (tx) => tx`INSERT INTO t VALUES (1)`)));
    await sql`INSERT INTO t VALUES (1)`;
    seen.push(await count(sql));
    await sql.begin('ISOLATION LEVEL REPEATABLE READ READ ONLY', async (tx) => {
      seen.push(await count(tx));
      await other`INSERT INTO t VALUES (2)`;
      seen.push(await count(tx));
    });
    await sql`INSERT INTO t VALUES (3)`;
    return [...seen, await count(sql)];
  },

  async ddl() {
    const sql = connect(), other = connect(), seen = [];
    await sql`CREATE TABLE ddl_t (a int)`;
    await sql`INSERT INTO ddl_t VALUES (1)`;
    const look = () => fails(one(sql`SELECT * FROM ddl_t`));
    seen.push(await same(7, look));
    const changes = ['ALTER TABLE ddl_t ADD b int DEFAULT 2',
      "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"];
    for (const [n, change] of changes.entries()) {
      await other.unsafe(change);
      await sql`INSERT INTO t VALUES (${n})`; // what is read from now on is not older than the change
      seen.push(await look(), await look(), await look(), await fails(sql.begin((tx) => one(tx`SELECT * FROM ddl_t`))));
    }
    return seen;
  },

  async killed() {
    const sql = connect(), again = connect();
    killWhenRunning('kill-me');
    // In one Query: in a transaction that it began itself, its ROLLBACK to the lost socket would end the whole program.
    const seen = [await fails(sql.unsafe("INSERT INTO t VALUES (1); SELECT pg_sleep(30) /* kill-me */"))];
    return [...seen, await one(again`SELECT count(*)::int FROM t`), await one(again`INSERT INTO t VALUES (2)`)];
  },
};

run(scenarios, () => Promise.all(opened.splice(0).map((sql) => sql.end({ timeout: 0 }))));
