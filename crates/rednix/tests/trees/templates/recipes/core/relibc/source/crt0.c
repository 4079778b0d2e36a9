int main(void);
void _exit(int status);

void _start(void) { _exit(main()); }
