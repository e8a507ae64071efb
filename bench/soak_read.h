/*
 * The readers of soak.c: each reads files in random order, in one of several ways, and has every text checked. What
 * they count is in shared memory, so that it stays when they are killed.
 */
#ifndef PROCVIEW_BENCH_SOAK_READ_H
#define PROCVIEW_BENCH_SOAK_READ_H

#include "reading.h"
#include "soak_check.h"

#include <dirent.h>
#include <stdatomic.h>

enum {
	MAX_CONTAINERS = 1024,
	MAX_FILES = 4096,
	READERS = 3, /* processes of a container */
	THREADS = 3, /* of the first of them */
	SLOW_READER = 1,
	INIT = READERS + THREADS - 1,
	PLACES,
	TEXT_BYTES = BUFFER_BYTES,
	MAX_ERRNO = 256,
	MAX_REPORTS = 8,
};

/* Of one thread that reads, and of the one that takes its place when it was killed: what was shown must not go back. */
struct place {
	_Atomic int asking; /* it is in a system call that the file system has to answer */
	shown_numbers shown;
};

struct report {
	_Atomic int complete;
	long container;
	char path[256];
	char why[128];
	char text[512];
};

static struct {
	_Atomic uint64_t ended; /* reads, and those that failed */
	_Atomic uint64_t reads; /* whole texts */
	_Atomic uint64_t requests;
	_Atomic uint64_t looked_up; /* files that are not quick */
	_Atomic uint64_t listings;
	_Atomic uint64_t killed;
	_Atomic uint64_t killed_asking;
	_Atomic uint64_t wrong;
	_Atomic uint64_t failed[MAX_ERRNO];
	_Atomic uint64_t goal; /* of those that have ended */
	_Atomic int reported;
	struct report reports[MAX_REPORTS];
	struct place places[MAX_CONTAINERS][PLACES];
} *shared;

/* What each process of a container has from its first one. */
static struct {
	long number;
	struct truth truth;
	struct file files[MAX_FILES];
	int file_count;
	int quick_count; /* that many first: the others have names that pyfuse3 has to look up each time */
	int usage_fds[2]; /* CPU time of its cgroup: user and system (v1), or both and -1; or -1 */
} self;

static const char *mount_point;
static _Thread_local struct place *me;
static _Thread_local uint64_t chance;

static void report(const char *path, const char *why, const char *text)
{
	int index = atomic_fetch_add(&shared->reported, 1);
	struct report *to;

	if (index >= MAX_REPORTS)
		return;
	to = &shared->reports[index];
	to->container = self.number;
	snprintf(to->path, sizeof to->path, "%s", path);
	snprintf(to->why, sizeof to->why, "%s", why);
	snprintf(to->text, sizeof to->text, "%s", text);
	atomic_store(&to->complete, 1);
}

static void report_wrong(const char *path, const char *why, const char *text)
{
	atomic_fetch_add(&shared->wrong, 1);
	report(path, why, text);
}

static void report_failed(const char *path, int error)
{
	atomic_fetch_add(&shared->failed[error > 0 && error < MAX_ERRNO ? error : 0], 1);
	atomic_fetch_add(&shared->ended, 1);
	report(path, strerror(error), "");
}

static uint64_t below(uint64_t limit)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return chance % limit;
}

static void begin_to_ask(void)
{
	atomic_fetch_add_explicit(&shared->requests, 1, memory_order_relaxed);
	atomic_store(&me->asking, 1);
}

static int ask_open(const char *path)
{
	int fd;

	begin_to_ask();
	fd = open(path, O_RDONLY | O_CLOEXEC);
	atomic_store(&me->asking, 0);
	return fd;
}

static ssize_t ask_pread(int fd, char *into, size_t bytes, size_t offset)
{
	ssize_t got;

	begin_to_ask();
	got = pread(fd, into, bytes, (off_t)offset);
	atomic_store(&me->asking, 0);
	return got;
}

/* The whole text, asked for in pieces of random sizes up to this one; its length, or -1. A NUL is put behind it. */
static ssize_t read_whole(int fd, char *text, size_t largest)
{
	size_t bytes = 0;

	for (;;) {
		size_t room = TEXT_BYTES - 1 - bytes, piece = largest < TEXT_BYTES ? 1 + below(largest) : room;
		ssize_t got = ask_pread(fd, text + bytes, piece < room ? piece : room, bytes);

		if (got < 0)
			return -1;
		bytes += (size_t)got;
		if (got == 0) {
			text[bytes] = '\0';
			return (ssize_t)bytes;
		}
	}
}

/* What the cgroup's file says; UINT64_MAX where it says nothing. */
static uint64_t usage_ns(int fd)
{
	char text[512];
	ssize_t got = pread(fd, text, sizeof text - 1, 0);
	uint64_t usec;

	text[got > 0 ? got : 0] = '\0';
	if (number_after(text, "usage_usec", &usec))
		return usec * 1000;
	return is_digit(*text) ? strtoull(text, NULL, 10) : UINT64_MAX;
}

