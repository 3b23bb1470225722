// What the JavaScript programs of `make test-clients` share; README.md says how they talk with matrix.py.
'use strict';
const fs = require('fs');
const readline = require('readline');

const where = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'app_scram', password: 'secret', database: 'app' };
const TEXT = 'It\'s "ü" \\ 😀';
const SELECT_SUM = 'SELECT coalesce(sum(id), 0)::int AS v FROM t';

const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const tell = (answer) => process.stdout.write(JSON.stringify(answer) + '\n');

// Until a statement with this marker runs on a node.
async function awaitRunning(marker) {
  tell({ await: marker });
  await input.next();
}

// The server that will run a statement with this marker will be terminated.
const killWhenRunning = (marker) => tell({ kill: marker });

// The driver cannot do it; the text says why.
class Skip extends Error {}

// The one answer that ask() gave every time, or all of them.
async function same(times, ask) {
  const answers = [];
  for (let n = 0; n < times; n++) answers.push(await ask());
  return answers.every((a) => JSON.stringify(a) === JSON.stringify(answers[0])) ? answers[0] : answers;
}

// [client, statement, whether it shows a value] of the scenario "kept".
const kept = () => fs.readFileSync('kept.sql', 'utf8').trim().split('\n').map((line) => {
  const [who, first] = line.split(' ');
  return [who, line.slice(who.length + 1), ['SELECT', 'FETCH', 'EXECUTE'].includes(first)];
});

// An error as a scenario notes it: its SQLSTATE, or that the connection is lost.
function code(error) {
  const state = error.code ?? error.cause?.originalCode;
  if (['57P01', '08003', '08006', '08007', 'CONNECTION_CLOSED', 'ECONNRESET', 'P1017', 'P1001'].includes(state)
      || /terminat|Connection (was )?closed/i.test(error.message)) return 'lost';
  return state ?? `${error.name}: ${error.message}`;
}

const fails = (promise) => promise.catch(code);

async function run(scenarios, after = async () => {}) {
  for (;;) {
    const { value, done } = await input.next();
    if (done) break;
    const name = value.trim();
    try {
      tell({ seen: await scenarios[name]() });
    } catch (error) {
      console.error(error);
      tell(error instanceof Skip ? { skip: error.message } : { error: `${code(error)} ${error.message}`.slice(0, 500) });
    }
    await after().catch(console.error);
  }
  process.exit(0);
}

module.exports = { where, TEXT, SELECT_SUM, awaitRunning, killWhenRunning, Skip, same, kept, code, fails, run };
