// tokio-postgres as it comes: statements prepared and named s0, s1 ... at each use, closed when dropped, binary formats,
// and what several tasks ask at once is pipelined. README.md says how this talks with matrix.py.

use futures::{future, pin_mut, FutureExt, SinkExt, StreamExt, TryStreamExt};
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, IsolationLevel, NoTls, Row};

const TEXT: &str = "It's \"ü\" \\ 😀";
const SUM: &str = "SELECT coalesce(sum(id), 0)::int FROM t";
type Seen = Result<Value, Error>;

static OPENED: Mutex<Vec<tokio::task::JoinHandle<()>>> = Mutex::new(Vec::new());

fn tell(key: &str, value: Value) {
    let mut out = std::io::stdout();
    writeln!(out, "{}", json!({ key: value })).and_then(|_| out.flush()).expect("standard output");
}

fn line() -> Option<String> {
    let mut text = String::new();
    let n = std::io::stdin().lock().read_line(&mut text).expect("standard input");
    (n > 0).then(|| text.trim().to_string())
}

fn await_running(marker: &str) {
    tell("await", json!(marker));
    line();
}

async fn open(more: &str) -> Result<(Client, UnboundedReceiver<String>), Error> {
    let port = std::env::args().nth(1).expect("a port");
    let text = format!("host=127.0.0.1 port={port} user=app_scram dbname=app password=secret {more}");
    let (db, mut connection) = text.parse::<Config>()?.connect(NoTls).await?;
    let (news, heard) = unbounded_channel();
    let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
    let task = tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(n) = message {
                news.send(n.payload().to_string()).ok();
            }
        }
    });
    OPENED.lock().unwrap().push(task);
    Ok((db, heard))
}

async fn connect() -> Result<Client, Error> {
    Ok(open("").await?.0)
}

fn code(error: &Error) -> Value {
    match error.code() {
        Some(state) if *state == SqlState::ADMIN_SHUTDOWN || state.code().starts_with("08") => json!("lost"),
        Some(state) => json!(state.code()),
        None if error.is_closed() => json!("lost"),
        None => json!(error.to_string()),
    }
}

fn seen<T: Into<Value>>(answer: Result<T, Error>) -> Value {
    answer.map_or_else(|e| code(&e), Into::into)
}