static struct moment moment_now(bool with_usage)
{
	struct moment now = {0, UINT64_MAX};
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	now.boottime_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	if (with_usage && self.usage_fds[0] >= 0)
		now.used_ns = usage_ns(self.usage_fds[0]);
	if (now.used_ns != UINT64_MAX && self.usage_fds[1] >= 0)
		now.used_ns += usage_ns(self.usage_fds[1]);
	return now;
}

/* One whole text, checked; its length, or -1 where it could not be read. The first one is kept, to compare with. */
static ssize_t read_checked(struct file *file, int fd, char *text, size_t largest)
{
	bool with_usage = file->kind == STAT && below(8) == 0;
	struct moment before = moment_now(with_usage), after;
	ssize_t bytes = read_whole(fd, text, largest);
	const char *why;

	if (bytes < 0)
		return -1;
	after = moment_now(with_usage);
	if (file->first == NULL) {
		file->first = memcpy(malloc((size_t)bytes + 1), text, (size_t)bytes + 1);
		file->first_bytes = (size_t)bytes;
	}
	why = wrong_in(file, text, (size_t)bytes, &self.truth, &before, &after, &me->shown);
	if (why != NULL)
		report_wrong(file->path, why, text);
	atomic_fetch_add_explicit(&shared->reads, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&shared->ended, 1, memory_order_relaxed);
	return bytes;
}

/* Some pieces at other offsets, which have to be slices of the text; -1 where one could not be read. */
static int check_slices(const struct file *file, int fd, const char *text, size_t bytes)
{
	char slice[2048];

	for (int i = 0; i < 3 && bytes > 1; i++) {
		size_t offset = 1 + below(bytes - 1), wanted = 1 + below(sizeof slice), left = bytes - offset;
		ssize_t got = ask_pread(fd, slice, wanted, offset);

		if (got < 0)
			return -1;
		if ((size_t)got != (wanted < left ? wanted : left) || memcmp(slice, text + offset, (size_t)got) != 0)
			report_wrong(file->path, "a piece is not a slice of the whole", text);
	}
	return 0;
}

static void full_path(const struct file *file, char *into, size_t room)
{
	snprintf(into, room, "%s/%s", mount_point, file->path);
}

static int read_in_some_way(struct file *file, int fd, char *text)
{
	uint64_t way = below(100);
	ssize_t bytes = read_checked(file, fd, text, way < 15 ? 1 + file->first_bytes / 4 : TEXT_BYTES);

	if (bytes >= 0 && way >= 15 && way < 25 && check_slices(file, fd, text, (size_t)bytes) < 0)
		return -1;
	/* The file is kept open: from offset 0 its numbers are new ones. */
	for (uint64_t more = way >= 90 ? 1 + below(3) : 0; bytes >= 0 && more > 0; more--) {
		if (below(4) == 0)
			usleep((useconds_t)below(3000));
		bytes = read_checked(file, fd, text, TEXT_BYTES);
	}
	return bytes < 0 ? -1 : 0;
}

/* 0, or -1 with errno. */
static int read_file_somehow(struct file *file, char *text)
{
	char path[512];
	int fd, result, error;

	if (file >= &self.files[self.quick_count])
		atomic_fetch_add_explicit(&shared->looked_up, 1, memory_order_relaxed);
	full_path(file, path, sizeof path);
	fd = ask_open(path);
	if (fd < 0)
		return -1;
	result = read_in_some_way(file, fd, text);
	error = errno;
	close(fd);
	errno = error;
	return result;
}

static int cpu_number(const char *name)
{
	return starts_with(name, "cpu") && is_digit(name[3]) ? atoi(name + 3) : -1;
}

/* The folder of CPUs: names in it are not the same for everyone. */
static void list_cpus(void)
{
	char path[512];
	struct dirent *entry;
	int cpus = 0;
	DIR *folder;

	snprintf(path, sizeof path, "%s/" CPU_FOLDER, mount_point);
	begin_to_ask();
	folder = opendir(path);
	while (folder != NULL && (errno = 0, entry = readdir(folder)) != NULL) {
		int cpu = cpu_number(entry->d_name);

		if (cpu >= self.truth.cpus)
			report_wrong(CPU_FOLDER, "another one's CPU", entry->d_name);
		cpus += cpu >= 0;
	}
	atomic_store(&me->asking, 0);
	if (folder == NULL || errno)
		report_failed(CPU_FOLDER, errno);
	else if (cpus != self.truth.cpus)
		report_wrong(CPU_FOLDER, "not as many CPUs as the container has", "");
	if (folder != NULL)
		closedir(folder);
	atomic_fetch_add(&shared->listings, 1);
}

static void *read_for_ever(void *place)
{
	char *text = malloc(TEXT_BYTES);

	me = place;
	chance = now_ns() * 2654435761u + (uint64_t)(uintptr_t)place + 1;
	for (;;) {
		/* How much pyfuse3 may be asked at a time is bounded, and more is refused with EAGAIN, as it should be:
		 * so one thread of a container asks it, and now and then only, since it takes longer. */
		bool slow = me == &shared->places[self.number][SLOW_READER] && below(8) == 0;
		struct file *file = &self.files[below((uint64_t)(slow ? self.file_count : self.quick_count))];

		if (slow && below(16) == 0)
			list_cpus();
		if (read_file_somehow(file, text) < 0)
			report_failed(file->path, errno);
	}
	return NULL;
}

#endif
