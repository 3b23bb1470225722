<?php
// PHP's PDO as it comes: prepare() makes a named statement on the server, and SQL DEALLOCATE ends it.
// README.md says how this talks with matrix.py.

const TEXT = "It's \"ü\" \\ 😀";
const SUM = 'SELECT coalesce(sum(id), 0)::int FROM t';
ini_set('memory_limit', '512M');
error_reporting(E_ALL);
class Skip extends Exception {}

function tell(string $key, $value): void
{
    echo json_encode([$key => $value], JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION), "\n";
}

function connect(string $more = '', string $password = 'secret'): PDO
{
    return new PDO("pgsql:host=127.0.0.1;port={$GLOBALS['argv'][1]};dbname=app;$more", 'app_scram', $password);
}

/** The row, the one value, or how many rows were changed. */
function result(PDOStatement $s)
{
    if ($s->columnCount() === 0) return $s->rowCount();
    $row = $s->fetch(PDO::FETCH_NUM);
    return $row !== false && count($row) === 1 ? $row[0] : $row;
}

function ask(PDO $db, string $sql, ?array $values = null)
{
    if ($values === null) return result($db->query($sql));
    $s = $db->prepare($sql);
    return run($s, $values);
}

function run(PDOStatement $s, array $values = [])
{
    foreach ($values as $n => $value) {
        $kind = is_int($value) ? PDO::PARAM_INT : (is_bool($value) ? PDO::PARAM_BOOL : (is_null($value) ? PDO::PARAM_NULL : PDO::PARAM_STR));
        $s->bindValue($n + 1, $value, $kind);
    }
    $s->execute();
    return result($s);
}

function code(PDOException $e): string
{
    $state = $e->errorInfo[0] ?? 'HY000';
    if ($state === '57P01' || ($state !== '08006' && str_starts_with($state, '08'))) return 'lost';
    foreach (['password authentication failed' => '28P01', 'unrecognized configuration parameter' => '42704',
              'server closed the connection' => 'lost', 'terminating connection' => 'lost'] as $text => $what) {
        if (str_contains($e->getMessage(), $text)) return $what;
    }
    return $state;
}

function fails(callable $work)
{
    try {
        return $work();
    } catch (PDOException $e) {
        return code($e);
    }
}

function same(int $times, callable $ask)
{
    $answers = [];
    for ($n = 0; $n < $times; $n++) $answers[] = $ask();
    foreach ($answers as $a) if ($a !== $answers[0]) return $answers;
    return $answers[0];
}

function rolling_back(PDO $db, string $sql): void
{
    $db->beginTransaction();
    $db->exec($sql);
    $db->rollBack();
}

function login(): array
{
    return [...ask(connect(), 'SELECT current_user, current_database()'), fails(fn() => connect(password: 'wrong'))];
}

function startup(): array
{
    $db = connect("options='-c work_mem=9MB';application_name=drive");
    return [ask($db, 'SHOW work_mem'), same(10, fn() => ask($db, 'SHOW work_mem')), ask($db, 'SHOW application_name'),
            fails(fn() => connect("options='-c nosuch=1'"))];
}

function clients(): array
{
    $clients = [connect(), connect(), connect(), connect()];
    return array_map(fn($db, $n) => same(5, fn() => ask($db, 'SELECT ?::int', [$n])), $clients, array_keys($clients));
}

function settings(): array
{
    $clients = [connect(), connect(), connect(), connect()];
    foreach ($clients as $n => $db) $db->exec("SET work_mem = '" . ($n + 5) . "MB'");
    return same(5, fn() => array_map(fn($db) => ask($db, 'SHOW work_mem'), $clients));
}

function simple(): array
{
    $db = connect();
    $seen = [ask($db, 'SELECT 1 + 1'), $db->exec("INSERT INTO t VALUES (1, 'one')")];
    rolling_back($db, "INSERT INTO t VALUES (2, 'two')");
    $seen[] = fails(fn() => ask($db, 'SELECT * FROM nowhere'));
    $db->beginTransaction();
    $db->exec("INSERT INTO t VALUES (3, 'three')");
    $db->exec('SAVEPOINT s');
    $seen[] = fails(fn() => $db->exec("INSERT INTO t VALUES (1, 'again')"));
    $db->exec('ROLLBACK TO s');
    $db->commit();
    return [...$seen, $db->query('SELECT id, note FROM t ORDER BY id')->fetchAll(PDO::FETCH_NUM)];
}

