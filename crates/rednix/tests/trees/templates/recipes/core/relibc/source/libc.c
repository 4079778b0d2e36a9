#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

void *memcpy(void *to, const void *from, size_t count) {
    for (size_t at = 0; at < count; at++) ((char *)to)[at] = ((const char *)from)[at];
    return to;
}

void *memset(void *to, int byte, size_t count) {
    for (size_t at = 0; at < count; at++) ((char *)to)[at] = (char)byte;
    return to;
}

int puts(const char *text) { return (int)strlen(text); }
int printf(const char *format, ...) { return (int)strlen(format); }

void _exit(int status) {
    (void)status;
    for (;;) {}
}
void exit(int status) { _exit(status); }
void abort(void) { _exit(134); }
