/*
 * Many containers at once, each as small as can be: one process that is the first of a pid namespace of its own, in
 * cgroups of its own, and reads when told to.
 *
 * Arguments: the folders of cgroups that have the containers' own, n0, n1, ..., below them. Commands come one a line on
 * standard input; each answer is one line of JSON. CPU is the number of the one to run on, or -1 for any.
 *
 *   grow N                       start what is missing of N containers
 *   one CPU N WARM PATH          N durations by container 0, after WARM that do not count
 *   turns CPU ROUNDS FIRST PATH  durations of one read by each container, in turn, so often; each reads FIRST before,
 *                                which does not count: what has slept has caches to fill, and they are not the server's
 *   each CPU PATH...             one read of each of these files by each container; how long that took
 *
 * At the end of its input the containers are ended; they die with this process, too, whatever it dies of. Touches: the cgroups' lists of processes, and reads paths.
 */
#define _GNU_SOURCE
#include "reading.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MAX_CONTAINERS = 4096, MAX_SAMPLES = 1 << 16, MAX_WORDS = 64, PATIENCE_SECONDS = 60 };

struct seat {
	_Atomic uint32_t asked;
	_Atomic uint32_t done;
	int error;
	long bytes;
};

/* Shared by all. Only one container is at work at a time. */
static struct {
	struct seat seats[MAX_CONTAINERS];
	uint64_t samples[MAX_SAMPLES];
	long first;      /* where the durations go; -1: nowhere */
	long count;
	long warm;
	int cpu;
	char path[4096];
	char before[4096]; /* read once, first; empty: nothing */
} *shared;

static long containers;
static pid_t pids[MAX_CONTAINERS];
static char **groups;
static int group_count;

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static void say_done(struct seat *seat, uint32_t number)
{
	atomic_store(&seat->done, number);
	futex(&seat->done, FUTEX_WAKE, 1, NULL);
}

static int join_groups(long number)
{
	char path[4096];

	for (int i = 0; i < group_count; i++) {
		int fd;

		snprintf(path, sizeof path, "%s/n%ld/cgroup.procs", groups[i], number);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			return errno;
		close(fd);
	}
	return 0;
}

static int work(struct seat *seat)
{
	if (*shared->before && read_file(shared->before) < 0)
		return errno;
	for (long i = -shared->warm; i < shared->count; i++) {
		uint64_t start = now_ns();

		seat->bytes = read_file(shared->path);
		if (seat->bytes < 0)
			return errno;
		if (i >= 0 && shared->first >= 0)
			shared->samples[shared->first + i] = now_ns() - start;
	}
	return 0;
}

static void live(long number)
{
	struct seat *seat = &shared->seats[number];
	uint32_t seen = 0;
	int cpu = -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	seat->error = join_groups(number);
	memset(buffer, 0, sizeof buffer); /* its page faults now, not while it is measured */
	say_done(seat, 1);
	for (;;) {
		while (atomic_load(&seat->asked) == seen)
			futex(&seat->asked, FUTEX_WAIT, seen, NULL);
		seen = atomic_load(&seat->asked);
		if (shared->cpu != cpu) {
			cpu = shared->cpu;
			run_on(cpu);
		}
		seat->error = work(seat);
		say_done(seat, seen + 1);
	}
}

/* Until the container has done what number stands for; 0, or -1 with errno. */
static int await(struct seat *seat, uint32_t number)
{
	struct timespec patience = {PATIENCE_SECONDS, 0};
	uint32_t done;

	while ((done = atomic_load(&seat->done)) != number)
		if (futex(&seat->done, FUTEX_WAIT, done, &patience) < 0 && errno == ETIMEDOUT)
			return -1;
	errno = seat->error;
	return errno ? -1 : 0;
}

static int tell(long number, long first)
{
	struct seat *seat = &shared->seats[number];
	uint32_t asked;

	shared->first = first;
	asked = atomic_fetch_add(&seat->asked, 1) + 1;
	futex(&seat->asked, FUTEX_WAKE, 1, NULL);
	return await(seat, asked + 1);
}

