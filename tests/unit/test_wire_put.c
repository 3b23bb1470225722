/* proxy/wire/put: every message, in every size of buffer. */
#include "proxy/wire/put.h"

#include "proxy/wire/startup.h"
#include "tests/unit/test_wire_help.h"

static const uint8_t key32[32] = "0123456789abcdef0123456789abcde";

static void write_md5(struct put *o)
{
    put_auth_md5(o, (const uint8_t[4]){1, 2, 3, 4});
}

static void write_continue(struct put *o)
{
    put_auth_sasl_continue(o, slice_of("r=x"));
}

static void write_final(struct put *o)
{
    put_auth_sasl_final(o, slice_of("v=y"));
}

static void write_status(struct put *o)
{
    put_param_status(o, slice_of("TimeZone"), slice_of("UTC"));
}

static void write_smuggled(struct put *o)
{
    put_param_status(o, slice_of("a"), BYTES("b\0c"));
}

static void write_key4(struct put *o)
{
    put_backend_key(o, 0x01020304, (struct slice){key32, 4});
}

static void write_key32(struct put *o)
{
    put_backend_key(o, 1, (struct slice){key32, 32});
}

static void write_ready(struct put *o)
{
    put_ready(o, 'T');
}

static void write_negotiate(struct put *o)
{
    put_negotiate_version(o, 2, BYTES("user\0bob\0_pq_.a\0x\0_pq_.bc\0\0_pq\0z\0"));
}

static void write_negotiate_none(struct put *o)
{
    put_negotiate_version(o, 0, BYTES("user\0bob\0"));
}

static void write_error(struct put *o)
{
    put_error(o, &(struct wire_error){"FATAL", "28P01", "no", "d", "h"});
}

static void write_notice(struct put *o)
{
    put_notice(o, &(struct wire_error){.severity = "NOTICE", .sqlstate = "00000", .message = "m"});
}

static void write_complete(struct put *o)
{
    put_command_complete(o, "SHOW");
}

static void write_columns(struct put *o)
{
    static const struct put_column columns[] = {{"a", 25}, {"bc", 23}, {"d", 20}, {"e", 1700}};
    put_row_description(o, columns, COUNT(columns));
}

static void write_row(struct put *o)
{
    const struct slice values[] = {slice_of("x"), SLICE_NONE, slice_of("")};
    put_data_row(o, values, COUNT(values));
}

static void write_no_columns(struct put *o)
{
    put_row_description(o, NULL, 0);
}

static void write_startup(struct put *o)
{
    const struct put_param params[] = {{slice_of("user"), slice_of("bob")},
                                       {slice_of("database"), slice_of("")}};
    put_startup(o, 2, params, COUNT(params));
}

static void write_cancel(struct put *o)
{
    put_cancel_request(o, 7, (struct slice){key32, 5});
}

static void write_password(struct put *o)
{
    put_password(o, slice_of("pw"));
}

static void write_sasl_initial(struct put *o)
{
    put_sasl_initial(o, slice_of("SCRAM-SHA-256"), slice_of("n,,"));
}

static void write_sasl_response(struct put *o)
{
    put_sasl_response(o, slice_of("c="));
}

static void write_query(struct put *o)
{
    put_query(o, slice_of("SELECT 1"));
}

static void write_parse(struct put *o)
{
    put_parse(o, slice_of("s1"), slice_of("SELECT $1"), BYTES("\0\0\0\x17"));
}

static void write_close(struct put *o)
{
    put_close_statement(o, slice_of("s1"));
}

