/* tests/unit/test_conf_env.c: PGWEIR_*, secrets from files, DATABASE_URL and REPLICA_URLS. */
#include "test_conf.h"

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define FILE_TEXT "[databases]\napp = host=a\nweb-1 = host=w\n[pgweir]\nauth_type=trust\n"

static void variables_beat_the_file(void **state)
{
    (void)state;
    struct conf *c = load_with(
        FILE_TEXT "listen_port=1\nmax_lag=9\n",
        ENV("PGWEIR_LISTEN_PORT=2", "PGWEIR_QUERY_WAIT_TIMEOUT=3", "PGWEIR_PGWEIR_WORKERS=4",
            "HOME=/", "PGWEIRD=1", "PGWEIR_DATABASES_NEW=host=n,m", "PGWEIR_DATABASES_MixEd=host=x",
            "PGWEIR_DATABASES_WEB-1=host=v", "PGWEIR_USERS_BOB=pool_size=5",
            "PGWEIR_DATABASES_APP_PASSWORD=hush", "PGWEIR_DATABASES_PASSWORD=host=p",
            "PGWEIR_DATABASES_FILE=host=f"));
    expect_clean(c);
    assert_int_equal(c->listen_port, 2);
    assert_int_equal(c->queue_timeout_ms, 3000);
    assert_int_equal(c->workers, 4);
    assert_int_equal(c->max_lag_ms, 9000);
    assert_int_equal(c->database_n, 6);
    assert_int_equal(conf_database(c, slice_of("new"))->host_n, 2);
    assert_non_null(conf_database(c, slice_of("MixEd")));
    assert_string_equal(conf_database(c, slice_of("web-1"))->hosts[0].host, "v");
    assert_string_equal(conf_database(c, slice_of("app"))->password, "hush");
    assert_int_equal(conf_user(c, slice_of("bob"))->own.pool_size, 5);
    conf_free(c);
}

static void wrong_variables_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *variable, *message;
    } cases[] = {
        {"PGWEIR_LISTEN_PROT=1", "environment: PGWEIR_LISTEN_PROT: unknown variable (did you mean "
                                 "PGWEIR_LISTEN_PORT?)"},
        {"PGWEIR_XYZZY_PLUGH=1", "environment: PGWEIR_XYZZY_PLUGH: unknown variable"},
        {"PGWEIR_=1", "environment: PGWEIR_: unknown variable"},
        {"PGWEIR_DATABASES_=host=a", "environment: PGWEIR_DATABASES_: unknown variable"},
        {"PGWEIR_LISTEN_PORT=x", "environment: PGWEIR_LISTEN_PORT: not a number: \"x\""},
        {"PGWEIR_LISTEN_PORT_FILE=x",
         "environment: PGWEIR_LISTEN_PORT_FILE: only secrets are read from a file"},
        {"PGWEIR_PROBE_PASSWORD_FILE=gone", "environment: PGWEIR_PROBE_PASSWORD_FILE: cannot read "
                                            "gone: No such file or directory"},
        {"PGWEIR_PROBE_PASSWORD_FILE=empty",
         "environment: PGWEIR_PROBE_PASSWORD_FILE: empty is empty"},
        {"PGWEIR_PROBE_PASSWORD_FILE=zero",
         "environment: PGWEIR_PROBE_PASSWORD_FILE: zero contains a zero byte"},
        {"PGWEIR_DATABASES_APP=pool_size=x",
         "environment: PGWEIR_DATABASES_APP: pool_size: not a number: \"x\""},
        {"PGWEIR_DATABASES_NONE_PASSWORD=x",
         "environment: PGWEIR_DATABASES_NONE_PASSWORD: there is no database none"},
        {"PGWEIR_DATABASES_APP_PASSWORD=",
         "environment: PGWEIR_DATABASES_APP_PASSWORD: a password has 1 to 65535 bytes"},
        {"PGWEIR_DATABASES_PGWEIR=host=a",
         "environment: PGWEIR_DATABASES_PGWEIR: the name pgweir is reserved for the console"},
        {"PGWEIR_AUTH_FILE=gone",
         "environment: PGWEIR_AUTH_FILE: cannot read gone: No such file or directory"},
        {"REPLICA_URLS=postgres://r",
         "environment: REPLICA_URLS: needs DATABASE_URL, the primary, beside it"},
    };
    fake_files = (const struct fake_file[]){{"empty", "\n\n", 0}, {"zero", "a\0b", 3}, {0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(load_with(FILE_TEXT, ENV(cases[i].variable)));
        expect_message(CONF_ERROR, cases[i].message);
    }
    assert_null(load_with(FILE_TEXT "probe_user=p\n",
                          ENV("PGWEIR_PROBE_PASSWORD=a", "PGWEIR_PROBE_PASSWORD_FILE=zero")));
    expect_message(CONF_ERROR, "environment: PGWEIR_PROBE_PASSWORD_FILE: is set beside the "
                               "variable without _FILE");
    fake_files = NULL;
}

