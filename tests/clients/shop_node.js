// The shop with node-postgres and its default pool. NODE_PATH points to where npm put `pg`.
'use strict';
const readline = require('readline');
const { Pool } = require('pg');

const PAUSE_MS = 10; // a visitor's, as in shop.py
const ITEMS = 20;
const pool = new Pool({
  host: '127.0.0.1', port: Number(process.argv[2]), user: 'app_scram', password: 'secret', database: 'app',
});
const stock = new Map(), orders = new Map(); // what this program knows to be true: only it writes

const pause = () => new Promise((done) => setTimeout(done, PAUSE_MS));

async function detail(item) {
  const one = await pool.query('SELECT id, name, stock FROM shop_item WHERE id = $1', [item]);
  const count = await pool.query('SELECT count(*)::int AS n FROM shop_order WHERE item_id = $1', [item]);
  return one.rows[0].stock === (stock.get(item) ?? 100) && count.rows[0].n === (orders.get(item) ?? 0);
}

async function visit(n) {
  const item = n % ITEMS + 1;
  const { rows } = await pool.query('SELECT id, stock FROM shop_item ORDER BY id LIMIT 20');
  const listed = rows.find((row) => row.id === item);
  await pause();
  const right = await detail(item);
  await pause();
  return (listed.stock === (stock.get(item) ?? 100) ? 0 : 1) + (right ? 0 : 1);
}

async function buy(item) {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query('SELECT stock FROM shop_item WHERE id = $1 FOR UPDATE', [item]);
    await client.query('UPDATE shop_item SET stock = stock - 1 WHERE id = $1', [item]);
    await client.query('INSERT INTO shop_order (item_id) VALUES ($1)', [item]);
    await client.query('COMMIT');
  } finally {
    client.release();
  }
  stock.set(item, (stock.get(item) ?? 100) - 1);
  orders.set(item, (orders.get(item) ?? 0) + 1);
  return await detail(item) ? 0 : 1;
}

async function main() {
  let item = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, argument] = line.split(' ');
    let wrong = 0;
    if (command === 'pages') {
      for (let n = 0; n < Number(argument); n++) wrong += await visit(n);
    } else {
      item = item % ITEMS + 1;
      wrong = await buy(item);
    }
    console.log(JSON.stringify({ wrong }));
  }
  await pool.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
