/* tests/unit/test_conf_file.c: the ini grammar, entries, includes, auth_file and every message with
 * its place. */
#include "test_conf.h"

#define G "[pgweir]\nauth_type=trust\n"

static const struct {
    const char *text, *message;
} broken_lines[] = {
    {"[pgweir]\nlisten_prot = 1\n",
     "t.ini:2: listen_prot: unknown key (did you mean listen_port?)"},
    {"[pgweir]\n\n; c\n  xyzzy_plugh = 1\n", "t.ini:4: xyzzy_plugh: unknown key"},
    {"[pgwier]\nlisten_port = 1\n", "t.ini:1: unknown section [pgwier] (did you mean pgweir?)"},
    {"[pgweir\n", "t.ini:1: expected [section] and nothing behind it"},
    {"[pgweir] x\n", "t.ini:1: expected [section] and nothing behind it"},
    {"listen_port = 1\n", "t.ini:1: listen_port: stands before any [section]"},
    {"[pgweir]\nlisten_port: 1\n", "t.ini:2: expected key = value (other names than "
                                   "[A-Za-z0-9_.*-] need 'quotes')"},
    {"[databases]\n'a = host=b\n", "t.ini:2: expected key = value"},
    {"%includes x\n", "t.ini:1: unknown directive; only %include is known"},
    {"%include\n", "t.ini:1: %include: names no file"},
    {"[databases]\na = host=b\n[pgweir]\nlisten_port=0\n",
     "t.ini:4: listen_port: 0 is below the minimum 1"},
    {"[databases]\na = hots=b\n", "t.ini:2: a: unknown key hots (did you mean host?)"},
    {"[databases]\na = host\n", "t.ini:2: a: expected key=value pairs, as in host=pg1 port=5432"},
    {"[databases]\na = =b\n", "t.ini:2: a: expected key=value pairs, as in host=pg1 port=5432"},
    {"[databases]\na = host=\n", "t.ini:2: a: host: empty value"},
    {"[databases]\na = host=''\n", "t.ini:2: a: host: empty value"},
    {"[databases]\na = password=x hush=y\n",
     "t.ini:2: a: unknown key behind the password (one with blanks needs 'quotes')"},
    {"[databases]\na = password='x\n", "t.ini:2: a: password: the quoted value has no end"},
    {"[databases]\na = host='x'port=1\n", "t.ini:2: a: host: text behind the closing quote"},
    {"[databases]\na = pool_size=abc\n", "t.ini:2: a: pool_size: not a number: \"abc\""},
    {"[databases]\na = pool_size=100001\n",
     "t.ini:2: a: pool_size: 100001 is above the maximum 100000"},
    {"[databases]\na = pool_mode=row\n",
     "t.ini:2: a: pool_mode: unknown value \"row\" (use session, transaction or statement)"},
    {"[databases]\na = queue_timeout=5x\n",
     "t.ini:2: a: queue_timeout: unknown unit \"x\" (use us, ms, s, min, h or d)"},
    {"[databases]\na = port=0\n", "t.ini:2: a: port: 0 is not a port (1 to 65535)"},
    {"[databases]\na = host=x port=65536\n", "t.ini:2: a: port: 65536 is not a port (1 to 65535)"},
    {"[databases]\na = host=x,y,z port=1,2\n",
     "t.ini:2: a: port: 2 ports for 3 hosts; give one, or one for each"},
    {"[databases]\na = host=x,y weight=1,256\n",
     "t.ini:2: a: weight: 256 is not a weight (0 to 255)"},
    {"[databases]\na = host=x,y weight=1,-1\n", "t.ini:2: a: weight: must not be negative: -1"},
    {"[databases]\na = host=x,y weight=1,,\n",
     "t.ini:2: a: weight: 3 weights for 2 hosts; give one, or one for each"},
    {"[databases]\na = host=x,y,z zone=eu,us\n",
     "t.ini:2: a: zone: 2 zones for 3 hosts; give one, or one for each"},
    {"[databases]\na = host=x zone='e u'\n", "t.ini:2: a: zone: \"e u\" is not a name of a zone"},
    {"[databases]\na = host=x zone="
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
     "t.ini:2: a: zone: a name has at most 63 bytes, this one 64"},
    {"[databases]\na = host=x,,z\n",
     "t.ini:2: a: host: \"\" is not a host name, address or socket folder"},
    {"[databases]\na = host='x y'\n",
     "t.ini:2: a: host: \"x y\" is not a host name, address or socket folder"},
    {"[databases]\npgbouncer = host=x\n",
     "t.ini:2: pgbouncer: the name pgbouncer is reserved for the console"},
    {"[databases]\npgweir = host=x\n",
     "t.ini:2: pgweir: the name pgweir is reserved for the console"},
    {"[databases]\n'' = host=x\n", "t.ini:2: a database name has 1 to 63 bytes, this one 0"},
    {"[users]\nbob = pool_size=-1\n", "t.ini:2: bob: pool_size: must not be negative: -1"},
    {"[users]\nbob = host=x\n", "t.ini:2: bob: unknown key host"},
    {"[pgweir]\n", "t.ini: [databases]: no database; name one, as in app = host=pg1,pg2, or "
                   "set DATABASE_URL"},
    {"[pgweir]\n", "t.ini: auth_type: has no secrets to check clients against; set auth_file, "
                   "or DATABASE_URL with user and password"},
    {"[pgweir]\nauth_file = gone\n",
     "t.ini:2: auth_file: cannot read gone: No such file or directory"},
    {"[pgweir]\nclient_tls_sslmode = require\n",
     "t.ini:2: client_tls_sslmode: needs client_tls_key_file and client_tls_cert_file"},
    {"[pgweir]\nclient_tls_key_file = gone.pem\n",
     "t.ini:2: client_tls_key_file: cannot read gone.pem: No such file or directory"},
    {"[pgweir]\nserver_tls_sslmode = verify-full\n",
     "t.ini:2: server_tls_sslmode: needs server_tls_ca_file"},
    {"[pgweir]\nserver_tls_cert_file = t\n", "t.ini:2: server_tls_cert_file: "
                                             "server_tls_key_file and server_tls_cert_file "
                                             "belong together"},
    {"[pgweir]\nlisten_addr =\n",
     "t.ini:2: listen_addr: is empty like unix_socket_dir: nothing to listen on"},
    {"[pgweir]\nrecv_buffers = 100\n", "t.ini:2: recv_buffers: 100 is not a power of two"},
    {"[pgweir]\nprobe_password = x\n", "t.ini:2: probe_password: needs probe_user"},
};