static void secrets_come_from_files(void **state)
{
    (void)state;
    fake_files = (const struct fake_file[]){{"p", "hush hush\r\n\n", 0},
                                            {"d", "host=z password='s t'\n", 0},
                                            {"url", "postgres://me:pw@h/db\n", 0},
                                            {0}};
    struct conf *c =
        load_with(FILE_TEXT "probe_user=p\n",
                  ENV("PGWEIR_DATABASES_APP_PASSWORD_FILE=p", "PGWEIR_PROBE_PASSWORD_FILE=p",
                      "PGWEIR_DATABASES_D_FILE=d", "DATABASE_URL_FILE=url", "DATABASE_URL="));
    expect_clean(c);
    assert_string_equal(conf_database(c, slice_of("app"))->password, "hush hush");
    assert_string_equal(c->probe_password, "hush hush");
    assert_string_equal(conf_database(c, slice_of("d"))->password, "s t");
    assert_string_equal(conf_database(c, slice_of("db"))->password, "pw");
    conf_free(c);
    assert_null(load_with(NULL, ENV("DATABASE_URL_FILE=url", "DATABASE_URL=postgres://a:b@c/d")));
    expect_message(CONF_ERROR, "environment: DATABASE_URL_FILE: is set beside DATABASE_URL");
    fake_files = NULL;
}

static void kubernetes_service_variables_are_not_ours(void **state)
{
    (void)state;
    struct conf *c = load_with(
        FILE_TEXT,
        ENV("PGWEIR_SERVICE_HOST=10.0.0.1", "PGWEIR_SERVICE_PORT=6432",
            "PGWEIR_SERVICE_PORT_POSTGRES=6432", "PGWEIR_PORT=tcp://10.0.0.1:6432",
            "PGWEIR_PORT_6432_TCP=tcp://10.0.0.1:6432", "PGWEIR_PORT_6432_TCP_PROTO=tcp",
            "PGWEIR_PORT_6432_TCP_PORT=6432", "PGWEIR_PORT_6432_TCP_ADDR=10.0.0.1",
            "PGWEIR_LISTEN_SERVICE_HOST=10.0.0.1", "PGWEIR_LISTEN_PORT=tcp://10.0.0.1:6432"));
    expect_clean(c);
    assert_int_equal(c->listen_port, 6432);
    conf_free(c);
}

static void expect_hosts(const struct conf_database *d, const char *expected)
{
    char got[300] = "";
    for (size_t h = 0; h < d->host_n; h++) {
        size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, "%s:%u ", d->hosts[h].host, d->hosts[h].port);
    }
    assert_string_equal(got, expected);
}