static const struct {
    void (*write)(struct put *);
    struct slice want;
} messages[] = {
    {put_auth_ok, BYTES("R\0\0\0\x08\0\0\0\0")},
    {put_auth_cleartext, BYTES("R\0\0\0\x08\0\0\0\x03")},
    {write_md5, BYTES("R\0\0\0\x0c\0\0\0\x05\1\2\3\4")},
    {put_auth_sasl, BYTES("R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0")},
    {write_continue, BYTES("R\0\0\0\x0b\0\0\0\x0br=x")},
    {write_final, BYTES("R\0\0\0\x0b\0\0\0\x0cv=y")},
    {write_status, BYTES("S\0\0\0\x11TimeZone\0UTC\0")},
    {write_smuggled, BYTES("S\0\0\0\x08"
                           "a\0b\0")},
    {write_key4, BYTES("K\0\0\0\x0c\1\2\3\4"
                       "0123")},
    {write_key32, BYTES("K\0\0\0\x28\0\0\0\1"
                        "0123456789abcdef0123456789abcde\0")},
    {write_ready, BYTES("Z\0\0\0\5T")},
    {write_negotiate, BYTES("v\0\0\0\x1b\0\3\0\2\0\0\0\2_pq_.a\0_pq_.bc\0")},
    {write_negotiate_none, BYTES("v\0\0\0\x0c\0\3\0\0\0\0\0\0")},
    {write_error, BYTES("E\0\0\0\x24SFATAL\0VFATAL\0C28P01\0Mno\0Dd\0Hh\0\0")},
    {write_notice, BYTES("N\0\0\0\x1fSNOTICE\0VNOTICE\0C00000\0Mm\0\0")},
    {write_complete, BYTES("C\0\0\0\x09SHOW\0")},
    {put_empty_query, BYTES("I\0\0\0\4")},
    {put_parse_complete, BYTES("1\0\0\0\4")},
    {put_bind_complete, BYTES("2\0\0\0\4")},
    {put_close_complete, BYTES("3\0\0\0\4")},
    {put_no_data, BYTES("n\0\0\0\4")},
    {write_columns, BYTES("T\0\0\0\x57\0\4"
                          "a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
                          "bc\0\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\0"
                          "d\0\0\0\0\0\0\0\0\0\0\x14\0\x8\xff\xff\xff\xff\0\0"
                          "e\0\0\0\0\0\0\0\0\0\6\xa4\xff\xff\xff\xff\xff\xff\0\0")},
    {write_no_columns, BYTES("T\0\0\0\6\0\0")},
    {write_row, BYTES("D\0\0\0\x13\0\3\0\0\0\1x\xff\xff\xff\xff\0\0\0\0")},
    {write_startup, BYTES("\0\0\0\x1c\0\3\0\2user\0bob\0database\0\0\0")},
    {put_ssl_request, BYTES("\0\0\0\x08\x04\xd2\x16\x2f")},
    {write_cancel, BYTES("\0\0\0\x11\x04\xd2\x16\x2e\0\0\0\x07"
                         "01234")},
    {write_password, BYTES("p\0\0\0\7pw\0")},
    {write_sasl_initial, BYTES("p\0\0\0\x19SCRAM-SHA-256\0\0\0\0\3n,,")},
    {write_sasl_response, BYTES("p\0\0\0\6c=")},
    {write_query, BYTES("Q\0\0\0\x0dSELECT 1\0")},
    {write_parse, BYTES("P\0\0\0\x17s1\0SELECT $1\0\0\1\0\0\0\x17")},
    {write_close, BYTES("C\0\0\0\x08Ss1\0")},
    {put_sync, BYTES("S\0\0\0\4")},
    {put_flush, BYTES("H\0\0\0\4")},
    {put_terminate, BYTES("X\0\0\0\4")},
};

static void every_message_is_as_the_protocol_has_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(messages); i++) {
        uint8_t bytes[256];
        struct put o = put_into(bytes, sizeof bytes);
        messages[i].write(&o);
        assert_false(o.full);
        assert_slice(put_slice(&o), messages[i].want);
    }
}