static void each_broken_line_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_lines / sizeof *broken_lines; i++) {
        assert_null(load_with(broken_lines[i].text, NULL));
        expect_message(CONF_ERROR, broken_lines[i].message);
    }
}

/* Found by fuzz_ini: what was refused was NULL for the checks that look at several options. */
static void a_refused_text_is_no_null(void **state)
{
    static const struct {
        const char *key;
        int max;
    } options[] = {{"probe_user", 127},
                   {"listen_addr", 4096},
                   {"unix_socket_dir", 92},
                   {"server_tls_ca_file", 4096}};
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char text[6000], value[5000];
        memset(value, 'x', sizeof value - 1);
        value[sizeof value - 1] = '\0';
        snprintf(text, sizeof text,
                 "[pgweir]\nserver_tls_sslmode=verify-full\nprobe_password=x\n%s = %s\n",
                 options[i].key, value);
        assert_null(load_with(text, NULL));
        snprintf(text, sizeof text, "t.ini:4: %s: 4999 bytes are too long (at most %d)",
                 options[i].key, options[i].max);
        expect_message(CONF_ERROR, text);
    }
}

static void all_errors_come_at_once_and_in_order(void **state)
{
    (void)state;
    assert_null(load_with("[databases]\na = x\nb = y\n[pgweir]\nworkers = -1\nfoo = 1\n", NULL));
    static const char *const starts[] = {"t.ini:2: ", "t.ini:3: ", "t.ini:5: ", "t.ini:6: "};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(strncmp(errs.list[i].text, starts[i], 9), 0);
    char text[300 * 4] = "[pgweir]\n";
    for (size_t i = 0, n = strlen(text); i < 250; i++, n += 4)
        memcpy(text + n, "q=1\n", 5);
    assert_null(load_with(text, NULL));
    assert_int_equal(errs.n, CONF_ERRORS_MAX);
    assert_true(errs.error_n >= 250 && errs.dropped_n >= 50);
}

