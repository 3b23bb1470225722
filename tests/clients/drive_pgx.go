// pgx as it comes: every statement is prepared and kept by itself, binary formats.
// README.md says how this talks with matrix.py.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

const (
	text = "It's \"ü\" \\ 😀"
	sum  = "SELECT coalesce(sum(id), 0)::int FROM t"
)

type seen = []interface{}

var (
	ctx    = context.Background()
	input  = bufio.NewReader(os.Stdin)
	opened []*pgx.Conn
)

func tell(key string, value interface{}) {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]interface{}{key: value}); err != nil {
		panic(err)
	}
}

func awaitRunning(marker string) {
	tell("await", marker)
	input.ReadString('\n')
}

func tryConnect(more string) (*pgx.Conn, error) {
	db, err := pgx.Connect(ctx, "host=127.0.0.1 port="+os.Args[1]+" user=app_scram dbname=app password=secret "+more)
	if err == nil {
		opened = append(opened, db)
	}
	return db, err
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func connect(more ...string) *pgx.Conn {
	db, err := tryConnect(strings.Join(more, " "))
	must(err)
	return db
}

type queryer interface {
	Query(ctx context.Context, sql string, args ...interface{}) (pgx.Rows, error)
}

// The row, the one value, or how many rows were changed.
func try(db queryer, sql string, values ...interface{}) (interface{}, error) {
	rows, err := db.Query(ctx, sql, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return result(rows)
}

func result(rows pgx.Rows) (interface{}, error) {
	var first seen
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = row
		}
	}
	if rows.Err() != nil {
		return nil, rows.Err()
	}
	if len(first) == 0 {
		return rows.CommandTag().RowsAffected(), nil
	}
	if len(first) == 1 {
		return first[0], nil
	}
	return first, nil
}

func ask(db queryer, sql string, values ...interface{}) interface{} {
	value, err := try(db, sql, values...)
	must(err)
	return value
}

func code(err error) string {
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == "57P01" || strings.HasPrefix(pg.Code, "08")):
		return "lost"
	case errors.As(err, &pg):
		return pg.Code
	case strings.Contains(err.Error(), "unexpected EOF") || strings.Contains(err.Error(), "conn closed"):
		return "lost"
	}
	return err.Error()
}

func fails(db queryer, sql string, values ...interface{}) interface{} {
	value, err := try(db, sql, values...)
	if err != nil {
		return code(err)
	}
	return value
}

func refused(more string) interface{} {
	if _, err := tryConnect(more); err != nil {
		return code(err)
	}
	return "not refused"
}

func same(times int, ask func() interface{}) interface{} {
	var answers seen
	for n := 0; n < times; n++ {
		answers = append(answers, ask())
	}
	for _, answer := range answers {
		if !reflect.DeepEqual(answer, answers[0]) {
			return answers
		}
	}
	return answers[0]
}

func rollingBack(db *pgx.Conn, sql string) {
	tx, err := db.Begin(ctx)
	must(err)
	ask(tx, sql)
	must(tx.Rollback(ctx))
}

func login() seen {
	return append(ask(connect(), "SELECT current_user::text, current_database()::text").(seen), refused("password=wrong"))
}

func startup() seen {
	db := connect("work_mem=9MB application_name=drive")
	show := func() interface{} { return ask(db, "SHOW work_mem") }
	return seen{show(), same(10, show), ask(db, "SHOW application_name"), refused("nosuch=1")}
}

func fourClients() []*pgx.Conn { return []*pgx.Conn{connect(), connect(), connect(), connect()} }

func clients() (all seen) {
	for n, db := range fourClients() {
		db, n := db, n
		all = append(all, same(5, func() interface{} { return ask(db, "SELECT $1::int", n) }))
	}
	return
}

func settings() seen {
	clients := fourClients()
	for n, db := range clients {
		ask(db, fmt.Sprintf("SET work_mem = '%dMB'", n+5))
	}
	return same(5, func() interface{} {
		var shown seen
		for _, db := range clients {
			shown = append(shown, ask(db, "SHOW work_mem"))
		}
		return shown
	}).(seen)
}

