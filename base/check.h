/* base/check.h: assertions that stay on in release builds.
 *
 * CHECK is for our own mistakes only. What a peer, a server, an operator or the kernel can cause is
 * handled, never checked.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

_Noreturn void check_failed(const char *file, int line, const char *what);

#define CHECK(cond)                                  \
    do {                                             \
        if (__builtin_expect(!(cond), 0))            \
            check_failed(__FILE__, __LINE__, #cond); \
    } while (0)

#define CHECK_UNREACHABLE() check_failed(__FILE__, __LINE__, "unreachable")

#endif