static void a_pgbouncer_ini_starts(void **state)
{
    (void)state;
    fake_files =
        (const struct fake_file[]){{"/etc/pgbouncer/userlist.txt", "\"m\" \"p\"\n", 0}, {0}};
    struct conf *c = load_with(
        "\xEF\xBB\xBF;; comment\r\n"
        "# other comment\n"
        "[databases]\r\n"
        "foodb =\n"
        "bardb = host=127.0.0.1 dbname=bazdb\r\n"
        " forcedb = host=localhost port=300 user=baz password=foo client_encoding=UNICODE "
        "datestyle=ISO connect_query='SELECT ''1'''\n"
        "* = host=testserver\n"
        "[pgbouncer]\n"
        "logfile = /var/log/pgbouncer/pgbouncer.log\n"
        "listen_addr = 127.0.0.1 ; not a comment\n"
        "auth_file = /etc/pgbouncer/userlist.txt\n"
        "listen_port = 0x1920\n"
        "ignore_startup_parameters = extra_float_digits\n"
        "pkt_buf = 75\n"
        "stats_period = 61\n"
        "[peers]\n1 = host=x\n2 = host=y\n"
        "[users]\nm = pool_mode=transaction max_user_connections=3\n",
        NULL);
    assert_non_null(c);
    assert_int_equal(c->flavour, CONF_PGBOUNCER);
    assert_string_equal(c->listen_addr, "127.0.0.1 ; not a comment");
    assert_int_equal(c->listen_port, 0x1920);
    assert_int_equal(c->auth_type, CONF_AUTH_MD5);
    assert_int_equal(c->database_n, 4);
    const struct conf_database *d = conf_database(c, slice_of("forcedb"));
    assert_string_equal(d->connect_query, "SELECT '1'");
    assert_string_equal(d->dbname, "forcedb");
    assert_int_equal(d->hosts[0].port, 300);
    assert_string_equal(conf_database(c, slice_of("any"))->name, "*");
    assert_string_equal(conf_database(c, slice_of("any"))->dbname, "");
    assert_null(conf_database(c, slice_of("pgbouncer")));
    assert_string_equal(conf_secret(c, slice_of("m")), "p");
    expect_message(CONF_WARNING, "t.ini:15: stats_period: not supported yet: no statistics are "
                                 "written to the log");
    expect_message(CONF_WARNING, "t.ini:16: [peers]: not supported yet: cancel requests are not "
                                 "passed on to other processes");
    assert_int_equal(errs.n, 2);
    assert_int_equal(conf_max_user_connections(c, conf_user(c, slice_of("m"))), 3);
    conf_free(c);
    fake_files = NULL;
}

static void hosts_and_ports_are_lists(void **state)
{
    (void)state;
    static const struct {
        const char *value, *hosts;
    } cases[] = {
        {"host=a,b port=5432,5433", "a:5432 b:5433 "},
        {"port=7 host='a, b,c'", "a:7 b:7 c:7 "},
        {"host=[::1],fe80::1%eth0,/run/pg,@abs",
         "::1:5432 fe80::1%eth0:5432 /run/pg:5432 @abs:5432 "},
        {"", "/var/run/postgresql:5432 "},
        {"host = a  port\t=\t0x10", "a:16 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300], got[300] = "";
        snprintf(text, sizeof text, "[databases]\na = %s\n" G, cases[i].value);
        struct conf *c = load_with(text, NULL);
        expect_clean(c);
        for (size_t h = 0; h < c->databases[0].host_n; h++) {
            const struct conf_host *host = &c->databases[0].hosts[h];
            size_t n = strlen(got);
            snprintf(got + n, sizeof got - n, "%s:%u ", host->host, host->port);
        }
        assert_string_equal(got, cases[i].hosts);
        conf_free(c);
    }
    struct conf *c = load_with("[databases]\na = host=x,y,x\n" G, NULL);
    expect_message(CONF_WARNING, "t.ini:2: a: host: x port 5432 is listed twice");
    assert_int_equal(c->databases[0].host_n, 2);
    conf_free(c);
    char text[1000] = "[databases]\na = host=h0";
    for (unsigned i = 1; i <= CONF_HOSTS_MAX; i++) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, ",h%u", i);
    }
    assert_null(load_with(text, NULL));
    char message[100];
    snprintf(message, sizeof message, "t.ini:2: a: host: %d hosts are too many (at most %d)",
             CONF_HOSTS_MAX + 1, CONF_HOSTS_MAX);
    expect_message(CONF_ERROR, message);
}