func simple() seen {
	db := connect()
	plain := pgx.QuerySimpleProtocol(true)
	all := seen{ask(db, "SELECT 1 + 1", plain), ask(db, "INSERT INTO t VALUES (1, 'one')", plain)}
	rollingBack(db, "INSERT INTO t VALUES (2, 'two')")
	all = append(all, fails(db, "SELECT * FROM nowhere", plain))
	tx, err := db.Begin(ctx)
	must(err)
	ask(tx, "INSERT INTO t VALUES (3, 'three')", plain)
	savepoint, err := tx.Begin(ctx)
	must(err)
	all = append(all, fails(savepoint, "INSERT INTO t VALUES (1, 'again')", plain))
	must(savepoint.Rollback(ctx))
	must(tx.Commit(ctx))
	rows, err := db.Query(ctx, "SELECT id, note FROM t ORDER BY id", plain)
	must(err)
	var table seen
	for rows.Next() {
		row, err := rows.Values()
		must(err)
		table = append(table, row)
	}
	must(rows.Err())
	return append(all, table)
}

func extended() seen {
	db := connect()
	var row [7]interface{}
	var raw []byte
	var numbers []int
	must(db.QueryRow(ctx, "SELECT $1::int, $2::text, $3::text, $4::bool, $5::float8, $6::bytea, $7::int[]", 7, text, nil, true, 1.5,
		[]byte("\x00\xff'"), []int{1, 2, 3}).Scan(&row[0], &row[1], &row[2], &row[3], &row[4], &raw, &numbers))
	row[5], row[6] = hex.EncodeToString(raw), numbers
	return seen{row, ask(db, "INSERT INTO t VALUES ($1, $2) RETURNING id", 5, text), fails(db, "SELECT 1 / $1::int", 0),
		ask(db, "SELECT $1::int", 8)}
}

func named() seen {
	db, other := connect(), connect()
	prepare := func(db *pgx.Conn, name, sql string) {
		_, err := db.Prepare(ctx, name, sql)
		must(err)
	}
	prepare(db, "put", "INSERT INTO t VALUES ($1, 'x')")
	prepare(db, "sum", sum)
	prepare(db, "ratio", "SELECT 1 / $1::int")
	prepare(db, "s", "SELECT 'a'")
	prepare(other, "s", "SELECT 'b'")
	done := int64(0)
	for n := 1; n <= 20; n++ {
		done += ask(db, "put", n).(int64)
	}
	total := func() interface{} { return ask(db, "sum") }
	return seen{done, same(10, total), fails(db, "ratio", 0), same(10, total),
		same(5, func() interface{} { return ask(db, "s") }), same(5, func() interface{} { return ask(other, "s") })}
}

// SendBatch: all in one segment.
func pipeline() (all seen) {
	db := connect()
	for _, numbers := range [][]int{{1, 2, 1, 3}, {10, 11, 12}} {
		batch := &pgx.Batch{}
		for _, n := range numbers {
			batch.Queue("INSERT INTO t VALUES ($1, 'x')", n)
		}
		batch.Queue("SELECT count(*) FROM t")
		results := db.SendBatch(ctx, batch)
		for range numbers {
			tag, err := results.Exec()
			if err != nil {
				all = append(all, code(err))
				break
			}
			all = append(all, tag.RowsAffected())
		}
		if err := results.Close(); err != nil {
			all = append(all, code(err))
		}
	}
	return append(all, ask(db, sum))
}

func copyRows() seen {
	db := connect()
	var rows [][]interface{}
	for n := 1; n <= 1000; n++ {
		rows = append(rows, seen{n, "row"})
	}
	copied, err := db.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id", "note"}, pgx.CopyFromRows(rows))
	must(err)
	var out bytes.Buffer
	_, err = db.PgConn().CopyTo(ctx, &out, "COPY t TO STDOUT")
	must(err)
	all := seen{copied, ask(db, sum), bytes.Count(out.Bytes(), []byte("\n"))}
	_, err = db.PgConn().CopyFrom(ctx, strings.NewReader("2000\tok\nbad\tx\n"+strings.Repeat("3000\tx\n", 5000)), "COPY t FROM STDIN")
	return append(all, code(err), ask(db, "SELECT count(*) FROM t"))
}