function extended(): array
{
    $db = connect();
    $s = $db->prepare('SELECT ?::int, ?::text, ?::text, ?::bool, ?::float8, ?::bytea, array_to_json(?::int[])');
    foreach ([7, TEXT, null, true] as $n => $v) $s->bindValue($n + 1, $v, [PDO::PARAM_INT, PDO::PARAM_STR, PDO::PARAM_NULL, PDO::PARAM_BOOL][$n]);
    $s->bindValue(5, '1.5');
    $s->bindValue(6, "\0\xff'", PDO::PARAM_LOB);
    $s->bindValue(7, '{1,2,3}');
    $s->execute();
    $row = $s->fetch(PDO::FETCH_NUM);
    $row[4] = (float) $row[4];
    $row[5] = bin2hex(stream_get_contents($row[5]));
    $row[6] = json_decode($row[6]);
    return [$row, ask($db, 'INSERT INTO t VALUES (?, ?) RETURNING id', [5, TEXT]), fails(fn() => ask($db, 'SELECT 1 / ?::int', [0])),
            ask($db, 'SELECT ?::int', [8])];
}

function named(): array
{
    [$db, $other] = [connect(), connect()];
    $put = $db->prepare("INSERT INTO t VALUES (?, 'x')");
    $sum = $db->prepare(SUM);
    $ratio = $db->prepare('SELECT 1 / ?::int');
    $done = 0;
    for ($n = 1; $n <= 20; $n++) $done += run($put, [$n]);
    $seen = [$done, same(10, fn() => run($sum)), fails(fn() => run($ratio, [0])), same(10, fn() => run($sum))];
    [$a, $b] = [$db->prepare("SELECT 'a'"), $other->prepare("SELECT 'b'")];
    $seen = [...$seen, same(5, fn() => run($a)), same(5, fn() => run($b))];
    unset($put, $ratio, $a); // each sends DEALLOCATE
    return same(5, fn() => run($sum)) === 210 ? $seen : ['lost its other statements'];
}

function pipeline(): array
{
    throw new Skip('PDO has no pipeline');
}

function copy_rows(): array
{
    $db = connect();
    $rows = [];
    for ($n = 1; $n <= 1000; $n++) $rows[] = "$n\trow\n";
    $db->pgsqlCopyFromArray('t', $rows);
    $seen = [ask($db, 'SELECT count(*) FROM t'), ask($db, SUM), count($db->pgsqlCopyToArray('t'))];
    $seen[] = fails(fn() => $db->pgsqlCopyFromArray('t', ["2000\tok\n", "bad\tx\n", ...array_fill(0, 5000, "3000\tx\n")]));
    return [...$seen, ask($db, 'SELECT count(*) FROM t')];
}

function listen(): array
{
    [$db, $other] = [connect(), connect()];
    $heard = function () use ($db) {
        $news = $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 5000);
        return $news ? $news['payload'] : null;
    };
    $db->exec('LISTEN news');
    $other->exec("NOTIFY news, 'one'");
    $seen = [$heard()];
    for ($n = 0; $n < 10; $n++) ask($db, 'INSERT INTO t VALUES (?)', [$n]);
    $other->exec("NOTIFY news, 'two'");
    $seen[] = $heard();
    rolling_back($other, "NOTIFY news, 'three'");
    $db->exec("NOTIFY news, 'four'");
    $seen[] = $heard();
    $db->exec('UNLISTEN news');
    return $seen;
}

/** PDO::CURSOR_SCROLL declares a cursor in a transaction. */
function cursor(): array
{
    $db = connect();
    $open = function () use ($db) {
        $s = $db->prepare('SELECT n FROM big ORDER BY n', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $s->execute();
        return $s;
    };
    [$total, $everything] = [0, 0];
    $db->beginTransaction();
    $part = $open();
    for ($n = 0; $n < 1000; $n++) {
        $total += $part->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_NEXT)[0];
        if ($n % 100 === 50) ask($db, 'SELECT 1');
    }
    unset($part);
    $db->commit();
    $db->beginTransaction();
    $whole = $open();
    while ($row = $whole->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_NEXT)) $everything += $row[0];
    unset($whole);
    $db->commit();
    return [$total, $everything, ask($db, 'SELECT 1 + 1')];
}

function cancel(): array
{
    throw new Skip('PDO cannot cancel');
}