static void weights_and_zones_are_lists_beside_the_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *value, *hosts;
    } cases[] = {
        {"host=a,b", "a:1: b:1: "},
        {"host=a,b weight=3", "a:3: b:3: "},
        {"host=a,b,c weight=0,255,0x10 zone=eu,,us", "a:0:eu b:255: c:16:us "},
        {"zone=eu host=a,b weight=' 1, 2'", "a:1:eu b:2:eu "},
        {"host=a,b,a weight=1,2,3 zone=x,y,z", "a:1:x b:2:y "}, /* listed twice: the first holds */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300], got[300] = "";
        snprintf(text, sizeof text, "[databases]\na = %s\n" G, cases[i].value);
        struct conf *c = load_with(text, NULL);
        assert_non_null(c);
        for (size_t h = 0; h < c->databases[0].host_n; h++) {
            const struct conf_host *host = &c->databases[0].hosts[h];
            size_t n = strlen(got);
            snprintf(got + n, sizeof got - n, "%s:%u:%s ", host->host, host->weight, host->zone);
        }
        assert_string_equal(got, cases[i].hosts);
        conf_free(c);
    }
}

static void the_balance_has_options(void **state)
{
    (void)state;
    struct conf *c = load_with("[databases]\na = host=x\n" G, NULL);
    expect_clean(c);
    assert_int_equal(c->balance, CONF_BALANCE_P2C);
    assert_int_equal(c->primary_reads, CONF_PRIMARY_READS_FALLBACK);
    assert_int_equal(c->primary_read_budget.percent, 25);
    assert_int_equal(c->primary_read_budget.n, 0);
    assert_int_equal(c->slow_start_ms, 10000);
    assert_int_equal(c->eject_max_percent, 50);
    assert_string_equal(c->prefer_zone, "");
    conf_free(c);
    c = load_with("[databases]\na = host=x\n" G "balance = least_connections\n"
                  "primary_reads = weighted\nprimary_read_budget = 7\nslow_start = 0\n"
                  "eject_max_percent = 100\nprefer_zone = eu\n",
                  NULL);
    expect_clean(c);
    assert_int_equal(c->balance, CONF_BALANCE_LEAST_CONNECTIONS);
    assert_int_equal(c->primary_reads, CONF_PRIMARY_READS_WEIGHTED);
    assert_int_equal(c->primary_read_budget.n, 7);
    assert_int_equal(c->primary_read_budget.percent, 0);
    assert_int_equal(c->slow_start_ms, 0);
    assert_int_equal(c->eject_max_percent, 100);
    assert_string_equal(c->prefer_zone, "eu");
    conf_free(c);
    assert_null(load_with("[databases]\na = host=x\n" G "eject_max_percent = 101\n", NULL));
    assert_null(load_with("[databases]\na = host=x\n" G "balance = fastest\n", NULL));
    assert_null(load_with("[databases]\na = host=x\n" G "primary_reads = always\n", NULL));
}

static void keys_and_values_may_be_quoted(void **state)
{
    (void)state;
    struct conf *c = load_with("[databases]\n"
                               "'a=b:c''d' = host=x\n"
                               "\"e f\"=user='o''b' password='p q=''r'''\n"
                               "plain.name-*_1 = host=x\n" G,
                               NULL);
    expect_clean(c);
    assert_non_null(conf_database(c, slice_of("a=b:c'd")));
    const struct conf_database *d = conf_database(c, slice_of("e f"));
    assert_string_equal(d->user, "o'b");
    assert_string_equal(d->password, "p q='r'");
    assert_non_null(conf_database(c, slice_of("plain.name-*_1")));
    assert_null(conf_database(c, slice_of("nobody")));
    conf_free(c);
}

