# ruby-pg as it comes. README.md says how this talks with matrix.py.
require 'json'
require 'pg'

PORT = ARGV[0].to_i
TEXT = "It's \"ü\" \\ 😀".freeze
SUM = 'SELECT coalesce(sum(id), 0)::int FROM t'.freeze
OPENED = []
$stdout.sync = true

def tell(**answer) = puts(JSON.generate(answer))

def await_running(marker)
  tell(await: marker)
  $stdin.gets
end

def connect(**more)
  OPENED << PG.connect(host: '127.0.0.1', port: PORT, user: 'app_scram', password: 'secret', dbname: 'app', **more)
  OPENED[-1].type_map_for_results = PG::BasicTypeMapForResults.new(OPENED[-1])
  OPENED[-1]
end

# The row, the one value, or how many rows were changed.
def result(res)
  return res.cmd_tuples if res.nfields.zero?

  row = res.values[0]
  row&.length == 1 ? row[0] : row
end

def ask(db, sql, values = nil) = result(values ? db.exec_params(sql, values) : db.exec(sql))

def code(error)
  state = error.respond_to?(:result) && error.result&.error_field(PG::Result::PG_DIAG_SQLSTATE)
  return 'lost' if state == '57P01' || state&.start_with?('08') || error.is_a?(PG::UnableToSend)
  return state if state

  { 'password authentication failed' => '28P01', 'unrecognized configuration parameter' => '42704',
    'server closed the connection' => 'lost' }.find { |text, _| error.message.include?(text) }&.last || error.message
end

def fails
  yield
rescue PG::Error => e
  code(e)
end

def same(times)
  answers = Array.new(times) { yield }
  answers.uniq.length == 1 ? answers[0] : answers
end

def rolling_back(db, sql)
  db.exec('BEGIN')
  db.exec(sql)
  db.exec('ROLLBACK')
end

def login
  [*ask(connect, 'SELECT current_user, current_database()'), fails { connect(password: 'wrong') }]
end

def startup
  db = connect(options: '-c work_mem=9MB', application_name: 'drive')
  [ask(db, 'SHOW work_mem'), same(10) { ask(db, 'SHOW work_mem') }, ask(db, 'SHOW application_name'),
   fails { connect(options: '-c nosuch=1') }]
end

def clients
  Array.new(4) { connect }.each_with_index.map { |db, n| same(5) { ask(db, 'SELECT $1::int', [n]) } }
end

def settings
  all = Array.new(4) { connect }
  all.each_with_index { |db, n| ask(db, "SET work_mem = '#{n + 5}MB'") }
  same(5) { all.map { |db| ask(db, 'SHOW work_mem') } }
end

def simple
  db = connect
  seen = [ask(db, 'SELECT 1 + 1'), ask(db, "INSERT INTO t VALUES (1, 'one')")]
  rolling_back(db, "INSERT INTO t VALUES (2, 'two')")
  seen << fails { ask(db, 'SELECT * FROM nowhere') }
  db.transaction do
    db.exec("INSERT INTO t VALUES (3, 'three')")
    db.exec('SAVEPOINT s')
    seen << fails { ask(db, "INSERT INTO t VALUES (1, 'again')") }
    db.exec('ROLLBACK TO s')
  end
  [*seen, db.exec('SELECT id, note FROM t ORDER BY id').values]
end

def extended
  db = connect
  row = ask(db, 'SELECT $1::int, $2::text, $3::text, $4::bool, $5::float8, $6::bytea, $7::int[]',
            [7, TEXT, nil, true, 1.5, { value: "\0\xff'".b, format: 1 }, PG::TextEncoder::Array.new.encode([1, 2, 3])])
  row[5] = row[5].unpack1('H*')
  [row, ask(db, 'INSERT INTO t VALUES ($1, $2) RETURNING id', [5, TEXT]), fails { ask(db, 'SELECT 1 / $1::int', [0]) },
   ask(db, 'SELECT $1::int', [8])]
end