function set(): array
{
    $db = connect();
    $show = fn() => ask($db, 'SHOW work_mem');
    $who = fn() => ask($db, 'SELECT current_user');
    $db->exec("SET work_mem = '7MB'");
    $seen = [same(10, $show)];
    $db->exec('SET search_path = extra, public');
    $seen[] = same(5, fn() => ask($db, 'SELECT note FROM only_extra'));
    rolling_back($db, "SET work_mem = '8MB'");
    $seen[] = same(5, $show);
    $db->beginTransaction();
    $db->exec("SET LOCAL work_mem = '6MB'");
    $seen[] = $show();
    $db->commit();
    $seen[] = same(5, $show);
    $db->exec("SET TIME ZONE 'Asia/Tokyo'");
    $seen[] = same(5, fn() => ask($db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')"));
    $db->exec('SET ROLE app');
    $seen[] = same(5, $who);
    $db->exec('RESET ROLE');
    $seen[] = same(5, $who);
    $seen[] = fails(fn() => $db->exec("SET work_mem = 'nonsense'"));
    $db->exec('RESET work_mem');
    $seen[] = same(5, $show);
    $db->exec('RESET search_path');
    $seen[] = same(5, fn() => fails(fn() => ask($db, 'SELECT note FROM only_extra')));
    ask($db, 'SELECT set_config(?, ?, false)', ['work_mem', '5MB']);
    return [...$seen, same(5, $show)];
}

function kept(): array
{
    $clients = ['one' => connect(), 'two' => connect()];
    $seen = [];
    foreach (file('kept.sql', FILE_IGNORE_NEW_LINES) as $line) {
        [$who, $sql] = explode(' ', $line, 2);
        $value = ask($clients[$who], $sql);
        if (preg_match('/^(SELECT|FETCH|EXECUTE)/', $sql)) $seen[] = $value;
    }
    return $seen;
}

function large(): array
{
    $db = connect();
    $big = str_repeat('ü234567', 1000000); // 8 MB of UTF-8
    $sent = ask($db, 'SELECT octet_length(?)', [$big]);
    ask($db, 'INSERT INTO t VALUES (1, ?)', [$big]);
    $back = ask($db, 'SELECT note FROM t');
    $rows = $db->query("SELECT repeat('x', 2000) FROM generate_series(1, 2000)")->fetchAll(PDO::FETCH_COLUMN);
    return [$sent, strlen($back), count($rows), array_sum(array_map('strlen', $rows))];
}

function readonly_transactions(): array
{
    [$db, $other] = [connect(), connect()];
    $count = fn() => ask($db, 'SELECT count(*) FROM t');
    $db->beginTransaction();
    $db->exec('SET TRANSACTION READ ONLY');
    $seen = [$count(), fails(fn() => $db->exec('INSERT INTO t VALUES (1)'))];
    $db->rollBack();
    $db->exec('INSERT INTO t VALUES (1)');
    $seen[] = $count();
    $db->beginTransaction();
    $db->exec('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
    $seen[] = $count();
    $other->exec('INSERT INTO t VALUES (2)');
    $seen[] = $count();
    $db->commit();
    $db->exec('INSERT INTO t VALUES (3)');
    return [...$seen, $count()];
}

function ddl(): array
{
    [$db, $other] = [connect(), connect()];
    $db->exec('CREATE TABLE ddl_t (a int)');
    $db->exec('INSERT INTO ddl_t VALUES (1)');
    $look = $db->prepare('SELECT * FROM ddl_t');
    $seen = [same(7, fn() => run($look))];
    foreach (['ALTER TABLE ddl_t ADD b int DEFAULT 2',
              "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"] as $n => $change) {
        $other->exec($change);
        ask($db, 'INSERT INTO t VALUES (?)', [$n]); // what is read from now on is not older than the change
        for ($i = 0; $i < 3; $i++) $seen[] = fails(fn() => run($look));
        $look = null; // first its DEALLOCATE, then the next one
        $look = $db->prepare('SELECT * FROM ddl_t');
        $seen[] = same(5, fn() => run($look));
    }
    return $seen;
}

function killed(): array
{
    $db = connect();
    tell('kill', 'kill-me');
    $db->beginTransaction();
    $db->exec('INSERT INTO t VALUES (1)');
    $seen = [fails(fn() => ask($db, 'SELECT pg_sleep(30) /* kill-me */'))];
    $again = connect();
    return [...$seen, ask($again, 'SELECT count(*) FROM t'), $again->exec('INSERT INTO t VALUES (2)')];
}

while (($name = fgets(STDIN)) !== false) {
    $name = trim($name);
    try {
        tell('seen', (['copy' => 'copy_rows', 'readonly' => 'readonly_transactions'][$name] ?? $name)());
    } catch (Skip $e) {
        tell('skip', $e->getMessage());
    } catch (Throwable $e) {
        fwrite(STDERR, $e);
        tell('error', substr($e->getMessage(), 0, 500));
    }
}