static void the_narrowest_value_holds(void **state)
{
    (void)state;
    struct conf *c =
        load_with("[databases]\n"
                  "a = pool_size=3 min_pool_size=2 pool_mode=session query_wait_timeout=7 "
                  "server_lifetime=0 reserve_pool=5 max_db_connections=6 "
                  "max_db_client_connections=8\n"
                  "b = reserve_pool_size=1\n"
                  "[users]\n"
                  "u = pool_size=4 pool_mode=transaction queue_timeout=250ms reserve_pool_size=2 "
                  "max_user_connections=10 max_user_client_connections=11\n"
                  "v =\n" G "default_pool_size=9\nreserve_pool_size=12\n"
                  "max_db_connections=13\nmax_user_connections=14\n"
                  "max_db_client_connections=15\nmax_user_client_connections=16\n",
                  NULL);
    expect_clean(c);
    const struct conf_database *a = conf_database(c, slice_of("a"));
    const struct conf_database *b = conf_database(c, slice_of("b"));
    const struct conf_user *u = conf_user(c, slice_of("u")), *v = conf_user(c, slice_of("v"));
    assert_null(conf_user(c, slice_of("w")));
    assert_int_equal(conf_pool_size(c, a, u), 4);
    assert_int_equal(conf_pool_size(c, a, v), 3);
    assert_int_equal(conf_pool_size(c, b, NULL), 9);
    assert_int_equal(conf_reserve_pool_size(c, a, u), 2);
    assert_int_equal(conf_reserve_pool_size(c, a, v), 5);
    assert_int_equal(conf_reserve_pool_size(c, b, v), 1);
    assert_int_equal(conf_reserve_pool_size(c, NULL, NULL), 12);
    assert_int_equal(conf_max_db_connections(c, a), 6);
    assert_int_equal(conf_max_db_connections(c, b), 13);
    assert_int_equal(conf_max_user_connections(c, u), 10);
    assert_int_equal(conf_max_user_connections(c, v), 14);
    assert_int_equal(conf_max_db_client_connections(c, a), 8);
    assert_int_equal(conf_max_db_client_connections(c, b), 15);
    assert_int_equal(conf_max_user_client_connections(c, u), 11);
    assert_int_equal(conf_max_user_client_connections(c, NULL), 16);
    assert_int_equal(conf_min_pool_size(c, a), 2);
    assert_int_equal(conf_min_pool_size(c, b), 0);
    assert_int_equal(conf_pool_mode(c, a, u), CONF_POOL_TRANSACTION);
    assert_int_equal(conf_pool_mode(c, a, NULL), CONF_POOL_SESSION);
    assert_int_equal(conf_pool_mode(c, b, v), CONF_POOL_TRANSACTION);
    assert_int_equal(conf_queue_timeout_ms(c, a, u, true), 250);
    assert_int_equal(conf_queue_timeout_ms(c, a, NULL, true), 7000);
    assert_int_equal(conf_queue_timeout_ms(c, b, NULL, false), 5000);
    assert_int_equal(conf_server_lifetime_ms(c, a), 0);
    assert_int_equal(conf_server_lifetime_ms(c, b), 3600000);
    conf_free(c);
}

/* The narrowest scope counts, and in it the kind of wait before both kinds. */
static void a_queue_timeout_is_of_reads_of_writes_or_of_both(void **state)
{
    (void)state;
    struct conf *c = load_with("[databases]\n"
                               "a = read_queue_timeout=2\n"
                               "b = queue_timeout=0\n"
                               "[users]\n"
                               "u = write_queue_timeout=300ms\n"
                               "v = queue_timeout=400ms\n" G "write_queue_timeout=9s\n",
                               NULL);
    expect_clean(c);
    const struct conf_database *a = conf_database(c, slice_of("a"));
    const struct conf_database *b = conf_database(c, slice_of("b"));
    const struct conf_user *u = conf_user(c, slice_of("u")), *v = conf_user(c, slice_of("v"));
    assert_int_equal(conf_queue_timeout_ms(c, NULL, NULL, true), 5000);
    assert_int_equal(conf_queue_timeout_ms(c, NULL, NULL, false), 9000);
    assert_int_equal(conf_queue_timeout_ms(c, a, NULL, true), 2000);
    assert_int_equal(conf_queue_timeout_ms(c, a, NULL, false), 9000);
    assert_int_equal(conf_queue_timeout_ms(c, b, NULL, false), 0);
    assert_int_equal(conf_queue_timeout_ms(c, a, u, false), 300);
    assert_int_equal(conf_queue_timeout_ms(c, a, u, true), 2000);
    assert_int_equal(conf_queue_timeout_ms(c, a, v, true), 400);
    conf_free(c);
}