async fn one<T: for<'a> FromSql<'a>>(db: &Client, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<T, Error> {
    Ok(db.query_one(sql, values).await?.get(0))
}

async fn text(db: &Client, sql: &str) -> Result<String, Error> {
    one(db, sql, &[]).await
}

// The one answer that the future gave every time, or all of them.
macro_rules! same {
    ($times:expr, $ask:expr) => {{
        let mut answers: Vec<Value> = Vec::new();
        for _ in 0..$times {
            answers.push(json!($ask));
        }
        if answers.iter().all(|a| *a == answers[0]) { answers[0].clone() } else { json!(answers) }
    }};
}

async fn refused(more: &str) -> Value {
    open(more).await.map_or_else(|e| code(&e), |_| json!("not refused"))
}

async fn login() -> Seen {
    let row = connect().await?.query_one("SELECT current_user::text, current_database()::text", &[]).await?;
    Ok(json!([row.get::<_, String>(0), row.get::<_, String>(1), refused("password=wrong").await]))
}

async fn startup() -> Seen {
    let (db, _) = open("options='-c work_mem=9MB' application_name=drive").await?;
    Ok(json!([text(&db, "SHOW work_mem").await?, same!(10, text(&db, "SHOW work_mem").await?),
        text(&db, "SHOW application_name").await?, refused("options='-c nosuch=1'").await]))
}

async fn clients() -> Seen {
    let all = future::try_join_all((0..4).map(|_| connect())).await?;
    let mut answers = Vec::new();
    for (n, db) in all.iter().enumerate() {
        answers.push(same!(5, one::<i32>(db, "SELECT $1::int", &[&(n as i32)]).await?));
    }
    Ok(json!(answers))
}

async fn settings() -> Seen {
    let all = future::try_join_all((0..4).map(|_| connect())).await?;
    for (n, db) in all.iter().enumerate() {
        db.batch_execute(&format!("SET work_mem = '{}MB'", n + 5)).await?;
    }
    Ok(same!(5, future::try_join_all(all.iter().map(|db| text(db, "SHOW work_mem"))).await?))
}

async fn simple() -> Seen {
    let mut db = connect().await?;
    let two = match &db.simple_query("SELECT 1 + 1").await?[0] {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).unwrap().parse::<i32>().unwrap(),
        _ => 0,
    };
    let inserted = db.execute("INSERT INTO t VALUES (1, 'one')", &[]).await?;
    let tx = db.transaction().await?;
    tx.execute("INSERT INTO t VALUES (2, 'two')", &[]).await?;
    tx.rollback().await?;
    let nowhere = seen(db.batch_execute("SELECT * FROM nowhere").await);
    let mut tx = db.transaction().await?;
    tx.execute("INSERT INTO t VALUES (3, 'three')", &[]).await?;
    let savepoint = tx.savepoint("s").await?;
    let again = seen(savepoint.execute("INSERT INTO t VALUES (1, 'again')", &[]).await);
    savepoint.rollback().await?;
    tx.commit().await?;
    let rows = db.query("SELECT id, note FROM t ORDER BY id", &[]).await?;
    let rows: Vec<(i32, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    Ok(json!([two, inserted, nowhere, again, rows]))
}

async fn extended() -> Seen {
    let db = connect().await?;
    let (null, bytes, list) = (None::<String>, b"\0\xff'".to_vec(), vec![1, 2, 3]);
    let row = db.query_one("SELECT $1::int, $2::text, $3::text, $4::bool, $5::float8, $6::bytea, $7::int[]",
        &[&7, &TEXT, &null, &true, &1.5, &bytes, &list]).await?;
    let hex: String = row.get::<_, Vec<u8>>(5).iter().map(|b| format!("{b:02x}")).collect();
    let row = json!([row.get::<_, i32>(0), row.get::<_, String>(1), row.get::<_, Option<String>>(2), row.get::<_, bool>(3),
        row.get::<_, f64>(4), hex, row.get::<_, Vec<i32>>(6)]);
    Ok(json!([row, one::<i32>(&db, "INSERT INTO t VALUES ($1, $2) RETURNING id", &[&5, &TEXT]).await?,
        seen(one::<i32>(&db, "SELECT 1 / $1::int", &[&0]).await), one::<i32>(&db, "SELECT $1::int", &[&8]).await?]))
}

async fn named() -> Seen {
    let (db, other) = (connect().await?, connect().await?);
    let put = db.prepare("INSERT INTO t VALUES ($1, 'x')").await?;
    let sum = db.prepare(SUM).await?;
    let ratio = db.prepare("SELECT 1 / $1::int").await?;
    let (a, b) = (db.prepare("SELECT 'a'").await?, other.prepare("SELECT 'b'").await?);
    let mut done = 0;
    for n in 1..=20 {
        done += db.execute(&put, &[&n]).await?;
    }
    let first = |row: Row| row.get::<_, i32>(0);
    let letter = |row: Row| row.get::<_, String>(0);
    let before = same!(10, first(db.query_one(&sum, &[]).await?));
    let zero = seen(db.query_one(&ratio, &[&0]).await.map(first));
    drop(put); // its Close goes out with the next statement
    Ok(json!([done, before, zero, same!(10, first(db.query_one(&sum, &[]).await?)),
        same!(5, letter(db.query_one(&a, &[]).await?)), same!(5, letter(other.query_one(&b, &[]).await?))]))
}

// Futures that run at once are sent at once, each with its own Sync.
async fn pipeline() -> Seen {
    let db = connect().await?;
    let put = db.prepare("INSERT INTO t VALUES ($1, 'x')").await?;
    let values = [1, 2, 1, 3];
    let puts = future::join_all(values.iter().map(|n| db.execute_raw(&put, [n]))).await;
    let puts: Vec<Value> = puts.into_iter().map(seen).collect();
    let echo = db.prepare("SELECT $1::int").await?;
    let numbers: Vec<i32> = (0..20).collect();
    let echoes = future::try_join_all(numbers.iter().map(|n| async { Ok::<i32, Error>(one_of(&db, &echo, n).await?) })).await?;
    let (begin, nine, bad, after, end) = future::join5(db.batch_execute("BEGIN"), db.batch_execute("INSERT INTO t VALUES (9)"),
        db.batch_execute("SELECT 1 / 0"), db.batch_execute("SELECT 1"), db.batch_execute("ROLLBACK")).await;
    let tx: Vec<Value> = [begin, nine, bad, after, end].into_iter().map(seen).collect();
    Ok(json!([puts, echoes, tx, one::<i32>(&db, SUM, &[]).await?]))
}

async fn one_of(db: &Client, statement: &tokio_postgres::Statement, n: &i32) -> Result<i32, Error> {
    Ok(db.query_one(statement, &[n]).await?.get(0))
}

async fn copy_in(db: &Client, rows: String) -> Result<u64, Error> {
    let sink = db.copy_in("COPY t FROM STDIN").await?;
    pin_mut!(sink);
    sink.send(std::io::Cursor::new(rows)).await?;
    sink.finish().await
}

async fn copy() -> Seen {
    let db = connect().await?;
    let copied = copy_in(&db, (1..=1000).map(|n| format!("{n}\trow\n")).collect()).await?;
    let sum: i32 = one(&db, SUM, &[]).await?;
    let out: Vec<_> = db.copy_out("COPY t TO STDOUT").await?.try_collect().await?;
    let lines: usize = out.iter().map(|chunk| chunk.iter().filter(|&&b| b == b'\n').count()).sum();
    let bad = seen(copy_in(&db, format!("2000\tok\nbad\tx\n{}", "3000\tx\n".repeat(5000))).await);
    Ok(json!([copied, sum, lines, bad, one::<i64>(&db, "SELECT count(*) FROM t", &[]).await?]))
}

async fn listen() -> Seen {
    let (mut other, (db, mut news)) = (connect().await?, open("").await?);
    let mut all = Vec::new();
    db.batch_execute("LISTEN news").await?;
    other.batch_execute("NOTIFY news, 'one'").await?;
    let limit = Duration::from_secs(5);
    all.push(tokio::time::timeout(limit, news.recv()).await.ok().flatten());
    for n in 0..10 {
        db.execute("INSERT INTO t VALUES ($1)", &[&n]).await?;
    }
    other.batch_execute("NOTIFY news, 'two'").await?;
    all.push(tokio::time::timeout(limit, news.recv()).await.ok().flatten());
    let tx = other.transaction().await?;
    tx.batch_execute("NOTIFY news, 'three'").await?;
    tx.rollback().await?;
    db.batch_execute("NOTIFY news, 'four'").await?;
    all.push(tokio::time::timeout(limit, news.recv()).await.ok().flatten());
    db.batch_execute("UNLISTEN news").await?;
    Ok(json!(all))
}

// Portals with a row limit; then a stream that is left in the middle.
async fn cursor() -> Seen {
    let mut db = connect().await?;
    let sql = "SELECT n FROM big ORDER BY n";
    let add = |rows: Vec<Row>| rows.iter().map(|r| r.get::<_, i32>(0) as i64).sum::<i64>();
    let tx = db.transaction().await?;
    let part = tx.bind(sql, &[]).await?;
    let mut total = 0;
    for _ in 0..10 {
        total += add(tx.query_portal(&part, 100).await?);
        tx.query_one("SELECT 1", &[]).await?;
    }
    tx.rollback().await?;
    let everything = add(db.query(sql, &[]).await?);
    {
        let none: [i32; 0] = [];
        let rows = db.query_raw(sql, none).await?;
        pin_mut!(rows);
        rows.try_next().await?;
    }
    Ok(json!([total, everything, one::<i32>(&db, "SELECT 1 + 1", &[]).await?]))
}

async fn cancel() -> Seen {
    let db = std::sync::Arc::new(connect().await?);
    let mut all = Vec::new();
    for n in 0..2 {
        let (sleeper, marker) = (db.clone(), format!("cancel-me-{n}"));
        let sql = format!("SELECT pg_sleep(30) /* {marker} */");
        let sleeping = tokio::spawn(async move { seen(sleeper.batch_execute(&sql).await) });
        tokio::task::spawn_blocking(move || await_running(&marker)).await.expect("the runner");
        db.cancel_token().cancel_query(NoTls).await?;
        all.push(sleeping.await.expect("the sleeper"));
        all.push(json!(one::<i32>(&db, "SELECT 1", &[]).await?));
    }
    Ok(json!(all))
}

async fn set() -> Seen {
    let mut db = connect().await?;
    let mut all = Vec::new();
    db.batch_execute("SET work_mem = '7MB'").await?;
    all.push(same!(10, text(&db, "SHOW work_mem").await?));
    db.batch_execute("SET search_path = extra, public").await?;
    all.push(same!(5, text(&db, "SELECT note FROM only_extra").await?));
    let tx = db.transaction().await?;
    tx.batch_execute("SET work_mem = '8MB'").await?;
    tx.rollback().await?;
    all.push(same!(5, text(&db, "SHOW work_mem").await?));
    let tx = db.transaction().await?;
    tx.batch_execute("SET LOCAL work_mem = '6MB'").await?;
    all.push(json!(tx.query_one("SHOW work_mem", &[]).await?.get::<_, String>(0)));
    tx.commit().await?;
    all.push(same!(5, text(&db, "SHOW work_mem").await?));
    db.batch_execute("SET TIME ZONE 'Asia/Tokyo'").await?;
    all.push(same!(5, text(&db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')").await?));
    db.batch_execute("SET ROLE app").await?;
    all.push(same!(5, text(&db, "SELECT current_user::text").await?));
    db.batch_execute("RESET ROLE").await?;
    all.push(same!(5, text(&db, "SELECT current_user::text").await?));
    all.push(seen(db.batch_execute("SET work_mem = 'nonsense'").await));
    db.batch_execute("RESET work_mem").await?;
    all.push(same!(5, text(&db, "SHOW work_mem").await?));
    db.batch_execute("RESET search_path").await?;
    all.push(same!(5, seen(text(&db, "SELECT note FROM only_extra").await)));
    db.query_one("SELECT set_config($1, $2, false)", &[&"work_mem", &"5MB"]).await?;
    all.push(same!(5, text(&db, "SHOW work_mem").await?));
    Ok(json!(all))
}

async fn kept() -> Seen {
    let (first, second) = (connect().await?, connect().await?);
    let mut answers = Vec::new();
    for line in include_str!("kept.sql").lines() {
        let (who, sql) = line.split_once(' ').expect("who");
        let db = if who == "one" { &first } else { &second };
        if ["SELECT", "FETCH", "EXECUTE"].iter().any(|word| sql.starts_with(word)) {
            answers.push(json!(one::<i32>(db, sql, &[]).await?));
        } else {
            db.execute(sql, &[]).await?;
        }
    }
    Ok(json!(answers))
}

async fn large() -> Seen {
    let db = connect().await?;
    let big = "ü234567".repeat(1_000_000); // 8 MB of UTF-8
    let sent: i32 = one(&db, "SELECT octet_length($1)", &[&big]).await?;
    db.execute("INSERT INTO t VALUES (1, $1)", &[&big]).await?;
    let back = text(&db, "SELECT note FROM t").await?;
    let rows = db.query("SELECT repeat('x', 2000) FROM generate_series(1, 2000)", &[]).await?;
    Ok(json!([sent, back.len(), rows.len(), rows.iter().map(|r| r.get::<_, String>(0).len()).sum::<usize>()]))
}

async fn readonly() -> Seen {
    let (mut db, other) = (connect().await?, connect().await?);
    let count = "SELECT count(*) FROM t";
    let mut all = Vec::new();
    let tx = db.build_transaction().read_only(true).start().await?;
    all.push(json!(tx.query_one(count, &[]).await?.get::<_, i64>(0)));
    all.push(seen(tx.execute("INSERT INTO t VALUES (1)", &[]).await));
    tx.rollback().await?;
    db.execute("INSERT INTO t VALUES (1)", &[]).await?;
    all.push(json!(one::<i64>(&db, count, &[]).await?));
    let tx = db.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead).start().await?;
    all.push(json!(tx.query_one(count, &[]).await?.get::<_, i64>(0)));
    other.execute("INSERT INTO t VALUES (2)", &[]).await?;
    all.push(json!(tx.query_one(count, &[]).await?.get::<_, i64>(0)));
    tx.commit().await?;
    db.execute("INSERT INTO t VALUES (3)", &[]).await?;
    all.push(json!(one::<i64>(&db, count, &[]).await?));
    Ok(json!(all))
}

fn shown(row: Row) -> Value {
    let value = |n: usize| match row.columns()[n].type_() {
        &Type::INT4 => json!(row.get::<_, i32>(n)),
        _ => json!(row.get::<_, String>(n)),
    };
    json!((0..row.len()).map(value).collect::<Vec<_>>())
}

async fn ddl() -> Seen {
    let (db, other) = (connect().await?, connect().await?);
    db.batch_execute("CREATE TABLE ddl_t (a int); INSERT INTO ddl_t VALUES (1)").await?;
    let sql = "SELECT * FROM ddl_t";
    let kept = db.prepare(sql).await?;
    let mut all = vec![same!(7, seen(db.query_one(&kept, &[]).await.map(shown)))];
    let changes = ["ALTER TABLE ddl_t ADD b int DEFAULT 2",
        "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"];
    for (n, change) in changes.iter().enumerate() {
        other.batch_execute(change).await?;
        db.execute("INSERT INTO t VALUES ($1)", &[&(n as i32)]).await?; // what is read now is not older than the change
        all.push(seen(db.query_one(&kept, &[]).await.map(shown)));
        let anew = db.prepare(sql).await?;
        all.push(same!(5, seen(db.query_one(&anew, &[]).await.map(shown))));
        all.push(seen(db.query_one(sql, &[]).await.map(shown)));
    }
    Ok(json!(all))
}

async fn killed() -> Seen {
    let mut db = connect().await?;
    tell("kill", json!("kill-me"));
    let tx = db.transaction().await?;
    tx.execute("INSERT INTO t VALUES (1)", &[]).await?;
    let lost = seen(tx.batch_execute("SELECT pg_sleep(30) /* kill-me */").await);
    let again = connect().await?;
    Ok(json!([lost, one::<i64>(&again, "SELECT count(*) FROM t", &[]).await?, again.execute("INSERT INTO t VALUES (2)", &[]).await?]))
}

async fn play(name: &str) -> Seen {
    match name {
        "login" => login().await,
        "startup" => startup().await,
        "clients" => clients().await,
        "settings" => settings().await,
        "simple" => simple().await,
        "extended" => extended().await,
        "named" => named().await,
        "pipeline" => pipeline().await,
        "copy" => copy().await,
        "listen" => listen().await,
        "cursor" => cursor().await,
        "cancel" => cancel().await,
        "set" => set().await,
        "kept" => kept().await,
        "large" => large().await,
        "readonly" => readonly().await,
        "ddl" => ddl().await,
        "killed" => killed().await,
        _ => panic!("no scenario {name}"),
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    while let Some(name) = line() {
        match std::panic::AssertUnwindSafe(play(&name)).catch_unwind().await {
            Ok(Ok(all)) => tell("seen", all),
            Ok(Err(e)) => tell("error", json!(format!("{} {e:?}", code(&e)))),
            Err(e) => tell("error", json!(format!("panic: {:?}", e.downcast_ref::<String>()))),
        }
        for task in OPENED.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}