static void urls_alone_are_a_configuration(void **state)
{
    (void)state;
    struct conf *c = load_with(
        NULL, ENV("DATABASE_URL=postgresql://me:p%40s%2Cs%25@h1:1,[::1]:2,h3/app?sslmode=require",
                  "REPLICA_URLS=postgres://r1/app, postgres://me@r2:7,r3:8/ ,"
                  "postgres://me:p%40s%2Cs%25@[fe80::2]/app,"));
    expect_clean(c);
    assert_int_equal(c->database_n, 1);
    const struct conf_database *d = conf_database(c, slice_of("app"));
    expect_hosts(d, "h1:1 ::1:2 h3:5432 r1:5432 r2:7 r3:8 fe80::2:5432 ");
    assert_string_equal(d->user, "me");
    assert_string_equal(d->password, "p@s,s%");
    assert_string_equal(d->dbname, "app");
    assert_string_equal(conf_secret(c, slice_of("me")), "p@s,s%");
    assert_int_equal(c->server_tls_sslmode, CONF_SERVER_TLS_REQUIRE);
    assert_int_equal(c->auth_type, CONF_AUTH_SCRAM);
    assert_int_equal(c->flavour, CONF_PGWEIR);
    conf_free(c);
}

static void urls_may_weigh_and_place_their_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *database, *replicas, *hosts;
    } cases[] = {
        {"u:p@h/d", "postgres://r1?weight=3&zone=eu,postgres://r2", "h:1: r1:3:eu r2:1: "},
        {"u:p@h/d?zone=us", "postgres://r1,r2?weight=1,2&zone=eu", "h:1:us r1:1:eu r2:2:eu "},
        {"u:p@h,i/d?weight=0", "postgres://r1", "h:0: i:0: r1:1: "},
        {"u:p@h,i/d?weight=4,5&zone=a,b", "", "h:4:a i:5:b "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char database[300], replicas[300], got[300] = "";
        snprintf(database, sizeof database, "DATABASE_URL=postgres://%s", cases[i].database);
        snprintf(replicas, sizeof replicas, "REPLICA_URLS=%s", cases[i].replicas);
        struct conf *c = load_with(NULL, ENV(database, replicas));
        expect_clean(c);
        for (size_t h = 0; h < c->databases[0].host_n; h++) {
            const struct conf_host *host = &c->databases[0].hosts[h];
            size_t n = strlen(got);
            snprintf(got + n, sizeof got - n, "%s:%u:%s ", host->host, host->weight, host->zone);
        }
        assert_string_equal(got, cases[i].hosts);
        conf_free(c);
    }
    assert_null(load_with(NULL, ENV("DATABASE_URL=postgres://u:p@h/d?weight=900")));
}