static void what_a_client_may_do_is_the_users_the_databases_or_everybodys(void **state)
{
    (void)state;
    struct conf *c = load_with("[databases]\n"
                               "a = query_timeout=2 shed_severity=fatal\n"
                               "[users]\n"
                               "u = query_timeout=3 transaction_timeout=4 "
                               "idle_transaction_timeout=5 client_idle_timeout=6 "
                               "shed_severity=pgbouncer\n" G "query_timeout=7\n"
                               "client_idle_timeout=8\n",
                               NULL);
    expect_clean(c);
    const struct conf_database *a = conf_database(c, slice_of("a"));
    const struct conf_user *u = conf_user(c, slice_of("u"));
    struct conf_client_limits l = conf_client_limits(c, a, u);
    assert_int_equal(l.query_ms, 3000);
    assert_int_equal(l.transaction_ms, 4000);
    assert_int_equal(l.idle_transaction_ms, 5000);
    assert_int_equal(l.idle_ms, 6000);
    assert_int_equal(conf_shed_severity(c, a, u), CONF_SHED_PGBOUNCER);
    l = conf_client_limits(c, a, NULL);
    assert_int_equal(l.query_ms, 2000);
    assert_int_equal(l.transaction_ms, 0);
    assert_int_equal(l.idle_ms, 8000);
    assert_int_equal(conf_shed_severity(c, a, NULL), CONF_SHED_FATAL);
    assert_int_equal(conf_client_limits(c, NULL, NULL).query_ms, 7000);
    assert_int_equal(conf_shed_severity(c, NULL, NULL), CONF_SHED_ERROR);
    conf_free(c);
}

static void the_last_of_equal_names_holds(void **state)
{
    (void)state;
    struct conf *c = load_with("[databases]\na = host=x pool_size=1\nb = host=b\na = host=y\n" G
                               "listen_port=1\n[pgweir]\nlisten_port=2\n",
                               NULL);
    expect_clean(c);
    assert_int_equal(c->database_n, 2);
    assert_string_equal(c->databases[0].hosts[0].host, "y");
    assert_int_equal(c->databases[0].own.set, 0);
    assert_int_equal(c->listen_port, 2);
    conf_free(c);
}

static void includes_are_followed_and_bounded(void **state)
{
    (void)state;
    fake_files =
        (const struct fake_file[]){{"dir/a.ini", "\n%include b.ini\nlisten_port=1x\n", 0},
                                   {"dir/b.ini", "[pgweir]\nworkers=y\n%include cwd.ini", 0},
                                   {"cwd.ini", "zork=1", 0},
                                   {"loop.ini", "%include loop.ini\n%include loop.ini\n", 0},
                                   {"wide.ini", "", 0},
                                   {0}};
    assert_null(load_with("%include dir/a.ini\nworkers=z\n", NULL));
    assert_string_equal(errs.list[0].text, "dir/b.ini:2: workers: not a number: \"y\"");
    assert_string_equal(errs.list[1].text, "cwd.ini:1: zork: unknown key");
    assert_string_equal(errs.list[2].text, "dir/a.ini:3: listen_port: not a number: \"1x\"");
    assert_string_equal(errs.list[3].text, "t.ini:2: workers: not a number: \"z\"");
    assert_null(load_with("%include loop.ini\n", NULL));
    assert_string_equal(errs.list[0].text, "loop.ini:1: %include: more than 10 levels deep");
    assert_null(load_with("\n%include none.ini\n", NULL));
    expect_message(CONF_ERROR,
                   "t.ini:2: %include: cannot read none.ini: No such file or directory");
    static const char one[] = "%include wide.ini\n";
    static char wide[CONF_INCLUDE_FILES_MAX * sizeof one];
    for (size_t i = 0; i < CONF_INCLUDE_FILES_MAX; i++)
        memcpy(wide + i * (sizeof one - 1), one, sizeof one);
    assert_null(load_with(wide, NULL));
    expect_message(CONF_ERROR, "t.ini:256: %include: more than 256 files");
    fake_files = NULL;
}