def named
  db = connect
  other = connect
  db.prepare('put', "INSERT INTO t VALUES ($1, 'x')")
  db.prepare('sum', SUM)
  db.prepare('ratio', 'SELECT 1 / $1::int')
  db.prepare('s', "SELECT 'a'::text")
  other.prepare('s', "SELECT 'b'::text")
  done = (1..20).sum { |n| result(db.exec_prepared('put', [n])) }
  sum = -> { result(db.exec_prepared('sum')) }
  [done, same(10, &sum), fails { db.exec_prepared('ratio', [0]) }, same(10, &sum),
   same(5) { result(db.exec_prepared('s')) }, same(5) { result(other.exec_prepared('s')) }]
end

# Pipeline mode: results one by one until each Sync's own.
def pipeline
  db = connect
  seen = []
  db.enter_pipeline_mode
  [1, 2, 1, 3].each { |n| db.send_query_params("INSERT INTO t VALUES ($1, 'x')", [n]) }
  db.pipeline_sync
  db.send_query_params("INSERT INTO t VALUES (10, 'x')", [])
  db.send_prepare('p', 'SELECT $1::int')
  5.times { |n| db.send_query_prepared('p', [n]) }
  db.pipeline_sync
  syncs = 0
  while syncs < 2
    res = db.get_result or next
    seen << case res.result_status
            when PG::PGRES_FATAL_ERROR then res.error_field(PG::Result::PG_DIAG_SQLSTATE)
            when PG::PGRES_PIPELINE_ABORTED then 'aborted'
            when PG::PGRES_PIPELINE_SYNC then "sync #{syncs += 1}"
            else result(res)
            end
  end
  db.exit_pipeline_mode
  [*seen, ask(db, SUM)]
end

def copy
  db = connect
  into = ->(*lines) { db.copy_data('COPY t FROM STDIN') { lines.each { |line| db.put_copy_data(line) } }.cmd_tuples }
  seen = [into.call(*(1..1000).map { |n| "#{n}\trow\n" }), ask(db, SUM)]
  out = []
  db.copy_data('COPY t TO STDOUT') { while (line = db.get_copy_data) do out << line end }
  seen << out.length << fails { into.call("2000\tok\nbad\tx\n", "3000\tx\n" * 5000) }
  [*seen, ask(db, 'SELECT count(*) FROM t')]
end

def listen
  db = connect
  other = connect
  heard = lambda do
    payload = nil
    db.wait_for_notify(5) { |_, _, text| payload = text }
    payload
  end
  db.exec('LISTEN news')
  other.exec("NOTIFY news, 'one'")
  seen = [heard.call]
  10.times { |n| ask(db, 'INSERT INTO t VALUES ($1)', [n]) }
  other.exec("NOTIFY news, 'two'")
  seen << heard.call
  rolling_back(other, "NOTIFY news, 'three'")
  db.exec("NOTIFY news, 'four'")
  seen << heard.call
  db.exec('UNLISTEN news')
  seen
end

# DECLARE and FETCH in a transaction, and WITH HOLD outside; then row by row, left in the middle.
def cursor
  db = connect
  db.exec('DECLARE part CURSOR WITH HOLD FOR SELECT n FROM big ORDER BY n')
  total = 0
  10.times do
    total += db.exec('FETCH 100 FROM part').values.sum { |n,| n }
    ask(db, 'SELECT 1')
  end
  db.exec('CLOSE part')
  everything = 0
  db.transaction do
    db.exec('DECLARE whole CURSOR FOR SELECT n FROM big ORDER BY n')
    until (rows = db.exec('FETCH 100 FROM whole').values).empty?
      everything += rows.sum { |n,| n }
    end
  end
  db.send_query('SELECT n FROM big ORDER BY n')
  db.set_single_row_mode
  db.get_result.stream_each_row { |n,| break if n == 100 }
  db.discard_results
  [total, everything, ask(db, 'SELECT 1 + 1')]
end

def cancel
  db = connect
  (0..1).flat_map do |n|
    db.send_query("SELECT pg_sleep(30) /* cancel-me-#{n} */")
    await_running("cancel-me-#{n}")
    db.cancel
    [fails { db.get_last_result }, ask(db, 'SELECT 1')]
  end
end

