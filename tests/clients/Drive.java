// pgjdbc as it comes: prepareThreshold 5, binary transfer, BEGIN by the driver when autocommit is off.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

public class Drive {
    static final String TEXT = "It's \"ü\" \\ 😀";
    static final String SUM = "SELECT coalesce(sum(id), 0)::int FROM t";
    static BufferedReader in;
    static int port;
    static final List<Connection> opened = new ArrayList<>();

    interface Ask { Object get() throws Exception; }

    // What all programs share; README.md says how they talk with matrix.py.

    static String json(Object o) {
        if (o == null || o instanceof Number || o instanceof Boolean) return String.valueOf(o);
        if (o instanceof List<?> list) return "[" + String.join(", ", list.stream().map(Drive::json).toList()) + "]";
        StringBuilder s = new StringBuilder("\"");
        for (char c : o.toString().toCharArray())
            s.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        return s.append('"').toString();
    }

    static void tell(String key, Object value) {
        System.out.println("{\"" + key + "\": " + json(value) + "}");
    }

    static void awaitRunning(String marker) throws Exception {
        tell("await", marker);
        in.readLine();
    }

    static String code(SQLException e) {
        String state = e.getSQLState();
        return state != null && (state.equals("57P01") || state.startsWith("08")) ? "lost" : state != null ? state : e.toString();
    }

    static Object fails(Ask ask) throws Exception {
        try {
            return ask.get();
        } catch (SQLException e) {
            return code(e);
        }
    }

    static Object same(int times, Ask ask) throws Exception {
        List<Object> answers = new ArrayList<>();
        for (int n = 0; n < times; n++) answers.add(ask.get());
        return answers.stream().allMatch(a -> a.equals(answers.get(0))) ? answers.get(0) : answers;
    }

    // JDBC

