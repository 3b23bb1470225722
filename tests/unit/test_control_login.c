/* proxy/control/login: whom the probes log in as, by precedence. */
#include "proxy/control/login.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MD5_SECRET "md50123456789abcdef0123456789abcdef"

static const struct conf_secret secrets[] = {
    {"a_scram", "SCRAM-SHA-256$4096:x$y:z"},
    {"b_md5", MD5_SECRET},
    {"c_empty", ""},
    {"d_plain", "four"},
    {"e_plain", "five"},
};

struct row {
    const char *probe_user, *probe_password, *db_user, *db_password, *auth_user;
    bool file;                   /* with the auth_file above */
    const char *user, *password; /* NULL: no login */
};

static const struct row rows[] = {
    {"p", "one", "u", "two", "x", true, "p", "one"},
    {"e_plain", "", "u", "two", "x", true, "e_plain", "five"},
    {"b_md5", "", "u", "two", "x", true, "b_md5", ""}, /* a hash is no password */
    {"", "", "u", "two", "x", true, "u", "two"},
    {"", "", "e_plain", "", "x", true, "e_plain", "five"},
    {"", "", "stranger", "", "x", true, "stranger", ""}, /* trust or a certificate */
    {"", "", "", "", "e_plain", true, "e_plain", "five"},
    {"", "", "", "", "a_scram", true, "a_scram", ""},
    {"", "", "", "", "", true, "d_plain", "four"},
    {"", "", "", "", "", false, NULL, NULL},
};

static struct conf conf_of(const struct row *r)
{
    return (struct conf){.probe_user = r->probe_user,
                         .probe_password = r->probe_password,
                         .probe_dbname = "",
                         .auth_user = r->auth_user,
                         .server_tls_ca_file = "ca",
                         .server_tls_cert_file = "",
                         .server_tls_key_file = "",
                         .server_tls_sslmode = CONF_SERVER_TLS_VERIFY_FULL,
                         .secrets = secrets,
                         .secret_n = r->file ? sizeof secrets / sizeof *secrets : 0};
}

static void every_row_of_the_precedence_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct conf conf = conf_of(&rows[i]);
        struct conf_database db = {
            .user = rows[i].db_user, .password = rows[i].db_password, .dbname = "app"};
        struct login login;
        assert_int_equal(login_of(&conf, &db, &login), rows[i].user != NULL);
        if (!rows[i].user)
            continue;
        assert_string_equal(login.part[LOGIN_USER], rows[i].user);
        assert_string_equal(login.part[LOGIN_PASSWORD], rows[i].password);
    }
}

static void the_database_is_the_probes_own_then_the_entrys_then_postgres(void **state)
{
    (void)state;
    struct conf conf = conf_of(&rows[0]);
    struct conf_database db = {.user = "", .password = "", .dbname = "app"};
    struct login login, other;
    login_of(&conf, &db, &login);
    assert_string_equal(login.part[LOGIN_DBNAME], "app");
    assert_string_equal(login.part[LOGIN_SSLMODE], "verify-full");
    assert_string_equal(login.part[LOGIN_SSLROOTCERT], "ca");
    assert_true(login_equal(&login, &login));
    conf.probe_dbname = "probes";
    login_of(&conf, &db, &other);
    assert_string_equal(other.part[LOGIN_DBNAME], "probes");
    assert_false(login_equal(&login, &other));
    conf.probe_dbname = db.dbname = "";
    login_of(&conf, &db, &login);
    assert_string_equal(login.part[LOGIN_DBNAME], "postgres");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_precedence_holds),
        cmocka_unit_test(the_database_is_the_probes_own_then_the_entrys_then_postgres),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
