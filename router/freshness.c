/* router/freshness.c: the ring of primary samples, the lag, its gate, and LSN texts. */
#include "router/freshness.h"

#include "base/check.h"

#define NS_PER_MS 1000000
#define GATE_GOOD_N 2

void lag_ring_reset(struct lag_ring *ring)
{
    ring->n = 0;
    ring->base_lsn = 0;
}

/* Make one place: of the neighbours in the older half, join the two whose step is smallest against
 * their age. A pair keeps the later LSN and the earlier time, so that a replica between the two
 * seems further behind than it is, never less. So the newer half (30 s at 100 ms) stays exact, and
 * the older one spreads itself over any age with steps of a few percent of it. */
static void thin(struct lag_ring *ring, int64_t now_ns)
{
    struct lag_sample *s = ring->samples;
    uint32_t best = 0;
    double best_step = 2;
    CHECK(ring->n == LAG_SAMPLES);
    for (uint32_t i = 0; i < LAG_SAMPLES / 2; i++) {
        const double step = (double)(s[i + 2].at_ns - s[i].at_ns) / (double)(now_ns - s[i].at_ns);
        if (step < best_step) {
            best_step = step;
            best = i;
        }
    }
    s[best].flush_lsn = s[best + 1].flush_lsn;
    memmove(&s[best + 1], &s[best + 2], (LAG_SAMPLES - best - 2) * sizeof s[0]);
    ring->n--;
}

void lag_ring_add(struct lag_ring *ring, uint64_t flush_lsn, int64_t now_ns)
{
    CHECK(ring->n <= LAG_SAMPLES);
    if (ring->n > 0 && flush_lsn < ring->samples[ring->n - 1].flush_lsn)
        lag_ring_reset(ring);
    if (ring->n > 0 && flush_lsn == ring->samples[ring->n - 1].flush_lsn)
        return; /* only the first sample of an LSN tells when it was written */
    if (ring->n == LAG_SAMPLES)
        thin(ring, now_ns);
    if (ring->n == 0)
        ring->base_lsn = flush_lsn;
    ring->samples[ring->n++] = (struct lag_sample){flush_lsn, now_ns};
}

/* Index of the first sample above the LSN, n if there is none. */
static uint32_t first_above(const struct lag_ring *ring, uint64_t lsn)
{
    uint32_t low = 0, high = ring->n;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        if (ring->samples[mid].flush_lsn > lsn)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

int64_t lag_ring_ms(const struct lag_ring *ring, uint64_t replay_lsn, int64_t now_ns)
{
    CHECK(ring->n <= LAG_SAMPLES);
    if (ring->n == 0 || replay_lsn < ring->base_lsn)
        return LAG_UNKNOWN_MS;
    const uint32_t i = first_above(ring, replay_lsn);
    if (i == ring->n || now_ns <= ring->samples[i].at_ns)
        return 0;
    return (now_ns - ring->samples[i].at_ns) / NS_PER_MS;
}

uint64_t lag_ring_newest(const struct lag_ring *ring)
{
    return ring->n == 0 ? 0 : ring->samples[ring->n - 1].flush_lsn;
}

uint64_t lag_bytes(uint64_t flush_lsn, uint64_t replay_lsn)
{
    return flush_lsn > replay_lsn ? flush_lsn - replay_lsn : 0;
}

static bool over(uint64_t value, uint64_t limit)
{
    return limit != 0 && value > limit;
}

bool lag_update(struct lag_gate *gate, int64_t lag_ms, uint64_t lag_bytes, int64_t max_lag_ms,
                uint64_t max_lag_bytes)
{
    CHECK(lag_ms >= 0 && max_lag_ms >= 0);
    const uint64_t ms = (uint64_t)lag_ms, max_ms = (uint64_t)max_lag_ms;
    if (lag_ms == LAG_UNKNOWN_MS || over(ms, max_ms) || over(lag_bytes, max_lag_bytes)) {
        *gate = (struct lag_gate){0};
        return false;
    }
    if (gate->fresh)
        return true;
    const bool good =
        !over(ms, max_ms - max_ms / 4) && !over(lag_bytes, max_lag_bytes - max_lag_bytes / 4);
    gate->good_n = good ? (uint8_t)(gate->good_n + 1) : 0;
    gate->fresh = gate->good_n >= GATE_GOOD_N;
    return gate->fresh;
}

/* Value of up to 8 hex digits; false for none, more, or any other byte. */
static bool hex_u32(struct slice text, uint32_t *value)
{
    uint32_t v = 0;
    if (text.n == 0 || text.n > 8)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        const uint8_t c = text.p[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)(c | 0x20) - 'a' + 10;
        else
            return false;
        v = v << 4 | digit;
    }
    *value = v;
    return true;
}

bool lsn_parse(struct slice text, uint64_t *lsn)
{
    const uint8_t *slash = text.n > 0 ? memchr(text.p, '/', text.n) : NULL;
    if (slash == NULL)
        return false;
    const size_t high_n = (size_t)(slash - text.p);
    uint32_t high, low;
    if (!hex_u32((struct slice){text.p, high_n}, &high) ||
        !hex_u32(slice_skip(text, high_n + 1), &low))
        return false;
    *lsn = (uint64_t)high << 32 | low;
    return true;
}

static size_t put_hex(uint32_t value, char *to)
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned shift = 28;
    while (shift > 0 && value >> shift == 0)
        shift -= 4;
    size_t n = 0;
    to[n++] = digits[value >> shift & 15];
    while (shift > 0) {
        shift -= 4;
        to[n++] = digits[value >> shift & 15];
    }
    return n;
}

size_t lsn_format(uint64_t lsn, char text[LSN_TEXT_BYTES])
{
    size_t n = put_hex((uint32_t)(lsn >> 32), text);
    text[n++] = '/';
    n += put_hex((uint32_t)lsn, text + n);
    CHECK(n < LSN_TEXT_BYTES);
    text[n] = '\0';
    return n;
}

bool timeline_of_walfile(struct slice name, uint32_t *timeline)
{
    uint32_t tli, log, segment;
    if (name.n != 24 || !hex_u32((struct slice){name.p, 8}, &tli) ||
        !hex_u32((struct slice){name.p + 8, 8}, &log) ||
        !hex_u32((struct slice){name.p + 16, 8}, &segment) || tli == 0)
        return false;
    *timeline = tli;
    return true;
}
