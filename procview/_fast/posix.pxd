"""The foreign side: what libc and the kernel offer, each line with its contract. None of these raises or needs the
GIL.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<string.h>" nogil:
    const void *memrchr(const void *memory, int character, size_t size) noexcept
    size_t strnlen(const char *text, size_t most) noexcept
    char *stpcpy(char *into, const char *text) noexcept
    void *memmem(const void *text, size_t text_size, const void *part, size_t part_size) noexcept

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(
        pthread_t *thread, const void *attributes, void *(*run)(void *) noexcept nogil, void *argument
    ) noexcept
    int pthread_join(pthread_t thread, void **result) noexcept
    int pthread_kill(pthread_t thread, int signal) noexcept
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes) noexcept
    int pthread_mutex_destroy(pthread_mutex_t *mutex) noexcept
    int pthread_mutex_lock(pthread_mutex_t *mutex) noexcept
    int pthread_mutex_unlock(pthread_mutex_t *mutex) noexcept

cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EACCES
        EAGAIN
        EBADF
        ECONNABORTED
        EINTR
        EINVAL
        EIO
        EISDIR
        EMFILE
        ENAMETOOLONG
        ENFILE
        ENODEV
        ENOENT
        ENOMEM
        ENOTDIR
        ENOSYS
        EPERM
        ESRCH

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    struct sigaction_t "sigaction":
        void (*sa_handler)(int) noexcept nogil
        sigset_t sa_mask
    enum:
        SIG_BLOCK
        SIG_SETMASK
        SIGKILL
        SIGURG
    int kill(int pid, int signal) noexcept
    int sigfillset(sigset_t *set) noexcept
    int sigdelset(sigset_t *set, int signal) noexcept
    int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) noexcept
    int sigaction "sigaction"(int signal, const sigaction_t *action, sigaction_t *old) noexcept

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_TRUNC
        SHUT_RDWR
    ssize_t recv(int descriptor, void *into, size_t size, int flags) noexcept
    ssize_t send(int descriptor, const void *data, size_t size, int flags) noexcept
    int shutdown(int descriptor, int how) noexcept

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int descriptor, const iovec *parts, int count) noexcept

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int count, int flags) noexcept
    enum:
        EFD_CLOEXEC

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *at, size_t size, int protection, int flags, int descriptor, long offset) noexcept
    int munmap(void *at, size_t size) noexcept
    int madvise(void *at, size_t size, int advice) noexcept
    void *MAP_FAILED
    enum:
        MADV_NOHUGEPAGE
        MAP_ANONYMOUS
        MAP_NORESERVE
        MAP_POPULATE
        MAP_PRIVATE
        MAP_SHARED
        PROT_READ
        PROT_WRITE

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
    int poll(pollfd *descriptors, unsigned long count, int timeout_ms) noexcept

cdef extern from "<sys/fanotify.h>" nogil:
    enum:
        FAN_CLASS_NOTIF
        FAN_CLOEXEC
        FAN_DELETE
        FAN_MARK_ADD
        FAN_MARK_FILESYSTEM
        FAN_MODIFY
        FAN_MOVED_FROM
        FAN_NONBLOCK
        FAN_ONDIR
        FAN_REPORT_FID
    int fanotify_init(unsigned int flags, unsigned int event_flags) noexcept
    int fanotify_mark(int group, unsigned int flags, uint64_t mask, int directory, const char *path) noexcept

cdef extern from "<sys/types.h>" nogil:
    ctypedef long ssize_t
    ctypedef unsigned long ino_t
    ctypedef unsigned long dev_t

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_ACCMODE
        O_RDONLY
        O_CLOEXEC
        O_DIRECTORY
        O_NOFOLLOW
        O_NONBLOCK
        O_PATH
        O_TRUNC
        AT_FDCWD
        AT_SYMLINK_NOFOLLOW
    int openat(int directory, const char *path, int flags, ...) noexcept

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor) noexcept
    int dup(int descriptor) noexcept
    ssize_t pread(int descriptor, void *into, size_t size, long offset) noexcept
    ssize_t read(int descriptor, void *into, size_t size) noexcept
    ssize_t write(int descriptor, const void *data, size_t size) noexcept
    int usleep(unsigned int microseconds) noexcept
    int getpid() noexcept
    int pause() noexcept
    int unlinkat(int directory, const char *path, int flags) noexcept
    ssize_t readlinkat(int directory, const char *path, char *into, size_t size) noexcept
    long sysconf(int name) noexcept
    enum:
        _SC_CLK_TCK
        _SC_PAGESIZE

cdef extern from "<sys/stat.h>" nogil:
    struct stat_t "stat":
        unsigned long st_nlink
        dev_t st_dev
        ino_t st_ino
        unsigned int st_mode
        dev_t st_rdev
    int fstat(int descriptor, stat_t *into) noexcept
    int fstatat(int directory, const char *path, stat_t *into, int flags) noexcept
    bint S_ISBLK(unsigned int mode) noexcept

cdef extern from "<sys/vfs.h>" nogil:
    struct statfs_t "statfs":
        long f_type
    int fstatfs(int descriptor, statfs_t *into) noexcept

cdef extern from "<linux/magic.h>" nogil:
    enum:
        PROC_SUPER_MAGIC

cdef extern from "<sys/sysmacros.h>" nogil:
    unsigned int major(dev_t device) noexcept
    unsigned int minor(dev_t device) noexcept
    dev_t makedev(unsigned int major, unsigned int minor) noexcept

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    struct dirent:
        unsigned char d_type
        char d_name[256]
    enum:
        DT_BLK
        DT_DIR
        DT_LNK
        DT_UNKNOWN
    DIR *fdopendir(int descriptor) noexcept
    dirent *readdir(DIR *directory) noexcept
    int closedir(DIR *directory) noexcept

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *into) noexcept
    enum:
        CLOCK_BOOTTIME
        CLOCK_MONOTONIC
        CLOCK_REALTIME

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int descriptor, unsigned long request, ...) noexcept

cdef extern from "<sys/syscall.h>" nogil:
    enum:
        SYS_openat2
        SYS_pidfd_open
        SYS_sched_setaffinity

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...) noexcept

cdef enum:
    PIDFD_THREAD = 0x80   # O_EXCL, linux/pidfd.h since Linux 6.9


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef extern from * nogil:
    # Builtins of GCC and Clang.
    int __atomic_add_fetch(int *value, int by, int order) noexcept
    int __atomic_sub_fetch(int *value, int by, int order) noexcept
    int __atomic_load_n(const int *value, int order) noexcept
    int __atomic_fetch_or(int *value, int bits, int order) noexcept
    int __atomic_exchange_n(int *value, int to, int order) noexcept
    void __atomic_store_n(int *value, int to, int order) noexcept
    bint __atomic_compare_exchange_n(
        int *value, int *expected, int desired, bint weak, int success, int failure
    ) noexcept
    int trailing_zeros "__builtin_ctzl"(unsigned long value) noexcept
    uint64_t add_u64 "__atomic_add_fetch"(uint64_t *value, uint64_t by, int order) noexcept
    uint64_t load_u64 "__atomic_load_n"(const uint64_t *value, int order) noexcept
    int64_t load_i64 "__atomic_load_n"(const int64_t *value, int order) noexcept
    uint32_t acquire_u32 "__atomic_load_n"(const uint32_t *value, int order) noexcept
    void release_u64 "__atomic_store_n"(uint64_t *value, uint64_t to, int order) noexcept
    void release_i64 "__atomic_store_n"(int64_t *value, int64_t to, int order) noexcept
    void release_u32 "__atomic_store_n"(uint32_t *value, uint32_t to, int order) noexcept
    enum:
        __ATOMIC_RELAXED
        __ATOMIC_ACQUIRE
        __ATOMIC_RELEASE
        __ATOMIC_ACQ_REL


cdef inline void count_up(int *count) noexcept nogil:
    """One more, whichever threads count."""
    __atomic_add_fetch(count, 1, __ATOMIC_ACQ_REL)


cdef inline int count_down(int *count) noexcept nogil:
    """One less; what is left."""
    return __atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL)


cdef inline int count_now(const int *count) noexcept nogil:
    return __atomic_load_n(count, __ATOMIC_ACQUIRE)


cdef inline void count_u64(uint64_t *count) noexcept nogil:
    add_u64(count, 1, __ATOMIC_RELAXED)


cdef inline uint64_t u64_now(const uint64_t *count) noexcept nogil:
    return load_u64(count, __ATOMIC_RELAXED)


cdef inline int64_t i64_read(const int64_t *value) noexcept nogil:
    """What store_i64 wrote."""
    return load_i64(value, __ATOMIC_ACQUIRE)


cdef inline uint64_t u64_read(const uint64_t *value) noexcept nogil:
    """What store_u64 wrote, with all that was written before."""
    return load_u64(value, __ATOMIC_ACQUIRE)


cdef inline uint32_t load_u32(const uint32_t *value) noexcept nogil:
    return acquire_u32(value, __ATOMIC_ACQUIRE)


cdef inline void store_u32(uint32_t *value, uint32_t to) noexcept nogil:
    release_u32(value, to, __ATOMIC_RELEASE)


cdef inline void store_u64(uint64_t *value, uint64_t to) noexcept nogil:
    release_u64(value, to, __ATOMIC_RELEASE)


cdef inline void store_i64(int64_t *value, int64_t to) noexcept nogil:
    release_i64(value, to, __ATOMIC_RELEASE)


cdef inline void store(int *value, int to) noexcept nogil:
    """For who reads it with count_now."""
    __atomic_store_n(value, to, __ATOMIC_RELEASE)


cdef inline bint exchange(int *value, int *expected, int to) noexcept nogil:
    """Write ``to`` where ``expected`` still stands. False: it does not, and ``expected`` is what does."""
    return __atomic_compare_exchange_n(value, expected, to, False, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)


cdef inline int set_bits(int *value, int bits) noexcept nogil:
    """What it was before."""
    return __atomic_fetch_or(value, bits, __ATOMIC_ACQ_REL)


cdef inline int take_all(int *value) noexcept nogil:
    """What it was; it is 0 now."""
    return __atomic_exchange_n(value, 0, __ATOMIC_ACQ_REL)
