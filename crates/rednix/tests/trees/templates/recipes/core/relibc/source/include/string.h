#ifndef STRING_H
#define STRING_H
#include <stddef.h>
size_t strlen(const char *text);
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int byte, size_t count);
#endif
