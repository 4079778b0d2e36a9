#include "config.h"
#include <stdio.h>

int main(void) {
    puts("hello-autotools for " HOST);
    return 0;
}