func heard(db *pgx.Conn) interface{} {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	news, err := db.WaitForNotification(limited)
	if err != nil {
		return err.Error()
	}
	return news.Payload
}

func listen() seen {
	db, other := connect(), connect()
	ask(db, "LISTEN news")
	ask(other, "NOTIFY news, 'one'")
	all := seen{heard(db)}
	for n := 0; n < 10; n++ {
		ask(db, "INSERT INTO t VALUES ($1)", n)
	}
	ask(other, "NOTIFY news, 'two'")
	all = append(all, heard(db))
	rollingBack(other, "NOTIFY news, 'three'")
	ask(db, "NOTIFY news, 'four'")
	all = append(all, heard(db))
	ask(db, "UNLISTEN news")
	return all
}

// pgx streams every result; parts are DECLARE and FETCH.
func cursor() seen {
	db := connect()
	add := func(q queryer, sql string) (total, count int64) {
		rows, err := q.Query(ctx, sql)
		must(err)
		for rows.Next() {
			var n int64
			must(rows.Scan(&n))
			total, count = total+n, count+1
		}
		must(rows.Err())
		return
	}
	tx, err := db.Begin(ctx)
	must(err)
	ask(tx, "DECLARE part CURSOR FOR SELECT n FROM big ORDER BY n")
	total := int64(0)
	for n := 0; n < 10; n++ {
		part, _ := add(tx, "FETCH 100 FROM part")
		total += part
		ask(tx, "SELECT 1")
	}
	must(tx.Rollback(ctx))
	everything, _ := add(db, "SELECT n FROM big ORDER BY n")
	rows, err := db.Query(ctx, "SELECT n FROM big ORDER BY n")
	must(err)
	rows.Next()
	rows.Close() // left in the middle
	return seen{total, everything, ask(db, "SELECT 1 + 1")}
}

// pgx closes the connection of a context that ends; PgConn().CancelRequest() is its cancel.
func cancel() (all seen) {
	db := connect()
	for n := 0; n < 2; n++ {
		marker, done := fmt.Sprintf("cancel-me-%d", n), make(chan interface{})
		go func() { done <- fails(db, "SELECT pg_sleep(30) /* "+marker+" */") }()
		awaitRunning(marker)
		must(db.PgConn().CancelRequest(ctx))
		all = append(all, <-done, ask(db, "SELECT 1"))
	}
	return
}