static void urls_may_take_many_forms(void **state)
{
    (void)state;
    static const struct {
        const char *url, *name, *user, *password, *hosts;
    } cases[] = {
        {"postgres://u:p@h", "u", "u", "p", "h:5432 "},
        {"POSTGRES://u:p@h:9/", "u", "u", "p", "h:9 "},
        {"postgres://u:a:b@c@h/d", "d", "u", "a:b@c", "h:5432 "},
        {"postgres://u:p@%2Frun%2Fpg/d", "d", "u", "p", "/run/pg:5432 "},
        {"postgres://u:p@/d?host=/run/pg", "d", "u", "p", "/run/pg:5432 "},
        {"postgres:///?host=a,b&port=1,2&user=u&password=p&dbname=x", "x", "u", "p", "a:1 b:2 "},
        {"postgres://u:p@h/%C3%A4", "\xC3\xA4", "u", "p", "h:5432 "},
        {"postgres://u:p@h/d?connect_timeout=3", "d", "u", "p", "h:5432 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char variable[300];
        snprintf(variable, sizeof variable, "DATABASE_URL=%s", cases[i].url);
        struct conf *c = load_with(NULL, ENV(variable));
        expect_clean(c);
        assert_string_equal(c->databases[0].name, cases[i].name);
        assert_string_equal(c->databases[0].user, cases[i].user);
        assert_string_equal(c->databases[0].password, cases[i].password);
        expect_hosts(&c->databases[0], cases[i].hosts);
        conf_free(c);
    }
}

static void wrong_urls_are_named_without_their_password(void **state)
{
    (void)state;
    static const struct {
        const char *primary, *replicas, *message;
    } cases[] = {
        {"mysql://u:hush@h/d", NULL,
         "DATABASE_URL: expected postgres://user:password@host:port/dbname"},
        {"postgres://u:hush%2@h/d", NULL,
         "DATABASE_URL: a % in the URL is not followed by two hex digits (or gives a zero byte); "
         "write % itself as %25"},
        {"postgres://u:hush%00@h/d", NULL,
         "DATABASE_URL: a % in the URL is not followed by two hex digits (or gives a zero byte); "
         "write % itself as %25"},
        {"postgres://u:hush@/d", NULL, "DATABASE_URL: a host name is missing"},
        {"postgres://u:hush@a,,b/d", NULL, "DATABASE_URL: a host name is missing"},
        {"postgres://u:hush@[::1/d", NULL, "DATABASE_URL: a [ in the host has no ]"},
        {"postgres://u:hush@[::1]5/d", NULL, "DATABASE_URL: expected :port behind the ]"},
        {"postgres://u:hush@h:x/d", NULL, "DATABASE_URL: port: not a number: \"x\""},
        {"postgres://h", NULL, "DATABASE_URL: names no database"},
        {"postgres://u:hush@h/pgweir", NULL,
         "DATABASE_URL: the name pgweir is reserved for the console"},
        {"postgres://u:hush@h/d?sslmode=on", NULL,
         "DATABASE_URL: unknown value \"on\" (use disable, prefer, require, verify-ca or "
         "verify-full)"},
        {"postgres://u:hush@h/d", "postgres://r/e",
         "REPLICA_URLS: names another database than DATABASE_URL"},
        {"postgres://u:hush@h/d", "postgres://u:other@r/d",
         "REPLICA_URLS: has another user or password than DATABASE_URL; one login serves all "
         "nodes"},
        {"postgres://u:hush@h/d", "r1,r2",
         "REPLICA_URLS: expected postgres://user:password@host:port/dbname"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char primary[200], replicas[200] = "X=", message[300];
        snprintf(primary, sizeof primary, "DATABASE_URL=%s", cases[i].primary);
        if (cases[i].replicas)
            snprintf(replicas, sizeof replicas, "REPLICA_URLS=%s", cases[i].replicas);
        snprintf(message, sizeof message, "environment: %s", cases[i].message);
        assert_null(load_with(NULL, ENV(primary, replicas)));
        expect_message(CONF_ERROR, message);
        for (size_t k = 0; k < errs.n; k++)
            assert_null(strstr(errs.list[k].text, "hush"));
    }
}

static void a_url_beats_the_file_and_a_variable_beats_a_url(void **state)
{
    (void)state;
    fake_files = (const struct fake_file[]){{"u", "\"me\" \"old\"\n\"you\" \"y\"\n", 0}, {0}};
    struct conf *c = load_with("[databases]\napp = host=a\n[pgweir]\nauth_file=u\n"
                               "server_tls_sslmode=disable\n",
                               ENV("DATABASE_URL=postgres://me:new@h/app?sslmode=require&x=1",
                                   "PGWEIR_SERVER_TLS_SSLMODE=prefer"));
    assert_non_null(c);
    assert_int_equal(errs.n, 2);
    expect_message(CONF_WARNING, "environment: DATABASE_URL: parameter x is ignored");
    expect_message(CONF_WARNING,
                   "environment: DATABASE_URL: replaces the [databases] entry app of the file");
    expect_hosts(&c->databases[0], "h:5432 ");
    assert_string_equal(conf_secret(c, slice_of("me")), "new");
    assert_string_equal(conf_secret(c, slice_of("you")), "y");
    assert_int_equal(c->server_tls_sslmode, CONF_SERVER_TLS_PREFER);
    conf_free(c);
    fake_files = NULL;
}

RUN(cmocka_unit_test(variables_beat_the_file), cmocka_unit_test(wrong_variables_are_named),
    cmocka_unit_test(secrets_come_from_files),
    cmocka_unit_test(kubernetes_service_variables_are_not_ours),
    cmocka_unit_test(urls_may_weigh_and_place_their_hosts),
    cmocka_unit_test(urls_alone_are_a_configuration), cmocka_unit_test(urls_may_take_many_forms),
    cmocka_unit_test(wrong_urls_are_named_without_their_password),
    cmocka_unit_test(a_url_beats_the_file_and_a_variable_beats_a_url))
