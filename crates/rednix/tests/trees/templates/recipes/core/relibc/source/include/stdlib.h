#ifndef STDLIB_H
#define STDLIB_H
#include <stddef.h>
void _exit(int status);
void exit(int status);
void abort(void);
#endif
