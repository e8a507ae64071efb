/*
 * PID 1 of a throw-away guest: makes the root, the cgroup layout and the disks that were asked for, runs one job and
 * switches the guest off. Built with gcc -static, since it starts from an initramfs with no library in it.
 *
 * What is wanted comes as guest_...=value on the kernel's command line: the kernel hands words that it does not know
 * to its init as environment. What is given back is the file "status" in the folder shared with the host. A guest
 * that ends without it has died; so whatever goes wrong here is said on the console, and then the guest is off.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define SHARED "/run/guest"          /* the folder shared with the host, as job.py knows it */
#define CONSOLE "/dev/hvc0"          /* what the job reads and prints */
#define CGROUPS "/sys/fs/cgroup"

static void power_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

static void complain(const char *what)
{
    fprintf(stderr, "guest init: %s: %s\n", what, strerror(errno));
}

static void die(const char *what)
{
    complain(what);
    tcdrain(STDERR_FILENO);
    power_off();
}

static const char *wanted(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value ? value : otherwise;
}

/* A formatted string in one of a few buffers: as many as one statement needs. */
static const char *text(const char *format, ...)
{
    static char buffers[4][4096];
    static unsigned int next;
    char *buffer = buffers[next++ % 4];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffers[0], format, arguments);
    va_end(arguments);
    return buffer;
}

static bool write_file(const char *path, const char *content)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ssize_t length = (ssize_t)strlen(content);
    bool done;

    if (file < 0)
        return false;
    done = write(file, content, (size_t)length) == length;
    close(file);
    return done;
}

/* The first line of a file, without its end; empty if it cannot be read. */
static const char *first_line(const char *path)
{
    static char line[4096];
    FILE *file = fopen(path, "re");

    line[0] = '\0';
    if (file) {
        if (!fgets(line, sizeof line, file))
            line[0] = '\0';
        fclose(file);
    }
    line[strcspn(line, "\n")] = '\0';
    return line;
}

static bool try_mount(const char *source, const char *point, const char *kind, unsigned long flags, const char *options)
{
    mkdir(point, 0755);
    if (mount(source, point, kind, flags, options) == 0)
        return true;
    complain(text("mount %s on %s", kind ? kind : source, point));
    return false;
}

static void must_mount(const char *source, const char *point, const char *kind, unsigned long flags, const char *options)
{
    if (!try_mount(source, point, kind, flags, options))
        power_off();
}

/* The modules that are needed to get at the root, in the order that they need each other. */
static void load_modules(void)
{
    char name[256];
    FILE *order = fopen("/modules/order", "re");

    while (order && fgets(name, sizeof name, order)) {
        int file;
        name[strcspn(name, "\n")] = '\0';
        file = open(text("/modules/%s", name), O_RDONLY | O_CLOEXEC);
        if (file < 0 || (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST))
            complain(name);
        if (file >= 0)
            close(file);
    }
    if (order)
        fclose(order);
}

/*
 * The host's root, read-only, under a tmpfs for what is written. With kernel threads, which share the root directory
 * of PID 1, so that they find /sbin/modprobe.
 */
static void enter_root(void)
{
    must_mount("root", "/host", "virtiofs", MS_RDONLY, NULL);
    must_mount("tmpfs", "/written", "tmpfs", 0, "mode=755,size=75%");
    mkdir("/written/upper", 0755);
    mkdir("/written/work", 0755);
    must_mount("overlay", "/root", "overlay", 0, "lowerdir=/host,upperdir=/written/upper,workdir=/written/work");
    mount("/proc", "/root/proc", NULL, MS_MOVE, NULL);
    mount("/sys", "/root/sys", NULL, MS_MOVE, NULL);
    mount("/dev", "/root/dev", NULL, MS_MOVE, NULL);
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        die("entering the root");
    /* As systemd does: container engines expect it. */
    mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL);
}

static void mount_the_usual(void)
{
    struct utsname kernel;
    const char *modules = wanted("guest_modules", "");

    try_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666");
    try_mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, NULL);
    try_mount("mqueue", "/dev/mqueue", "mqueue", 0, NULL);
    symlink("/proc/self/fd", "/dev/fd");
    symlink("fd/0", "/dev/stdin");
    symlink("fd/1", "/dev/stdout");
    symlink("fd/2", "/dev/stderr");
    must_mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
    mkdir("/run/lock", 01777);
    try_mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, NULL);
    try_mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
    must_mount("shared", SHARED, "virtiofs", 0, NULL);
    /* No mount: tests bind /usr in a user namespace, which the kernel refuses where something is mounted below it. */
    if (*modules && uname(&kernel) == 0) {
        mkdir("/lib/modules", 0755);
        if (symlink(modules, text("/lib/modules/%s", kernel.release)) != 0 && errno != EEXIST)
            complain("/lib/modules");
    }
}

/* The disks whose serial number says what they are for; the others are for the job. */
static void use_disks(void)
{
    DIR *disks = opendir("/sys/block");
    struct dirent *disk;

    while (disks && (disk = readdir(disks))) {
        const char *serial = first_line(text("/sys/block/%s/serial", disk->d_name));
        const char *device = text("/dev/%s", disk->d_name);
        if (strcmp(serial, "swap") == 0 && swapon(device, 0) != 0)
            die("swapon");
        if (strcmp(serial, "storage") == 0) {
            /* Engines cannot put their overlays onto an overlay, and a container's root is to be on a disk. */
            must_mount(device, "/var/tmp", "ext4", 0, NULL);
            chmod("/var/tmp", 01777);
        }
    }
    if (disks)
        closedir(disks);
}