static void lines_are_bounded(void **state)
{
    (void)state;
    static char text[2 * CONF_LINE_MAX];
    const char *head = "[databases]\na = password=";
    size_t head_n = strlen(head);
    memcpy(text, head, head_n);
    memset(text + head_n, 'x', CONF_SECRET_MAX);
    snprintf(text + head_n + CONF_SECRET_MAX, 200, "\nb=\n" G);
    struct conf *c = load_with(text, NULL);
    expect_clean(c);
    assert_int_equal(strlen(c->databases[0].password), CONF_SECRET_MAX);
    assert_int_equal(c->database_n, 2);
    conf_free(c);
    memset(text + head_n, 'x', CONF_SECRET_MAX + 1);
    snprintf(text + head_n + CONF_SECRET_MAX + 1, 200, "\n" G);
    assert_null(load_with(text, NULL));
    expect_message(CONF_ERROR, "t.ini:2: a: password: 65536 bytes are too long (at most 65535)");
    memset(text, 'x', CONF_LINE_MAX + 1);
    snprintf(text + CONF_LINE_MAX + 1, 200, "\nq\n" G);
    assert_null(load_with(text, NULL));
    expect_message(CONF_ERROR, "t.ini:1: line of 131073 bytes is too long (at most 131072)");
    assert_true(errs.n == 3 && strncmp(errs.list[1].text, "t.ini:2: ", 9) == 0);
    /* The longest line that is let through reaches us whole. */
    memset(text, 'x', CONF_LINE_MAX);
    memcpy(text, "admin_users=", 12);
    text[CONF_LINE_MAX] = 0;
    assert_null(load_with(text, NULL));
    assert_string_equal(errs.list[0].text, "t.ini:1: admin_users: stands before any [section]");
}

static void zero_bytes_and_terminal_codes_are_harmless(void **state)
{
    (void)state;
    static const char text[] = "[pgweir]\nworkers = 1\0\n'\x1b[2J' = 1\n";
    conf_errors_free(&errs);
    const struct conf_sources src = {.path = "t.ini", .text = text, .text_n = sizeof text - 1};
    assert_null(conf_load(&src, &errs));
    expect_message(CONF_ERROR, "t.ini:2: line contains a zero byte");
    expect_message(CONF_ERROR, "t.ini:3: ?[2J: unknown key");
}

static struct conf *load_users(const char *bytes, size_t n)
{
    struct fake_file files[] = {{"u", bytes, n}, {0}};
    fake_files = files;
    struct conf *c = load_with("[databases]\na=\n[pgweir]\nauth_file=u\n", NULL);
    fake_files = NULL;
    return c;
}

static void auth_file_is_pgbouncers(void **state)
{
    (void)state;
    struct conf *c = load_users("; comment\n\n  \"z\" \"plain\" rest \"ignored\"\r\n"
                                "\"a\"\"b\" \"q\"\"\"\"q\"\n\"e\"\t\"\"\n"
                                "\"z\" \"newer\"\n\"s\" \"SCRAM-SHA-256$4096:x$y:z\"",
                                0);
    expect_clean(c);
    assert_int_equal(c->secret_n, 4);
    assert_string_equal(conf_secret(c, slice_of("z")), "newer");
    assert_string_equal(conf_secret(c, slice_of("a\"b")), "q\"\"q");
    assert_string_equal(conf_secret(c, slice_of("e")), "");
    assert_string_equal(conf_secret(c, slice_of("s")), "SCRAM-SHA-256$4096:x$y:z");
    assert_null(conf_secret(c, slice_of("zz")));
    assert_null(conf_secret(c, slice_of("")));
    conf_free(c);
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } bad[] = {
        {"\"a\" \"b\"\nbob secret\n", 0, "u:2: expected \"user\" \"secret\""},
        {"\"a\"", 0, "u:1: expected \"user\" \"secret\""},
        {"\"a\" \"b\n", 0, "u:1: expected \"user\" \"secret\""},
        {"\"\" \"b\"", 0, "u:1: a user name has 1 to 127 bytes, this one 0"},
        {"\"a\0\" \"b\"", 8, "u:1: line contains a zero byte"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(load_users(bad[i].bytes, bad[i].n));
        expect_message(CONF_ERROR, bad[i].message);
    }
    c = load_users("\"m\" \"md5aaaaaaaaaabbbbbbbbbbccccccccccdd\"\n", 0);
    expect_message(CONF_WARNING, "t.ini: auth_type: 1 users have md5 secrets, which cannot log in "
                                 "by scram-sha-256");
    conf_free(c);
    c = load_users("\n", 0);
    expect_message(CONF_WARNING, "t.ini:4: auth_file: u names no user");
    conf_free(c);
}

