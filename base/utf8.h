/* base/utf8.h: is this a character? For text that peers sent and people or JSON parsers will read. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

/* Bytes of the UTF-8 character that text begins with; 0: it begins with none, or is empty. */
size_t utf8_bytes(struct slice text);

/* It moves the cursor of a terminal, or worse: no character to print. */
bool utf8_is_control(struct slice character);

#endif