func set() seen {
	db := connect()
	show := func() interface{} { return ask(db, "SHOW work_mem") }
	who := func() interface{} { return ask(db, "SELECT current_user::text") }
	ask(db, "SET work_mem = '7MB'")
	all := seen{same(10, show)}
	ask(db, "SET search_path = extra, public")
	all = append(all, same(5, func() interface{} { return ask(db, "SELECT note FROM only_extra") }))
	rollingBack(db, "SET work_mem = '8MB'")
	all = append(all, same(5, show))
	tx, err := db.Begin(ctx)
	must(err)
	ask(tx, "SET LOCAL work_mem = '6MB'")
	all = append(all, show())
	must(tx.Commit(ctx))
	all = append(all, same(5, show))
	ask(db, "SET TIME ZONE 'Asia/Tokyo'")
	all = append(all, same(5, func() interface{} { return ask(db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')") }))
	ask(db, "SET ROLE app")
	all = append(all, same(5, who))
	ask(db, "RESET ROLE")
	all = append(all, same(5, who), fails(db, "SET work_mem = 'nonsense'"))
	ask(db, "RESET work_mem")
	all = append(all, same(5, show))
	ask(db, "RESET search_path")
	all = append(all, same(5, func() interface{} { return fails(db, "SELECT note FROM only_extra") }))
	ask(db, "SELECT set_config($1, $2, false)", "work_mem", "5MB")
	return append(all, same(5, show))
}

func kept() seen {
	clients, answers := map[string]*pgx.Conn{"one": connect(), "two": connect()}, seen{}
	lines, err := os.ReadFile("kept.sql")
	must(err)
	for _, line := range strings.Split(strings.TrimSpace(string(lines)), "\n") {
		part := strings.SplitN(line, " ", 2)
		value := ask(clients[part[0]], part[1])
		switch strings.SplitN(part[1], " ", 2)[0] {
		case "SELECT", "FETCH", "EXECUTE":
			answers = append(answers, value)
		}
	}
	return answers
}

func large() seen {
	db := connect()
	big := strings.Repeat("ü234567", 1000000) // 8 MB of UTF-8
	sent := ask(db, "SELECT octet_length($1)", big)
	ask(db, "INSERT INTO t VALUES (1, $1)", big)
	back := ask(db, "SELECT note FROM t").(string)
	rows, err := db.Query(ctx, "SELECT repeat('x', 2000) FROM generate_series(1, 2000)")
	must(err)
	count, total := 0, 0
	for ; rows.Next(); count++ {
		var x string
		must(rows.Scan(&x))
		total += len(x)
	}
	must(rows.Err())
	return seen{sent, len(back), count, total}
}

func readonly() seen {
	db, other := connect(), connect()
	count := "SELECT count(*) FROM t"
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	must(err)
	all := seen{ask(tx, count), fails(tx, "INSERT INTO t VALUES (1)")}
	must(tx.Rollback(ctx))
	ask(db, "INSERT INTO t VALUES (1)")
	all = append(all, ask(db, count))
	tx, err = db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead})
	must(err)
	all = append(all, ask(tx, count))
	ask(other, "INSERT INTO t VALUES (2)")
	all = append(all, ask(tx, count))
	must(tx.Commit(ctx))
	ask(db, "INSERT INTO t VALUES (3)")
	return append(all, ask(db, count))
}

func ddl() seen {
	db, other := connect(), connect()
	ask(db, "CREATE TABLE ddl_t (a int)")
	ask(db, "INSERT INTO ddl_t VALUES (1)")
	look := func() interface{} { return fails(db, "SELECT * FROM ddl_t") }
	all := seen{same(7, look)}
	for n, change := range []string{"ALTER TABLE ddl_t ADD b int DEFAULT 2",
		"DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"} {
		ask(other, change, pgx.QuerySimpleProtocol(true))
		ask(db, "INSERT INTO t VALUES ($1)", n) // what is read from now on is not older than the change
		for i := 0; i < 5; i++ {
			all = append(all, look())
		}
	}
	return all
}

func killed() seen {
	db := connect()
	tell("kill", "kill-me")
	tx, err := db.Begin(ctx)
	must(err)
	ask(tx, "INSERT INTO t VALUES (1)")
	all := seen{fails(tx, "SELECT pg_sleep(30) /* kill-me */")}
	again := connect()
	return append(all, ask(again, "SELECT count(*) FROM t"), ask(again, "INSERT INTO t VALUES (2)"))
}

var scenarios = map[string]func() seen{"login": login, "startup": startup, "clients": clients, "settings": settings,
	"simple": simple, "extended": extended, "named": named, "pipeline": pipeline, "copy": copyRows, "listen": listen,
	"cursor": cursor, "cancel": cancel, "set": set, "kept": kept, "large": large, "readonly": readonly, "ddl": ddl, "killed": killed}

func play(name string) {
	defer func() {
		if problem := recover(); problem != nil {
			err, ok := problem.(error)
			if !ok {
				err = fmt.Errorf("%v", problem)
			}
			fmt.Fprintln(os.Stderr, name, err)
			tell("error", err.Error())
		}
		for _, db := range opened {
			db.Close(ctx)
		}
		opened = nil
	}()
	tell("seen", scenarios[name]())
}

func main() {
	for {
		name, err := input.ReadString('\n')
		if err != nil {
			return
		}
		play(strings.TrimSpace(name))
	}
}