def set
  db = connect
  show = -> { ask(db, 'SHOW work_mem') }
  db.exec("SET work_mem = '7MB'")
  seen = [same(10, &show)]
  db.exec('SET search_path = extra, public')
  seen << same(5) { ask(db, 'SELECT note FROM only_extra') }
  rolling_back(db, "SET work_mem = '8MB'")
  seen << same(5, &show)
  db.transaction do
    db.exec("SET LOCAL work_mem = '6MB'")
    seen << show.call
  end
  seen << same(5, &show)
  db.exec("SET TIME ZONE 'Asia/Tokyo'")
  seen << same(5) { ask(db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')") }
  db.exec('SET ROLE app')
  seen << same(5) { ask(db, 'SELECT current_user') }
  db.exec('RESET ROLE')
  seen << same(5) { ask(db, 'SELECT current_user') } << fails { ask(db, "SET work_mem = 'nonsense'") }
  db.exec('RESET work_mem')
  seen << same(5, &show)
  db.exec('RESET search_path')
  seen << same(5) { fails { ask(db, 'SELECT note FROM only_extra') } }
  ask(db, 'SELECT set_config($1, $2, false)', %w[work_mem 5MB])
  seen << same(5, &show)
end

def kept
  all = { 'one' => connect, 'two' => connect }
  File.readlines('kept.sql', chomp: true).filter_map do |line|
    who, sql = line.split(' ', 2)
    value = ask(all[who], sql)
    value if sql.match?(/^(SELECT|FETCH|EXECUTE)/)
  end
end

def large
  db = connect
  big = 'ü234567' * 1_000_000 # 8 MB of UTF-8
  sent = ask(db, 'SELECT octet_length($1)', [big])
  ask(db, 'INSERT INTO t VALUES (1, $1)', [big])
  back = ask(db, 'SELECT note FROM t')
  rows = db.exec("SELECT repeat('x', 2000) FROM generate_series(1, 2000)").values
  [sent, back.bytesize, rows.length, rows.sum { |x,| x.length }]
end

def readonly
  db = connect
  other = connect
  count = -> { ask(db, 'SELECT count(*) FROM t') }
  db.exec('BEGIN READ ONLY')
  seen = [count.call, fails { ask(db, 'INSERT INTO t VALUES (1)') }]
  db.exec('ROLLBACK')
  db.exec('INSERT INTO t VALUES (1)')
  seen << count.call
  db.exec('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  seen << count.call
  other.exec('INSERT INTO t VALUES (2)')
  seen << count.call
  db.exec('COMMIT')
  db.exec('INSERT INTO t VALUES (3)')
  seen << count.call
end

def ddl
  db = connect
  other = connect
  db.exec('CREATE TABLE ddl_t (a int)')
  db.exec('INSERT INTO ddl_t VALUES (1)')
  db.prepare('look', 'SELECT * FROM ddl_t')
  look = -> { fails { result(db.exec_prepared('look')) } }
  seen = [same(7, &look)]
  ['ALTER TABLE ddl_t ADD b int DEFAULT 2',
   "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"].each_with_index do |change, n|
    other.exec(change)
    ask(db, 'INSERT INTO t VALUES ($1)', [n]) # what is read from now on is not older than the change
    3.times { seen << look.call }
    db.exec('DEALLOCATE look') # as Rails does it
    db.prepare('look', 'SELECT * FROM ddl_t')
    seen << same(5, &look)
  end
  seen
end

def killed
  db = connect
  tell(kill: 'kill-me')
  db.exec('BEGIN')
  db.exec('INSERT INTO t VALUES (1)')
  seen = [fails { ask(db, 'SELECT pg_sleep(30) /* kill-me */') }]
  again = connect
  [*seen, ask(again, 'SELECT count(*) FROM t'), ask(again, 'INSERT INTO t VALUES (2)')]
end

while (name = $stdin.gets)
  begin
    tell(seen: send(name.strip))
  rescue StandardError => e
    warn e.full_message
    tell(error: e.is_a?(PG::Error) ? "#{code(e)} #{e.message}"[0, 500] : e.full_message(highlight: false)[0, 500])
  end
  OPENED.each { |db| db.close unless db.finished? }.clear
end