/* Behind 3 bytes that were there before, in a buffer that is too small by 1 .. all of it. */
static void a_message_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(messages); i++) {
        for (size_t room = 0; room <= messages[i].want.n; room++) {
            uint8_t *bytes = malloc(3 + room);
            assert_non_null(bytes);
            struct put o = put_into(bytes, 3 + room);
            put_bytes(&o, slice_of("old"));
            messages[i].write(&o);
            bool fits = room == messages[i].want.n;
            assert_int_equal(o.full, !fits);
            assert_int_equal(o.n, fits ? 3 + room : 3);
            assert_memory_equal(bytes, "old", 3);
            free(bytes);
        }
    }
}

static void nothing_follows_a_message_that_was_dropped(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(messages); i++) {
        uint8_t bytes[256];
        struct put o = {.p = bytes, .n = 4, .cap = sizeof bytes, .full = true};
        messages[i].write(&o);
        assert_int_equal(o.n, 4);
        assert_true(o.full);
    }
}

static void the_raw_writers_write_all_or_nothing(void **state)
{
    (void)state;
    uint8_t bytes[4];
    struct put o = put_into(bytes, 3);
    put_u32(&o, 1);
    assert_true(o.full && o.n == 0);
    o = put_into(bytes, 3);
    put_u16(&o, 0x0102);
    put_u8(&o, 3);
    assert_memory_equal(bytes, "\1\2\3", 3);
    put_bytes(&o, SLICE_NONE);
    assert_false(o.full);
    put_u8(&o, 4);
    assert_true(o.full && o.n == 3);
    o = put_into(bytes, 3);
    put_cstr(&o, slice_of("abc"));
    assert_true(o.full && o.n == 0);
    o = put_into(bytes, 4);
    put_cstr(&o, slice_of("abc"));
    assert_true(!o.full && o.n == 4);
    o = put_into(bytes, 4);
    put_cstr(&o, SLICE_NONE);
    assert_true(!o.full && o.n == 1 && bytes[0] == 0);
    o = put_into(NULL, 0);
    put_ready(&o, 'I');
    assert_true(o.full && o.n == 0);
}

/* Lengths that would wrap if they were added: the bytes themselves are never looked at. */
static void a_size_that_would_wrap_is_full(void **state)
{
    (void)state;
    uint8_t bytes[8] = {0};
    struct put o = put_into(bytes, sizeof bytes);
    put_bytes(&o, (struct slice){bytes, SIZE_MAX});
    assert_true(o.full && o.n == 0);
    o = put_into(bytes, sizeof bytes);
    put_u32(&o, 1);
    put_bytes(&o, (struct slice){bytes, SIZE_MAX - 3});
    assert_true(o.full && o.n == 4);
}

static void type_lengths_of_columns(void **state)
{
    (void)state;
    static const struct {
        uint32_t oid;
        uint8_t high, low;
    } types[] = {{16, 0, 1}, {21, 0, 2},  {23, 0, 4},     {26, 0, 4},      {700, 0, 4},
                 {20, 0, 8}, {701, 0, 8}, {25, 255, 255}, {1043, 255, 255}};
    for (size_t i = 0; i < COUNT(types); i++) {
        uint8_t bytes[64];
        struct put o = put_into(bytes, sizeof bytes);
        put_row_description(&o, &(struct put_column){"a", types[i].oid}, 1);
        assert_int_equal(bytes[19], types[i].high);
        assert_int_equal(bytes[20], types[i].low);
    }
}

static void what_startup_writes_startup_reads(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    struct startup s;
    write_startup(&o);
    assert_int_equal(startup_read(put_slice(&o), &s), STARTUP_OK);
    assert_text(s.user, "bob");
    assert_text(s.database, "bob");
    assert_int_equal(s.minor, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_as_the_protocol_has_it),
        cmocka_unit_test(a_message_is_written_whole_or_not_at_all),
        cmocka_unit_test(nothing_follows_a_message_that_was_dropped),
        cmocka_unit_test(the_raw_writers_write_all_or_nothing),
        cmocka_unit_test(a_size_that_would_wrap_is_full),
        cmocka_unit_test(type_lengths_of_columns),
        cmocka_unit_test(what_startup_writes_startup_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
