/* What LLVM's unwinder asks of a C library and relibc may not have. Weak: a C library that has it wins. */

typedef unsigned long size_t;

/* The fields of ELF's file header and of the list entry that the unwinder reads (System V ABI, gABI chapter 4). */
struct elf_header {
    unsigned char ident[16];
    unsigned short type, machine;
    unsigned version;
    unsigned long entry, program_headers, section_headers;
    unsigned flags;
    unsigned short header_size, program_header_size, program_header_count;
};
struct program_info {
    unsigned long base;
    const char *name;
    const void *program_headers;
    unsigned short program_header_count;
    unsigned long long added, removed;
    size_t thread_storage_module;
    void *thread_storage;
};

/* The linker's name for the start of the file as it is in memory; null where no segment holds it. */
extern const struct elf_header __ehdr_start __attribute__((weak, visibility("hidden")));

/* A static program is its own and only object, linked at the address it runs at. */
__attribute__((weak)) int dl_iterate_phdr(int (*callback)(struct program_info *, size_t, void *), void *data) {
    const struct elf_header *header = &__ehdr_start;
    if (header == 0) return 0;
    struct program_info info = {0};
    info.name = "";
    info.program_headers = (const char *)header + header->program_headers;
    info.program_header_count = header->program_header_count;
    info.added = 1;
    return callback(&info, sizeof info, data);
}

/* Debian builds the unwinder with the checked forms of two functions that only its own C library has. */
typedef __builtin_va_list va_list;
int vfprintf(void *, const char *, va_list);
int vsnprintf(char *, size_t, const char *, va_list);

__attribute__((weak)) int __vfprintf_chk(void *file, int flag, const char *format, va_list arguments) {
    (void)flag;
    return vfprintf(file, format, arguments);
}
__attribute__((weak)) int __vsnprintf_chk(char *text, size_t length, int flag, size_t room, const char *format, va_list arguments) {
    (void)flag;
    return vsnprintf(text, length < room ? length : room, format, arguments);
}
