#include <greet.h>
#include <stdio.h>

int main(void) {
    printf("%s says %s\n", WORD, greet());
    return 0;
}
