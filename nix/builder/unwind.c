/* What the unwinders of LLVM and gcc ask of a C library and relibc may not have. Weak: a C library that has it wins. */

typedef unsigned long size_t;

/* The fields of ELF's file and program headers and of the list entry that the unwinders read (System V ABI, gABI
 * chapters 4 and 5). A long is as wide as the machine's addresses. */
struct elf_header {
    unsigned char ident[16];
    unsigned short type, machine;
    unsigned version;
    unsigned long entry, program_headers, section_headers;
    unsigned flags;
    unsigned short header_size, program_header_size, program_header_count;
};
struct program_header {
    unsigned type;
#if __SIZEOF_POINTER__ == 8
    unsigned flags;
    unsigned long offset, address, physical, file_size, size;
#else
    unsigned long offset, address, physical, file_size, size;
    unsigned flags;
#endif
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
enum { LOAD = 1, EH_FRAME = 0x6474e550 };

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

/* What gcc's unwinder asks instead: which object an address is in, and where that one's table for unwinding is. The
 * layout is that of dlfcn.h in glibc 2.35 and later. */
struct object {
    unsigned long long flags;
    void *start, *end, *link_map, *eh_frame;
#if defined(__i386__)
    void *data_base;
    unsigned padding;
#endif
    unsigned long long reserved[7];
};
__attribute__((weak)) int _dl_find_object(void *address, struct object *found) {
    const struct elf_header *header = &__ehdr_start;
    if (header == 0) return -1;
    unsigned long at = (unsigned long)address, start = -1UL, end = 0;
    *found = (struct object){0};
    for (unsigned short i = 0; i < header->program_header_count; i++) {
        const struct program_header *part = (const struct program_header *)((const char *)header
            + header->program_headers + (size_t)i * header->program_header_size);
        if (part->type == LOAD) {
            if (part->address < start) start = part->address;
            if (part->address + part->size > end) end = part->address + part->size;
        } else if (part->type == EH_FRAME) {
            found->eh_frame = (void *)part->address;
        }
    }
    if (found->eh_frame == 0 || at < start || at >= end) return -1;
    found->start = (void *)start;
    found->end = (void *)end;
    return 0;
}

#if defined(__aarch64__)
/* Asked whether the processor has newer instructions; without them the old ones do. */
__attribute__((weak)) unsigned long __getauxval(unsigned long kind) {
    (void)kind;
    return 0;
}
#endif

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