static void auth_file_lengths_are_bounded(void **state)
{
    (void)state;
    static char bytes[CONF_SECRET_MAX + 200];
    for (size_t over = 0; over < 2; over++) {
        size_t n = CONF_SECRET_MAX + over;
        memcpy(bytes, "\"u\" \"", 5);
        memset(bytes + 5, 'x', n);
        memcpy(bytes + 5 + n, "\"", 2);
        struct conf *c = load_users(bytes, 0);
        assert_int_equal(c == NULL, over);
        conf_free(c);
        n = CONF_USER_MAX + over;
        memset(bytes + 1, 'x', n);
        memcpy(bytes + 1 + n, "\" \"\"", 5);
        c = load_users(bytes, 0);
        assert_int_equal(c == NULL, over);
        conf_free(c);
    }
}

static void lists_are_searched_by_element(void **state)
{
    (void)state;
    assert_true(conf_list_has("a, bob ,c", slice_of("bob")));
    assert_true(conf_list_has("a,bob", slice_of("bob")));
    assert_false(conf_list_has("a,bobby", slice_of("bob")));
    assert_false(conf_list_has(",,", slice_of("")));
    assert_false(conf_list_has("", slice_of("a")));
}

static void real_files_are_read(void **state)
{
    (void)state;
    conf_errors_free(&errs);
    struct conf_sources src = {.path = "/nonexistent/pgweir.ini"};
    assert_null(conf_load(&src, &errs));
    expect_message(CONF_ERROR,
                   "/nonexistent/pgweir.ini: cannot read the file: No such file or directory");
    conf_errors_free(&errs);
    src.path = "/";
    assert_null(conf_load(&src, &errs));
    expect_message(CONF_ERROR, "/: cannot read the file: Is a directory");
    conf_errors_free(&errs);
    char path[] = "/tmp/pgweir-conf-XXXXXX";
    FILE *f = fdopen(mkstemp(path), "w");
    for (size_t i = 0; i < 20000; i++)
        fputs("; more than one read takes\n", f);
    fputs("[databases]\na=\n[pgweir]\nauth_type=trust\nserver_tls_ca_file=/\n", f);
    fclose(f);
    src.path = path;
    assert_null(conf_load(&src, &errs));
    char message[200];
    snprintf(message, sizeof message, "%s:20005: server_tls_ca_file: cannot read /: Is a directory",
             path);
    expect_message(CONF_ERROR, message);
    remove(path);
}

RUN(cmocka_unit_test(each_broken_line_is_named), cmocka_unit_test(a_refused_text_is_no_null),
    cmocka_unit_test(all_errors_come_at_once_and_in_order),
    cmocka_unit_test(a_pgbouncer_ini_starts), cmocka_unit_test(hosts_and_ports_are_lists),
    cmocka_unit_test(weights_and_zones_are_lists_beside_the_hosts),
    cmocka_unit_test(the_balance_has_options), cmocka_unit_test(keys_and_values_may_be_quoted),
    cmocka_unit_test(the_narrowest_value_holds),
    cmocka_unit_test(a_queue_timeout_is_of_reads_of_writes_or_of_both),
    cmocka_unit_test(what_a_client_may_do_is_the_users_the_databases_or_everybodys),
    cmocka_unit_test(the_last_of_equal_names_holds),
    cmocka_unit_test(includes_are_followed_and_bounded), cmocka_unit_test(lines_are_bounded),
    cmocka_unit_test(zero_bytes_and_terminal_codes_are_harmless),
    cmocka_unit_test(auth_file_is_pgbouncers), cmocka_unit_test(auth_file_lengths_are_bounded),
    cmocka_unit_test(lists_are_searched_by_element), cmocka_unit_test(real_files_are_read))
