/* tests/unit/test_pool_catalog_slot.c: what a reader gets, by what was published and what has changed. */
#include "proxy/pool/catalog_slot.h"

#include "router/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct cluster *cluster;

static int make_cluster(void **state)
{
    static const struct conf_host hosts[] = {{.host = "127.0.0.1", .port = 1},
                                             {.host = "127.0.0.1", .port = 2}};
    (void)state;
    cluster = cluster_new(hosts, 2);
    return cluster ? 0 : -1;
}

static int drop_cluster(void **state)
{
    (void)state;
    cluster_unref(cluster);
    return 0;
}

static enum route_reason reason_now(struct catalog_use *use)
{
    return catalog_reason(catalog_use_now(use), ROUTE_WHY_UNKNOWN_RELATION);
}

static void publish(struct catalog_slot *slot, uint64_t covers)
{
    catalog_slot_publish(slot, catalog_new(catalog_next_id()), covers,
                         (struct catalog_position){1, 100 + covers});
}

static void one_slot_per_cluster_and_database(void **state)
{
    (void)state;
    struct catalog_slot *a = catalog_slot_get(cluster, slice_of("a"));
    struct catalog_slot *b = catalog_slot_get(cluster, slice_of("b"));
    struct catalog_slot *again = catalog_slot_get(cluster, slice_of("a"));
    assert_ptr_equal(a, again);
    assert_ptr_not_equal(a, b);
    assert_int_equal(catalog_slot_refs(a), 2);
    catalog_slot_unref(a);
    catalog_slot_unref(again);
    catalog_slot_unref(b);
    catalog_slot_unref(NULL);
}

static void a_change_makes_it_stale_until_a_load_that_began_later(void **state)
{
    (void)state;
    struct catalog_use use;
    struct catalog_slot *slot = catalog_slot_get(cluster, slice_of("a"));
    catalog_use_begin(&use, catalog_slot_ref(slot));
    assert_int_equal(reason_now(&use), ROUTE_WHY_CATALOG_NOT_LOADED);
    publish(slot, catalog_slot_changes(slot));
    assert_int_equal(reason_now(&use), ROUTE_WHY_UNKNOWN_RELATION);
    const struct catalog *first = catalog_use_now(&use);
    catalog_slot_changed(slot, false);
    assert_int_equal(reason_now(&use), ROUTE_WHY_CATALOG_STALE);
    assert_int_equal(catalog_rule(catalog_use_now(&use), CATALOG_MISSING).class, SQL_UNKNOWN);
    assert_int_equal(catalog_rule(first, CATALOG_MISSING).class, SQL_READ);
    assert_int_not_equal(catalog_id(catalog_use_now(&use)), catalog_id(first));
    const uint64_t begun = catalog_slot_changes(slot);
    catalog_slot_changed(slot, false); /* while it loads */
    publish(slot, begun);
    assert_int_equal(reason_now(&use), ROUTE_WHY_CATALOG_STALE);
    assert_int_equal(catalog_rule(catalog_use_now(&use), CATALOG_HIDES_WRITES).class, SQL_READ);
    catalog_slot_changed(slot, true);
    catalog_slot_changed(slot, false);
    assert_int_equal(reason_now(&use), ROUTE_WHY_CATALOG_STALE);
    assert_int_not_equal(catalog_rule(catalog_use_now(&use), CATALOG_HIDES_WRITES).class, SQL_READ);
    publish(slot, catalog_slot_changes(slot) - 1); /* which covers the DDL */
    assert_int_equal(catalog_rule(catalog_use_now(&use), CATALOG_HIDES_WRITES).class, SQL_READ);
    publish(slot, catalog_slot_changes(slot));
    assert_int_equal(reason_now(&use), ROUTE_WHY_UNKNOWN_RELATION);
    catalog_slot_publish(slot, NULL, 0, (struct catalog_position){0});
    assert_int_equal(reason_now(&use), ROUTE_WHY_CATALOG_NOT_LOADED);
    catalog_use_end(&use);
    catalog_slot_unref(slot);
}