static int set_job(int cpu, long count, long warm, const char *before, const char *path)
{
	if (count < 1 || count > MAX_SAMPLES || containers == 0 || strlen(path) >= sizeof shared->path
	    || strlen(before) >= sizeof shared->before) {
		errno = ERANGE;
		return -1;
	}
	shared->cpu = cpu;
	shared->count = count;
	shared->warm = warm;
	strcpy(shared->path, path);
	strcpy(shared->before, before);
	return run_on(cpu);
}

static int command_grow(long wanted)
{
	uint64_t start = now_ns();
	long before = containers;

	if (wanted > MAX_CONTAINERS) {
		errno = ERANGE;
		return failed("number of containers");
	}
	fflush(stdout);
	for (; containers < wanted; containers++) {
		long child = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);

		if (child < 0)
			return failed("clone");
		if (child == 0)
			live(containers);
		pids[containers] = (pid_t)child;
	}
	for (long i = before; i < containers; i++)
		if (await(&shared->seats[i], 1) < 0)
			return failed("a container");
	printf("{\"containers\": %ld, \"seconds\": %.3f}\n", containers, (double)(now_ns() - start) / 1e9);
	return 0;
}

static int command_one(int cpu, long count, long warm, const char *path)
{
	if (set_job(cpu, count, warm, "", path) < 0 || tell(0, 0) < 0)
		return failed(path);
	return print_samples(shared->samples, count, shared->seats[0].bytes);
}

static int command_turns(int cpu, long rounds, const char *before, const char *path)
{
	long n = 0;

	if (rounds < 1 || rounds * containers > MAX_SAMPLES) {
		errno = ERANGE;
		return failed("number of rounds");
	}
	if (set_job(cpu, 1, 0, before, path) < 0)
		return failed(path);
	for (long round = 0; round < rounds; round++)
		for (long i = 0; i < containers; i++)
			if (tell(i, n++) < 0)
				return failed(path);
	return print_samples(shared->samples, n, shared->seats[0].bytes);
}

static int command_each(int cpu, char **paths, int path_count)
{
	uint64_t start = now_ns();

	for (int p = 0; p < path_count; p++) {
		if (set_job(cpu, 1, 0, "", paths[p]) < 0)
			return failed(paths[p]);
		for (long i = 0; i < containers; i++)
			if (tell(i, -1) < 0)
				return failed(paths[p]);
	}
	printf("{\"seconds\": %.3f}\n", (double)(now_ns() - start) / 1e9);
	return 0;
}

static int run(char **word, int words)
{
	if (words == 2 && strcmp(word[0], "grow") == 0)
		return command_grow(atol(word[1]));
	if (words == 5 && strcmp(word[0], "one") == 0)
		return command_one(atoi(word[1]), atol(word[2]), atol(word[3]), word[4]);
	if (words == 5 && strcmp(word[0], "turns") == 0)
		return command_turns(atoi(word[1]), atol(word[2]), word[3], word[4]);
	if (words >= 3 && strcmp(word[0], "each") == 0)
		return command_each(atoi(word[1]), word + 2, words - 2);
	errno = EINVAL;
	return failed(word[0]);
}

static void end_all(void)
{
	for (long i = 0; i < containers; i++)
		kill(pids[i], SIGKILL);
	for (long i = 0; i < containers; i++)
		waitpid(pids[i], NULL, 0);
}

int main(int argc, char **argv)
{
	char line[8192];

	groups = argv + 1;
	group_count = argc - 1;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return failed("mmap");
	signal(SIGINT, SIG_IGN); /* of a terminal: who gives us our input ends it */
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	while (fgets(line, sizeof line, stdin) != NULL) {
		char *word[MAX_WORDS], *rest = line, *w;
		int words = 0;

		while ((w = strsep(&rest, " \n")) != NULL && words < MAX_WORDS)
			if (*w)
				word[words++] = w;
		if (words)
			run(word, words);
		fflush(stdout);
	}
	end_all();
	return 0;
}
