#include "proxy/wire/error_fields.h"

#include "proxy/wire/take.h"

static bool is_sqlstate(struct slice text)
{
    if (text.n != 5)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z'))
            return false;
    }
    return true;
}

static void keep_first(struct slice *field, struct slice value)
{
    if (field->p == NULL)
        *field = value;
}

static void keep_field(struct error_fields *f, struct slice *shown_severity, uint8_t type,
                       struct slice value)
{
    switch (type) {
    case 'V':
        keep_first(&f->severity, value);
        break;
    case 'S':
        keep_first(shown_severity, value);
        break;
    case 'C':
        if (is_sqlstate(value))
            keep_first(&f->sqlstate, value);
        break;
    case 'M':
        keep_first(&f->message, value);
        break;
    case 'D':
        keep_first(&f->detail, value);
        break;
    case 'H':
        keep_first(&f->hint, value);
        break;
    case 'F':
        keep_first(&f->file, value);
        break;
    case 'R':
        keep_first(&f->routine, value);
        break;
    default:
        break;
    }
}

bool error_fields_read(struct slice body, struct error_fields *out)
{
    struct slice shown_severity = SLICE_NONE, value;
    uint8_t type = 0;
    bool whole = false;
    *out = (struct error_fields){0};
    while (take_u8(&body, &type)) {
        if (type == 0) {
            whole = body.n == 0;
            break;
        }
        if (!take_cstr(&body, &value))
            break;
        keep_field(out, &shown_severity, type, value);
    }
    keep_first(&out->severity, shown_severity);
    return whole;
}

static struct slice instead(uint8_t type, struct slice value, struct slice *shown,
                            struct slice *severity, struct slice *message)
{
    struct slice *by = type == 'S' ? shown : type == 'V' ? severity : type == 'M' ? message : NULL;
    if (!by || !by->p)
        return value;
    value = *by;
    *by = SLICE_NONE; /* of a field that comes twice the first counts */
    return value;
}

void error_fields_put(struct put *o, struct slice body, struct slice severity, struct slice message)
{
    size_t start = o->n;
    struct slice shown = severity, value;
    uint8_t type = 0;
    put_u8(o, 'E');
    put_u32(o, 0);
    while (take_u8(&body, &type) && type != 0 && take_cstr(&body, &value)) {
        put_u8(o, type);
        put_cstr(o, instead(type, value, &shown, &severity, &message));
    }
    put_u8(o, 0);
    if (o->full) {
        o->n = start;
        return;
    }
    uint32_t n = (uint32_t)(o->n - start - 1);
    for (unsigned i = 0; i < 4; i++)
        o->p[start + 1 + i] = (uint8_t)(n >> (24 - 8 * i));
}
