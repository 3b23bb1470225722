// node-postgres as it comes, with pg-cursor for streaming and pg-copy-streams for COPY.
'use strict';
const { pipeline } = require('stream/promises');
const { Readable, Writable } = require('stream');
const { Client } = require('pg');
const Cursor = require('pg-cursor');
const copyStreams = require('pg-copy-streams');
const { where, TEXT, SELECT_SUM, awaitRunning, killWhenRunning, same, kept, code, fails, run } = require('./drive');

const opened = [];

async function connect(more = {}) {
  const db = new Client({ ...where, ...more });
  db.on('error', () => {}); // a lost connection shows in the query, too
  opened.push(db);
  await db.connect();
  return db;
}

// The row, the one value, or how many rows were changed.
function result({ rows, rowCount, fields }) {
  if (!fields || fields.length === 0) return rowCount;
  const row = rows[0] && Object.values(rows[0]);
  return row && row.length === 1 ? row[0] : row;
}

const ask = async (db, text, values) => result(await db.query(text, values));

async function rollingBack(db, text) {
  await db.query('BEGIN');
  await db.query(text);
  await db.query('ROLLBACK');
}

const scenarios = {
  async login() {
    return [...await ask(await connect(), 'SELECT current_user, current_database()'),
      await fails(connect({ password: 'wrong' }))];
  },

  async startup() {
    const db = await connect({ options: '-c work_mem=9MB', application_name: 'drive' });
    const show = () => ask(db, 'SHOW work_mem');
    return [await show(), await same(10, show), await ask(db, 'SHOW application_name'),
      await fails(connect({ options: '-c nosuch=1' }))];
  },

  async clients() {
    const seen = [];
    const clients = [await connect(), await connect(), await connect(), await connect()];
    for (const [n, db] of clients.entries()) seen.push(await same(5, () => ask(db, 'SELECT $1::int', [n])));
    return seen;
  },

  async settings() {
    const clients = [await connect(), await connect(), await connect(), await connect()];
    for (const [n, db] of clients.entries()) await ask(db, `SET work_mem = '${n + 5}MB'`);
    return same(5, () => Promise.all(clients.map((db) => ask(db, 'SHOW work_mem'))));
  },

  async simple() {
    const db = await connect();
    const seen = [await ask(db, 'SELECT 1 + 1'), await ask(db, "INSERT INTO t VALUES (1, 'one')")];
    await rollingBack(db, "INSERT INTO t VALUES (2, 'two')");
    seen.push(await fails(ask(db, 'SELECT * FROM nowhere')));
    await db.query("BEGIN; INSERT INTO t VALUES (3, 'three'); SAVEPOINT s");
    seen.push(await fails(ask(db, "INSERT INTO t VALUES (1, 'again')")));
    await db.query('ROLLBACK TO s');
    await db.query('COMMIT');
    return [...seen, (await db.query('SELECT id, note FROM t ORDER BY id')).rows.map(Object.values)];
  },

  async extended() {
    const db = await connect();
    const row = await ask(db, 'SELECT $1::int a, $2::text b, $3::text c, $4::bool d, $5::float8 e, $6::bytea f, $7::int[] g',
      [7, TEXT, null, true, 1.5, Buffer.from([0, 255, 39]), [1, 2, 3]]);
    row[5] = row[5].toString('hex');
    return [row, await ask(db, 'INSERT INTO t VALUES ($1, $2) RETURNING id', [5, TEXT]),
      await fails(ask(db, 'SELECT 1 / $1::int', [0])), await ask(db, 'SELECT $1::int', [8])];
  },

  async named() {
    const db = await connect(), other = await connect();
    const put = (id) => ask(db, { name: 'put', text: "INSERT INTO t VALUES ($1, 'x')", values: [id] });
    const total = () => ask(db, { name: 'total', text: SELECT_SUM });
    let done = 0;
    for (let n = 1; n <= 20; n++) done += await put(n);
    const seen = [done, await same(10, total)];
    seen.push(await fails(ask(db, { name: 'ratio', text: 'SELECT 1 / $1::int', values: [0] })), await same(10, total));
    seen.push(await same(5, () => ask(db, { name: 's', text: "SELECT 'a' AS v" })));
    seen.push(await same(5, () => ask(other, { name: 's', text: "SELECT 'b' AS v" })));
    return seen;
  },

  // Its opt-in pipelining, where each query has its own Sync.
  async pipeline() {
    const db = await connect({ pipeline: true });
    const seen = await Promise.all([1, 2, 1, 3].map((n) => fails(ask(db, "INSERT INTO t VALUES ($1, 'x')", [n]))));
    seen.push(await Promise.all([...Array(20).keys()].map((n) => ask(db, { name: 'p', text: 'SELECT $1::int', values: [n] }))));
    seen.push(await Promise.all(['BEGIN', "INSERT INTO t VALUES (9, 'x')", 'SELECT 1 / 0', 'SELECT 1', 'ROLLBACK', 'SELECT 2']
      .map((text) => fails(ask(db, text, [])))));
    return [...seen, await ask(db, SELECT_SUM)];
  },

  async copy() {
    const db = await connect(), lines = [];
    const rows = function* () { for (let n = 1; n <= 1000; n++) yield `${n}\trow\n`; };
    const into = db.query(copyStreams.from('COPY t FROM STDIN'));
    await pipeline(Readable.from(rows()), into);
    const seen = [into.rowCount, await ask(db, SELECT_SUM)];
    await pipeline(db.query(copyStreams.to('COPY t TO STDOUT')),
      new Writable({ write(chunk, _, done) { lines.push(chunk); done(); } }));
    seen.push(Buffer.concat(lines).toString().trimEnd().split('\n').length);
    const bad = ['2000\tok\nbad\tx\n', '3000\tx\n'.repeat(5000)];
    seen.push(await fails(pipeline(Readable.from(bad), db.query(copyStreams.from('COPY t FROM STDIN')))));
    return [...seen, await ask(db, 'SELECT count(*)::int FROM t')];
  },

  async listen() {
    const db = await connect(), other = await connect();
    const seen = [], waiting = [], early = [];
    db.on('notification', ({ payload }) => (waiting.length ? waiting.shift()(payload) : early.push(payload)));
    const heard = () => (early.length ? early.shift() : new Promise((done) => {
      waiting.push(done);
      setTimeout(done, 5000, null).unref();
    }));
    await db.query('LISTEN news');
    await other.query("NOTIFY news, 'one'");
    seen.push(await heard());
    for (let n = 0; n < 10; n++) await db.query('INSERT INTO t VALUES ($1)', [n]);
    await other.query("NOTIFY news, 'two'");
    seen.push(await heard());
    await rollingBack(other, "NOTIFY news, 'three'");
    await db.query("NOTIFY news, 'four'");
    seen.push(await heard());
    await db.query('UNLISTEN news');
    return seen;
  },

  // pg-cursor: Parse, Bind, Describe, Flush; Execute with a row limit and Flush; no transaction around it.
  async cursor() {
    const db = await connect();
    const part = db.query(new Cursor('SELECT n FROM big ORDER BY n'));
    let total = 0, everything = 0;
    for (let n = 0; n < 10; n++) for (const row of await part.read(100)) total += row.n;
    await part.close();
    await db.query('BEGIN');
    const whole = db.query(new Cursor('SELECT n FROM big ORDER BY n'));
    for (;;) {
      const rows = await whole.read(100);
      if (rows.length === 0) break;
      for (const row of rows) everything += row.n;
    }
    await whole.close();
    await db.query('COMMIT');
    return [total, everything, await ask(db, 'SELECT 1 + 1')];
  },

  async cancel() {
    const db = await connect(), seen = [];
    for (let n = 0; n < 2; n++) {
      const text = `SELECT pg_sleep(30) /* cancel-me-${n} */`;
      const sleeping = fails(ask(db, text));
      await awaitRunning(`cancel-me-${n}`);
      const canceller = new Client(where); // what node-postgres has for it: a connection that sends a CancelRequest
      const connection = canceller.connection;
      connection.on('connect', () => connection.cancel(db.processID, db.secretKey));
      connection.on('error', () => {});
      connection.connect(where.port, where.host);
      seen.push(await sleeping, await ask(db, 'SELECT 1'));
    }
    return seen;
  },

  async set() {
    const db = await connect(), show = () => ask(db, 'SHOW work_mem');
    await db.query("SET work_mem = '7MB'");
    const seen = [await same(10, show)];
    await db.query('SET search_path = extra, public');
    seen.push(await same(5, () => ask(db, 'SELECT note FROM only_extra')));
    await rollingBack(db, "SET work_mem = '8MB'");
    seen.push(await same(5, show));
    await db.query('BEGIN');
    await db.query("SET LOCAL work_mem = '6MB'");
    seen.push(await show());
    await db.query('COMMIT');
    seen.push(await same(5, show));
    await db.query("SET TIME ZONE 'Asia/Tokyo'");
    seen.push(await same(5, () => ask(db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')")));
    await db.query('SET ROLE app');
    seen.push(await same(5, () => ask(db, 'SELECT current_user')));
    await db.query('RESET ROLE');
    seen.push(await same(5, () => ask(db, 'SELECT current_user')), await fails(ask(db, "SET work_mem = 'nonsense'")));
    await db.query('RESET work_mem');
    seen.push(await same(5, show));
    await db.query('RESET search_path');
    seen.push(await same(5, () => fails(ask(db, 'SELECT note FROM only_extra'))));
    await db.query('SELECT set_config($1, $2, false)', ['work_mem', '5MB']);
    return [...seen, await same(5, show)];
  },

  async kept() {
    const clients = { one: await connect(), two: await connect() }, seen = [];
    for (const [who, sql, shows] of kept()) {
      const value = await ask(clients[who], sql);
      if (shows) seen.push(value);
    }
    return seen;
  },

  async large() {
    const db = await connect(), big = 'ü234567'.repeat(1000000); // 8 MB of UTF-8
    const sent = await ask(db, 'SELECT octet_length($1)', [big]);
    await db.query('INSERT INTO t VALUES (1, $1)', [big]);
    const back = await ask(db, 'SELECT note FROM t');
    const { rows } = await db.query("SELECT repeat('x', 2000) AS x FROM generate_series(1, 2000)");
    return [sent, Buffer.byteLength(back), rows.length, rows.reduce((sum, row) => sum + row.x.length, 0)];
  },

  async readonly() {
    const db = await connect(), other = await connect();
    const count = () => ask(db, 'SELECT count(*)::int FROM t');
    await db.query('BEGIN READ ONLY');
    const seen = [await count(), await fails(ask(db, 'INSERT INTO t VALUES (1)'))];
    await db.query('ROLLBACK');
    await db.query('INSERT INTO t VALUES (1)');
    seen.push(await count());
    await db.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    seen.push(await count());
    await other.query('INSERT INTO t VALUES (2)');
    seen.push(await count());
    await db.query('COMMIT');
    await db.query('INSERT INTO t VALUES (3)');
    return [...seen, await count()];
  },

  async ddl() {
    const db = await connect(), other = await connect(), seen = [];
    await db.query('CREATE TABLE ddl_t (a int)');
    await db.query('INSERT INTO ddl_t VALUES (1)');
    const look = () => fails(ask(db, { name: 'look', text: 'SELECT * FROM ddl_t' }));
    seen.push(await same(7, look));
    const changes = ['ALTER TABLE ddl_t ADD b int DEFAULT 2',
      "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"];
    for (const [n, change] of changes.entries()) {
      await other.query(change);
      await db.query('INSERT INTO t VALUES ($1)', [n]); // what is read from now on is not older than the change
      // node-postgres keeps a name's statement for good, so its user needs another name.
      seen.push(await look(), await look(), await look(), await ask(db, 'SELECT * FROM ddl_t', []));
      seen.push(await same(5, () => fails(ask(db, { name: `look ${n}`, text: 'SELECT * FROM ddl_t' }))));
    }
    return seen;
  },

  async killed() {
    const db = await connect();
    killWhenRunning('kill-me');
    await db.query('BEGIN');
    await db.query('INSERT INTO t VALUES (1)');
    const seen = [await fails(ask(db, 'SELECT pg_sleep(30) /* kill-me */'))];
    const again = await connect();
    return [...seen, await ask(again, 'SELECT count(*)::int FROM t'), await ask(again, 'INSERT INTO t VALUES (2)')];
  },
};

run(scenarios, () => Promise.all(opened.splice(0).map((db) => db.end())));