static void mount_v2(void)
{
    char controllers[512], *rest, *name;

    must_mount("cgroup2", CGROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate,memory_recursiveprot");
    /* Our own processes out of the way: the root's children can have all controllers then, as under systemd. */
    mkdir(CGROUPS "/init.scope", 0755);
    write_file(CGROUPS "/init.scope/cgroup.procs", "1");
    snprintf(controllers, sizeof controllers, "%s", first_line(CGROUPS "/cgroup.controllers"));
    for (name = strtok_r(controllers, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        if (!write_file(CGROUPS "/cgroup.subtree_control", text("+%s", name)))
            complain(name);
}

static void join(const char *folder, const char *name)
{
    symlink(folder, text(CGROUPS "/%s", name));
}

/* Every controller in a hierarchy of its own or as systemd joins them; for "hybrid", beside a v2 tree without any. */
static void mount_v1(bool hybrid)
{
    char line[256], name[64];
    int hierarchy, number, enabled;
    FILE *controllers = fopen("/proc/cgroups", "re");

    must_mount("tmpfs", CGROUPS, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755");
    must_mount("cgroup", CGROUPS "/cpu,cpuacct", "cgroup", 0, "cpu,cpuacct");
    join("cpu,cpuacct", "cpu");
    join("cpu,cpuacct", "cpuacct");
    while (controllers && fgets(line, sizeof line, controllers)) {
        if (sscanf(line, "%63s %d %d %d", name, &hierarchy, &number, &enabled) != 4 || !enabled)
            continue;
        if (strcmp(name, "cpu") != 0 && strcmp(name, "cpuacct") != 0)
            try_mount("cgroup", text(CGROUPS "/%s", name), "cgroup", 0, name);
    }
    if (controllers)
        fclose(controllers);
    try_mount("cgroup", CGROUPS "/systemd", "cgroup", 0, "none,name=systemd");
    if (hybrid)
        must_mount("cgroup2", CGROUPS "/unified", "cgroup2", 0, NULL);
}

/*
 * The first quota of a boot makes the kernel patch its own code (a static key). Under TCG another CPU may run into the
 * half of it, and dies of an int3 in enqueue_task_fair. Nothing else runs yet, so now is the best moment.
 */
static void set_first_quota(bool v2)
{
    const char *cgroup = v2 ? CGROUPS "/first-quota" : CGROUPS "/cpu/first-quota";
    const char *file = v2 ? "cpu.max" : "cpu.cfs_quota_us";

    mkdir(cgroup, 0755);
    if (!write_file(text("%s/%s", cgroup, file), "50000"))
        complain("the first quota");
    rmdir(cgroup);
}

static void name_host(void)
{
    struct ifreq interface = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    sethostname("guest", 5);
    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &interface) != 0)
        complain("lo");
    close(sock);
}

/* systemd as PID 1: the job is a service, whose end is the end of the guest (job.py). */
static void become_systemd(void)
{
    static const char *const programs[] = {"/usr/lib/systemd/systemd", "/lib/systemd/systemd"};
    size_t i;

    setenv("SYSTEMD_UNIT_PATH", SHARED "/units:", 1); /* and the usual places */
    for (i = 0; i < sizeof programs / sizeof programs[0]; i++)
        execl(programs[i], programs[i], "--unit=guest-job.service", NULL);
    die("systemd");
}

static void run_job(bool interactive)
{
    int input = open(interactive ? CONSOLE : "/dev/null", O_RDONLY);
    int output = open(CONSOLE, O_WRONLY);
    struct termios terminal;

    if (interactive) {
        ioctl(input, TIOCSCTTY, 0);
    } else if (tcgetattr(output, &terminal) == 0) {
        cfmakeraw(&terminal); /* or every line would end with a carriage return */
        tcsetattr(output, TCSANOW, &terminal);
    }
    dup2(input, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    clearenv();
    execl("/bin/sh", "sh", SHARED "/job", NULL);
    _exit(127);
}

int main(void)
{
    bool v2 = strcmp(wanted("guest_layout", "v2"), "v2") == 0;
    bool interactive = *wanted("guest_interactive", "");
    int status = 0, output;
    pid_t job, ended;

    umask(022);
    must_mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    must_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    must_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL);
    load_modules();
    enter_root();
    mount_the_usual();
    use_disks();
    if (v2)
        mount_v2();
    else
        mount_v1(strcmp(wanted("guest_layout", "v2"), "hybrid") == 0);
    set_first_quota(v2);
    name_host();
    if (*wanted("guest_systemd", ""))
        become_systemd();

    job = fork();
    if (job < 0)
        die("fork");
    if (job == 0) {
        setsid();
        run_job(interactive);
    }
    /* Also whatever orphan ends meanwhile. */
    while ((ended = wait(&status)) != job)
        if (ended < 0 && errno != EINTR)
            die("wait");
    output = open(CONSOLE, O_WRONLY | O_NOCTTY);
    if (output >= 0)
        tcdrain(output);
    if (!write_file(SHARED "/status", text("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status))))
        complain("status");
    power_off();
}