static void a_moment_never_comes_back(void **state)
{
    (void)state;
    struct catalog_use use, none = {0};
    struct catalog_slot *slot = catalog_slot_get(cluster, slice_of("a"));
    catalog_use_begin(&use, slot);
    catalog_slot_changed(slot, false);
    const struct catalog *stale = catalog_use_now(&use);
    uint64_t moment = catalog_use_moment(&use);
    assert_int_equal(catalog_use_moment(&use), moment);
    publish(slot, catalog_slot_changes(slot));
    assert_int_not_equal(catalog_use_moment(&use), moment);
    assert_ptr_not_equal(catalog_use_now(&use), stale);
    catalog_slot_changed(slot, false); /* as in the beginning, and yet not the same */
    assert_int_not_equal(catalog_use_moment(&use), moment);
    assert_int_equal(catalog_use_moment(&none), 0);
    catalog_use_end(&use);
}

static void a_reader_keeps_what_it_has_until_it_asks_again(void **state)
{
    (void)state;
    struct catalog_use one, two;
    struct catalog_slot *slot = catalog_slot_get(cluster, slice_of("a"));
    catalog_use_begin(&one, catalog_slot_ref(slot));
    catalog_use_begin(&two, slot);
    publish(slot, 0);
    const struct catalog *old = catalog_use_now(&one);
    const uint64_t id = catalog_id(old);
    publish(slot, 0);
    assert_int_not_equal(catalog_id(catalog_use_now(&two)), id);
    assert_int_equal(catalog_id(old), id); /* ASan would tell if it were gone */
    assert_int_not_equal(catalog_id(catalog_use_now(&one)), id);
    catalog_use_end(&one);
    catalog_use_end(&two);
}

static void a_position_is_told_once_for_each_edition(void **state)
{
    (void)state;
    struct catalog_use use;
    struct catalog_position at = {0};
    uint64_t seen = 0;
    struct catalog_slot *slot = catalog_slot_get(cluster, slice_of("a"));
    catalog_use_begin(&use, slot);
    catalog_use_now(&use);
    assert_false(catalog_use_position(&use, &seen, &at));
    publish(slot, 0);
    catalog_slot_changed(slot, false);
    catalog_use_now(&use);
    assert_false(catalog_use_position(&use, &seen, &at)); /* it is stale */
    publish(slot, 1);
    catalog_use_now(&use);
    assert_true(catalog_use_position(&use, &seen, &at));
    assert_true(at.timeline == 1 && at.lsn == 101);
    assert_false(catalog_use_position(&use, &seen, &at));
    catalog_use_end(&use);
}

static void a_wish_is_told_once_until_it_is_heard(void **state)
{
    (void)state;
    struct catalog_slot *slot = catalog_slot_get(cluster, slice_of("a"));
    assert_false(catalog_slot_asked(slot));
    assert_true(catalog_slot_ask(slot, false));
    assert_false(catalog_slot_ask(slot, false));
    assert_true(catalog_slot_ask(slot, true)); /* DDL does not wait for an unknown name's turn */
    assert_false(catalog_slot_ask(slot, true));
    assert_true(catalog_slot_asked(slot));
    catalog_slot_heard(slot);
    assert_false(catalog_slot_asked(slot));
    assert_true(catalog_slot_ask(slot, true));
    catalog_slot_unref(slot);
}

static void without_a_slot_there_is_no_catalog(void **state)
{
    (void)state;
    struct catalog_use use = {0};
    assert_null(catalog_use_now(&use));
    assert_int_equal(catalog_reason(NULL, ROUTE_WHY_UNKNOWN_FUNCTION), ROUTE_WHY_UNKNOWN_FUNCTION);
    catalog_use_end(&use);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_slot_per_cluster_and_database),
        cmocka_unit_test(a_change_makes_it_stale_until_a_load_that_began_later),
        cmocka_unit_test(a_moment_never_comes_back),
        cmocka_unit_test(a_reader_keeps_what_it_has_until_it_asks_again),
        cmocka_unit_test(a_position_is_told_once_for_each_edition),
        cmocka_unit_test(a_wish_is_told_once_until_it_is_heard),
        cmocka_unit_test(without_a_slot_there_is_no_catalog),
    };
    return cmocka_run_group_tests(tests, make_cluster, drop_cluster);
}
