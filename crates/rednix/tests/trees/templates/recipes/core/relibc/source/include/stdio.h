#ifndef STDIO_H
#define STDIO_H
int puts(const char *text);
int printf(const char *format, ...);
#endif
