/* A 32-bit x86 program without large file support, and without a C library: what it gets of files and folders.
 *
 *   reader32 read PATH    the file's text
 *   reader32 list PATH    the folder's names, a line for each
 *   reader32 stat PATH    nothing
 *
 * Each ends with the errno that the kernel gave: EOVERFLOW (75) where an inode number does not fit 32 bits.
 * gcc -m32 -nostdlib -static -ffreestanding -fno-pie -no-pie -fno-stack-protector -O1
 */

enum { EXIT = 1, READ = 3, WRITE = 4, OPEN = 5, STAT = 106, GETDENTS = 141 };

static char text[65536];

static int call(int number, long first, long second, long third)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
    return result;
}

static void end(int result)
{
    call(EXIT, result < 0 ? -result : 0, 0, 0);
}

__attribute__((used)) static void run(char **arguments)
{
    char what = arguments[1][0];
    int file, size;
    if (what == 's')
        end(call(STAT, (long)arguments[2], (long)text, 0));
    file = call(OPEN, (long)arguments[2], 0, 0);
    if (file < 0)
        end(file);
    while ((size = call(what == 'r' ? READ : GETDENTS, file, (long)text, sizeof text)) > 0) {
        if (what == 'r') {
            call(WRITE, 1, (long)text, size);
            continue;
        }
        /* unsigned long inode, unsigned long offset, unsigned short length, the name */
        for (char *entry = text; entry < text + size; entry += *(unsigned short *)(entry + 8)) {
            char *name = entry + 10, *end_of_name = name;
            while (*end_of_name)
                end_of_name++;
            *end_of_name = '\n';
            call(WRITE, 1, (long)name, end_of_name + 1 - name);
        }
    }
    end(size);
}

__asm__(".globl _start\n_start: lea 4(%esp), %eax\n push %eax\n call run\n");