    static Connection connect(String... more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", "app_scram");
        p.setProperty("password", "secret");
        for (int n = 0; n < more.length; n += 2) p.setProperty(more[n], more[n + 1]);
        Connection db = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + port + "/app", p);
        opened.add(db);
        return db;
    }

    static Object result(Statement s, boolean rows) throws SQLException {
        if (!rows) return s.getUpdateCount();
        ResultSet r = s.getResultSet();
        r.next();
        List<Object> row = new ArrayList<>();
        for (int n = 1; n <= r.getMetaData().getColumnCount(); n++) row.add(r.getObject(n));
        return row.size() == 1 ? row.get(0) : row;
    }

    static Object ask(Connection db, String sql) throws SQLException {
        try (Statement s = db.createStatement()) {
            return result(s, s.execute(sql));
        }
    }

    static Object ask(PreparedStatement s, Object... values) throws SQLException {
        for (int n = 0; n < values.length; n++) s.setObject(n + 1, values[n]);
        return result(s, s.execute());
    }

    static Object ask(Connection db, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = db.prepareStatement(sql)) {
            return ask(s, values);
        }
    }

    static void rollingBack(Connection db, String sql) throws SQLException {
        db.setAutoCommit(false);
        ask(db, sql);
        db.rollback();
        db.setAutoCommit(true);
    }

    static List<Object> login() throws Exception {
        List<Object> seen = new ArrayList<>((List<?>) ask(connect(), "SELECT current_user, current_database()"));
        seen.add(fails(() -> connect("password", "wrong")));
        return seen;
    }

    static List<Object> startup() throws Exception {
        Connection db = connect("options", "-c work_mem=9MB", "ApplicationName", "drive");
        return Arrays.asList(ask(db, "SHOW work_mem"), same(10, () -> ask(db, "SHOW work_mem")), ask(db, "SHOW application_name"),
            fails(() -> connect("options", "-c nosuch=1")));
    }

    static List<Object> clients() throws Exception {
        List<Connection> clients = List.of(connect(), connect(), connect(), connect());
        List<Object> seen = new ArrayList<>();
        for (int n = 0; n < 4; n++) {
            Connection db = clients.get(n);
            int value = n;
            seen.add(same(5, () -> ask(db, "SELECT ?::int", value)));
        }
        return seen;
    }

    @SuppressWarnings("unchecked")
    static List<Object> settings() throws Exception {
        List<Connection> clients = List.of(connect(), connect(), connect(), connect());
        for (int n = 0; n < 4; n++) ask(clients.get(n), "SET work_mem = '" + (n + 5) + "MB'");
        return (List<Object>) same(5, () -> {
            List<Object> shown = new ArrayList<>();
            for (Connection db : clients) shown.add(ask(db, "SHOW work_mem"));
            return shown;
        });
    }

    static List<Object> simple() throws Exception {
        Connection db = connect();
        List<Object> seen = new ArrayList<>();
        seen.add(ask(db, "SELECT 1 + 1"));
        seen.add(ask(db, "INSERT INTO t VALUES (1, 'one')"));
        rollingBack(db, "INSERT INTO t VALUES (2, 'two')");
        seen.add(fails(() -> ask(db, "SELECT * FROM nowhere")));
        db.setAutoCommit(false);
        ask(db, "INSERT INTO t VALUES (3, 'three')");
        Savepoint s = db.setSavepoint();
        seen.add(fails(() -> ask(db, "INSERT INTO t VALUES (1, 'again')")));
        db.rollback(s);
        db.commit();
        db.setAutoCommit(true);
        List<Object> rows = new ArrayList<>();
        try (Statement st = db.createStatement(); ResultSet r = st.executeQuery("SELECT id, note FROM t ORDER BY id")) {
            while (r.next()) rows.add(List.of(r.getInt(1), r.getString(2)));
        }
        seen.add(rows);
        return seen;
    }

    static List<Object> extended() throws Exception {
        Connection db = connect();
        List<Object> row = new ArrayList<>();
        try (PreparedStatement s = db.prepareStatement("SELECT ?::int, ?::text, ?::text, ?::bool, ?::float8, ?::bytea, ?::int[]")) {
            s.setInt(1, 7);
            s.setString(2, TEXT);
            s.setNull(3, Types.VARCHAR);
            s.setBoolean(4, true);
            s.setDouble(5, 1.5);
            s.setBytes(6, new byte[] {0, (byte) 255, 39});
            s.setArray(7, db.createArrayOf("int", new Integer[] {1, 2, 3}));
            for (int n = 0; n < 7; n++) { // named and in binary from the fifth time on
                row = new ArrayList<>((List<?>) result(s, s.execute()));
                row.set(5, HexFormat.of().formatHex((byte[]) row.get(5)));
                row.set(6, Arrays.asList((Integer[]) ((Array) row.get(6)).getArray()));
            }
        }
        return Arrays.asList(row, ask(db, "INSERT INTO t VALUES (?, ?) RETURNING id", 5, TEXT),
            fails(() -> ask(db, "SELECT 1 / ?::int", 0)), ask(db, "SELECT ?::int", 8));
    }

    static List<Object> named() throws Exception {
        Connection db = connect(), other = connect();
        PreparedStatement put = db.prepareStatement("INSERT INTO t VALUES (?, 'x')");
        PreparedStatement sum = db.prepareStatement(SUM), ratio = db.prepareStatement("SELECT 1 / ?::int");
        int done = 0;
        for (int n = 1; n <= 20; n++) done += (Integer) ask(put, n);
        List<Object> seen = new ArrayList<>(List.of(done, same(10, () -> ask(sum))));
        seen.add(same(7, () -> fails(() -> ask(ratio, 0))));
        seen.add(same(10, () -> ask(sum)));
        PreparedStatement a = db.prepareStatement("SELECT 'a'"), b = other.prepareStatement("SELECT 'b'");
        PreparedStatement two = other.prepareStatement("SELECT 2"), three = other.prepareStatement("SELECT 3");
        Object both = same(10, () -> List.of(ask(a), ask(b), ask(two), ask(three)));
        List<?> last = (List<?>) both;
        seen.add(last.get(0));
        seen.add(last.get(1));
        return seen;
    }

    // Batches: many Executes, one Sync.
    static List<Object> pipeline() throws Exception {
        Connection db = connect();
        List<Object> seen = new ArrayList<>();
        try (PreparedStatement put = db.prepareStatement("INSERT INTO t VALUES (?, 'x')")) {
            for (int batch = 0; batch < 3; batch++) {
                for (int n : new int[] {1, 2, 1, 3}) {
                    put.setInt(1, n);
                    put.addBatch();
                }
                seen.add(fails(put::executeBatch));
            }
            for (int n = 100; n < 1100; n++) {
                put.setInt(1, n);
                put.addBatch();
            }
            seen.add(put.executeBatch().length);
        }
        db.setAutoCommit(false);
        try (Statement s = db.createStatement()) {
            for (String sql : List.of("INSERT INTO t VALUES (50)", "SELECT 1 / 0", "INSERT INTO t VALUES (51)")) s.addBatch(sql);
            seen.add(fails(s::executeBatch));
        }
        db.rollback();
        db.setAutoCommit(true);
        seen.add(ask(db, "SELECT count(*)::int FROM t"));
        return seen;
    }

    static List<Object> copy() throws Exception {
        Connection db = connect();
        CopyManager copy = db.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder rows = new StringBuilder();
        for (int n = 1; n <= 1000; n++) rows.append(n).append("\trow\n");
        List<Object> seen = new ArrayList<>();
        seen.add(copy.copyIn("COPY t FROM STDIN", new StringReader(rows.toString())));
        seen.add(ask(db, SUM));
        StringWriter out = new StringWriter();
        copy.copyOut("COPY t TO STDOUT", out);
        seen.add(out.toString().lines().count());
        String bad = "2000\tok\nbad\tx\n" + "3000\tx\n".repeat(5000);
        seen.add(fails(() -> copy.copyIn("COPY t FROM STDIN", new StringReader(bad))));
        seen.add(ask(db, "SELECT count(*) FROM t"));
        return seen;
    }

    static String heard(Connection db) throws SQLException {
        PGNotification[] news = db.unwrap(PGConnection.class).getNotifications(5000);
        return news == null || news.length == 0 ? null : news[0].getParameter();
    }

    static List<Object> listen() throws Exception {
        Connection db = connect(), other = connect();
        ask(db, "LISTEN news");
        ask(other, "NOTIFY news, 'one'");
        List<Object> seen = new ArrayList<>();
        seen.add(heard(db));
        for (int n = 0; n < 10; n++) ask(db, "INSERT INTO t VALUES (?)", n);
        ask(other, "NOTIFY news, 'two'");
        seen.add(heard(db));
        rollingBack(other, "NOTIFY news, 'three'");
        ask(db, "NOTIFY news, 'four'");
        seen.add(heard(db));
        ask(db, "UNLISTEN news");
        return seen;
    }

    // A fetch size in a transaction: a named portal and Executes with a row limit.
    static List<Object> cursor() throws Exception {
        Connection db = connect();
        int total = 0, everything = 0;
        db.setAutoCommit(false);
        try (Statement part = db.createStatement(); Statement whole = db.createStatement()) {
            part.setFetchSize(100);
            whole.setFetchSize(100);
            ResultSet r = part.executeQuery("SELECT n FROM big ORDER BY n");
            for (int n = 0; n < 1000 && r.next(); n++) {
                total += r.getInt(1);
                if (n % 100 == 50) ask(db, "SELECT 1");
            }
            r.close();
            db.commit();
            r = whole.executeQuery("SELECT n FROM big ORDER BY n");
            while (r.next()) everything += r.getInt(1);
        }
        db.commit();
        db.setAutoCommit(true);
        return Arrays.asList(total, everything, ask(db, "SELECT 1 + 1"));
    }

    static List<Object> cancel() throws Exception {
        Connection db = connect();
        List<Object> seen = new ArrayList<>();
        for (int n = 0; n < 2; n++) {
            try (Statement s = db.createStatement()) {
                String sql = "SELECT pg_sleep(30) /* cancel-me-" + n + " */";
                CompletableFuture<Object> sleeping = CompletableFuture.supplyAsync(() -> {
                    try {
                        return fails(() -> s.execute(sql));
                    } catch (Exception e) {
                        return e.toString();
                    }
                });
                awaitRunning("cancel-me-" + n);
                s.cancel();
                seen.add(sleeping.get());
            }
            seen.add(ask(db, "SELECT 1"));
        }
        return seen;
    }

    static List<Object> set() throws Exception {
        Connection db = connect();
        Ask show = () -> ask(db, "SHOW work_mem"), who = () -> ask(db, "SELECT current_user");
        ask(db, "SET work_mem = '7MB'");
        List<Object> seen = new ArrayList<>();
        seen.add(same(10, show));
        ask(db, "SET search_path = extra, public");
        seen.add(same(5, () -> ask(db, "SELECT note FROM only_extra")));
        rollingBack(db, "SET work_mem = '8MB'");
        seen.add(same(5, show));
        db.setAutoCommit(false);
        ask(db, "SET LOCAL work_mem = '6MB'");
        seen.add(show.get());
        db.commit();
        db.setAutoCommit(true);
        seen.add(same(5, show));
        ask(db, "SET TIME ZONE 'Asia/Tokyo'");
        seen.add(same(5, () -> ask(db, "SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')")));
        ask(db, "SET ROLE app");
        seen.add(same(5, who));
        ask(db, "RESET ROLE");
        seen.add(same(5, who));
        seen.add(fails(() -> ask(db, "SET work_mem = 'nonsense'")));
        ask(db, "RESET work_mem");
        seen.add(same(5, show));
        ask(db, "RESET search_path");
        seen.add(same(5, () -> fails(() -> ask(db, "SELECT note FROM only_extra"))));
        ask(db, "SELECT set_config(?, ?, false)", "work_mem", "5MB");
        seen.add(same(5, show));
        return seen;
    }

    static List<Object> kept() throws Exception {
        Map<String, Connection> clients = Map.of("one", connect(), "two", connect());
        List<Object> seen = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of("kept.sql"))) {
            String[] part = line.split(" ", 2);
            Object value = ask(clients.get(part[0]), part[1]);
            if (part[1].matches("(SELECT|FETCH|EXECUTE) .*")) seen.add(value);
        }
        return seen;
    }

    static List<Object> large() throws Exception {
        Connection db = connect();
        String big = "ü234567".repeat(1_000_000); // 8 MB of UTF-8
        Object sent = ask(db, "SELECT octet_length(?)", big);
        ask(db, "INSERT INTO t VALUES (1, ?)", big);
        String back = (String) ask(db, "SELECT note FROM t");
        int rows = 0, bytes = 0;
        try (Statement s = db.createStatement();
             ResultSet r = s.executeQuery("SELECT repeat('x', 2000) FROM generate_series(1, 2000)")) {
            for (; r.next(); rows++) bytes += r.getString(1).length();
        }
        return Arrays.asList(sent, back.getBytes("UTF-8").length, rows, bytes);
    }

    static List<Object> readonly() throws Exception {
        Connection db = connect(), other = connect();
        String count = "SELECT count(*)::int FROM t";
        List<Object> seen = new ArrayList<>();
        db.setReadOnly(true);
        db.setAutoCommit(false);
        seen.add(ask(db, count));
        seen.add(fails(() -> ask(db, "INSERT INTO t VALUES (1)")));
        db.rollback();
        db.setReadOnly(false);
        ask(db, "INSERT INTO t VALUES (1)");
        db.commit();
        seen.add(ask(db, count));
        db.commit();
        db.setReadOnly(true);
        db.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        seen.add(ask(db, count));
        ask(other, "INSERT INTO t VALUES (2)");
        seen.add(ask(db, count));
        db.commit();
        db.setReadOnly(false);
        db.setAutoCommit(true);
        ask(db, "INSERT INTO t VALUES (3)");
        seen.add(ask(db, count));
        return seen;
    }

    static List<Object> ddl() throws Exception {
        Connection db = connect(), other = connect();
        ask(db, "CREATE TABLE ddl_t (a int)");
        ask(db, "INSERT INTO ddl_t VALUES (1)");
        PreparedStatement st = db.prepareStatement("SELECT * FROM ddl_t");
        Ask look = () -> fails(() -> ask(st));
        List<Object> seen = new ArrayList<>(List.of(same(7, look)));
        String[] changes = {"ALTER TABLE ddl_t ADD b int DEFAULT 2",
            "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"};
        for (int n = 0; n < 2; n++) {
            ask(other, changes[n]);
            ask(db, "INSERT INTO t VALUES (?)", n); // what is read from now on is not older than the change
            for (int i = 0; i < 3; i++) seen.add(look.get());
            db.setAutoCommit(false);
            seen.add(look.get());
            db.rollback();
            db.setAutoCommit(true);
            for (int i = 0; i < 7; i++) seen.add(look.get());
        }
        return seen;
    }

    static List<Object> killed() throws Exception {
        Connection db = connect();
        tell("kill", "kill-me");
        db.setAutoCommit(false);
        ask(db, "INSERT INTO t VALUES (1)");
        List<Object> seen = new ArrayList<>();
        seen.add(fails(() -> ask(db, "SELECT pg_sleep(30) /* kill-me */")));
        Connection again = connect();
        seen.add(ask(again, "SELECT count(*) FROM t"));
        seen.add(ask(again, "INSERT INTO t VALUES (2)"));
        return seen;
    }

    public static void main(String[] args) throws Exception {
        System.setOut(new java.io.PrintStream(System.out, true, "UTF-8"));
        in = new BufferedReader(new InputStreamReader(System.in));
        port = Integer.parseInt(args[0]);
        for (String name; (name = in.readLine()) != null; ) {
            try {
                tell("seen", Drive.class.getDeclaredMethod(name).invoke(null));
            } catch (java.lang.reflect.InvocationTargetException e) {
                e.getCause().printStackTrace();
                tell("error", e.getCause() instanceof SQLException s ? code(s) + " " + s.getMessage() : e.getCause().toString());
            }
            for (Connection db : opened) db.close();
            opened.clear();
        }
    }
}
