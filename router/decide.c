/* router/decide.c: the order of decision of spec/routing.md part B. */
#include "router/decide.h"

#include "base/check.h"

static const char *const target_texts[] = {
    [ROUTE_PRIMARY] = "primary",
    [ROUTE_REPLICA] = "replica",
};

const char *route_target_text(enum route_target target)
{
    CHECK(target <= ROUTE_REPLICA);
    return target_texts[target];
}

static struct route route_to(enum route_target target, enum route_reason why)
{
    return (struct route){.target = target, .nodes = 0, .reason = (uint8_t)why};
}

/* A READ ONLY transaction that opens here may stay on a replica, if all that comes with its BEGIN
 * may run there too. */
static bool opens_read_only(uint32_t flags)
{
    return (flags & SQL_F_BEGIN_READ_ONLY) && !(flags & SQL_F_NOT_READ);
}

/* A replica answers it as well as the primary, if its own view of itself and of the catalog is wanted. */
static bool answers_for_itself(const struct route_input *in)
{
    const uint32_t harmless = SQL_F_EMPTY | SQL_F_MULTI | SQL_F_NOT_READ | SQL_F_HIDING;
    return in->class <= SQL_NODE_IDENTITY && !(in->flags & ~harmless);
}

/* replica!: whoever asks for it knows what the functions, types and operators that it names do. Not what takes
 * state of the session or of a transaction, and not what no standby can run. */
static bool may_be_forced(const struct route_input *in)
{
    static const bool classes[SQL_CLASS_N] = {
        [SQL_PRIMARY_RELATION] = true, [SQL_EXPLAIN] = true, [SQL_WRITER_FUNCTION] = true,
        [SQL_RUNS_SQL] = true,         [SQL_UNKNOWN] = true,
    };
    const uint32_t harmless = SQL_F_EMPTY | SQL_F_MULTI | SQL_F_NOT_READ | SQL_F_HIDING;
    bool unread =
        in->class_reason == ROUTE_WHY_UNKNOWN || in->class_reason == ROUTE_WHY_BAD_TOKEN ||
        in->class_reason == ROUTE_WHY_ENCODING || in->class_reason == ROUTE_WHY_TOO_DEEP ||
        in->class_reason == ROUTE_WHY_UNKNOWN_NAME;
    return classes[in->class] && !unread && !(in->flags & ~harmless);
}

enum route_policy route_policy_of(enum hint_route hint, enum route_policy policy)
{
    static const enum route_policy policies[HINT_ROUTE_N] = {
        [HINT_PRIMARY] = ROUTE_POLICY_PRIMARY, [HINT_UNREADABLE] = ROUTE_POLICY_PRIMARY,
        [HINT_REPLICA] = ROUTE_POLICY_REPLICA, [HINT_REPLICA_FORCED] = ROUTE_POLICY_REPLICA,
        [HINT_ANY] = ROUTE_POLICY_ANY,
    };
    return hint == HINT_NONE ? policy : policies[hint];
}

/* Why the policy, or the hint, made the difference. */
static enum route_reason asked_reason(const struct route_input *in)
{
    static const enum route_reason by_policy[ROUTE_POLICY_N] = {
        [ROUTE_POLICY_PRIMARY] = ROUTE_WHY_POLICY_PRIMARY,
        [ROUTE_POLICY_REPLICA] = ROUTE_WHY_POLICY_REPLICA,
        [ROUTE_POLICY_ANY] = ROUTE_WHY_POLICY_ANY,
    };
    static const enum route_reason by_hint[HINT_ROUTE_N] = {
        [HINT_PRIMARY] = ROUTE_WHY_HINT_PRIMARY, [HINT_UNREADABLE] = ROUTE_WHY_HINT_UNREADABLE,
        [HINT_REPLICA] = ROUTE_WHY_HINT_REPLICA, [HINT_REPLICA_FORCED] = ROUTE_WHY_HINT_REPLICA,
        [HINT_ANY] = ROUTE_WHY_HINT_ANY,
    };
    return in->hint == HINT_NONE ? by_policy[in->policy] : by_hint[in->hint];
}

static struct route route_replica(const struct route_input *in, enum route_reason why)
{
    if (in->replica_all_mask == 0)
        return route_to(ROUTE_PRIMARY, ROUTE_WHY_NO_REPLICA);
    if (in->replica_mask == 0)
        return route_to(ROUTE_PRIMARY, ROUTE_WHY_NO_FRESH_REPLICA);
    struct route route = route_to(ROUTE_REPLICA, why);
    route.nodes = in->replica_mask;
    return route;
}

/* The transaction tells. */
static struct route route_tx(const struct route_input *in)
{
    static const struct {
        bool replica;
        enum route_reason why;
    } places[ROUTE_TX_N] = {
        [ROUTE_TX_PRIMARY] = {false, ROUTE_WHY_IN_TX},
        [ROUTE_TX_SERIALIZABLE] = {false, ROUTE_WHY_SERIALIZABLE},
        [ROUTE_TX_MOVED] = {false, ROUTE_WHY_TX_MOVED},
        [ROUTE_TX_READ_ONLY] = {true, ROUTE_WHY_READ_ONLY_TX},
        [ROUTE_TX_OPTIMISTIC] = {true, ROUTE_WHY_OPTIMISTIC_TX},
    };
    CHECK(in->tx > ROUTE_TX_BY_CLASS && in->tx < ROUTE_TX_N);
    return places[in->tx].replica ? route_replica(in, places[in->tx].why)
                                  : route_to(ROUTE_PRIMARY, places[in->tx].why);
}

/* Hint, policy, transaction mode, class, freshness. */
static struct route decide(const struct route_input *in)
{
    if (in->pinned)
        return route_to(ROUTE_PRIMARY, ROUTE_WHY_PINNED_NO_SERVER);
    if (!in->read_write_split)
        return route_to(ROUTE_PRIMARY, ROUTE_WHY_NO_SPLIT);
    if (!in->segment_complete && in->tx != ROUTE_TX_READ_ONLY) /* where all of it may run */
        return route_to(ROUTE_PRIMARY, ROUTE_WHY_INCOMPLETE);
    enum route_policy policy = route_policy_of(in->hint, in->policy);
    if (policy == ROUTE_POLICY_PRIMARY)
        return route_to(ROUTE_PRIMARY, asked_reason(in));
    if (in->tx != ROUTE_TX_BY_CLASS)
        return route_tx(in);
    if (opens_read_only(in->flags))
        return route_replica(in, ROUTE_WHY_READ_ONLY_TX);
    if (in->flags & SQL_F_READ)
        return route_replica(in, policy == ROUTE_POLICY_ANY ? asked_reason(in)
                                                            : (enum route_reason)in->class_reason);
    if (policy == ROUTE_POLICY_REPLICA && answers_for_itself(in))
        return route_replica(in, asked_reason(in));
    if (in->hint == HINT_REPLICA_FORCED && may_be_forced(in))
        return route_replica(in, asked_reason(in));
    return route_to(ROUTE_PRIMARY, (enum route_reason)in->class_reason);
}

void route_decide(const struct route_input *in, struct route *out)
{
    CHECK((in->replica_mask & ~in->replica_all_mask) == 0);
    CHECK(in->class_reason < ROUTE_WHY_N);
    CHECK(!(in->flags & SQL_F_READ) || !(in->flags & SQL_F_NOT_READ));
    *out = decide(in);
    CHECK((out->target == ROUTE_REPLICA) == (out->nodes != 0));
}
