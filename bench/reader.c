/*
 * The reader: what every contender is measured with, inside the container, so that Python's own costs stay out of it.
 *
 * One measurement is open, read to the end of the file (a read that returns 0), close, between two readings of
 * CLOCK_MONOTONIC. Commands come as arguments, or one a line on standard input (so that one process serves a whole run);
 * each answer is one line of JSON. CPU is the number of the one to run on, or -1 for any.
 *
 *   time CPU N WARM PATH        N durations in ns, after WARM that do not count; median, p90, p99
 *   fresh CPU N PATH            the same, each by a process of its own that was just forked: nothing can know it yet
 *   rate CPU READERS S PATH     reads/s of READERS processes in S seconds
 *   drain CPU READERS N PATH... N reads in all by READERS processes, over the paths in turn
 *
 * Touches: reads the paths it is given, and nothing else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 1 << 16, MAX_READERS = 64, MAX_WORDS = 64 };

/* Large enough for every file here in one read, small enough that FUSE does not pin pages for nothing. */
static char buffer[1 << 16] __attribute__((aligned(4096)));

/* Shared with the forked readers. */
static uint64_t *shared;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int failed(const char *what)
{
	printf("{\"error\": \"%s: %s\"}\n", what, strerror(errno));
	return 1;
}

static int run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	return sched_setaffinity(0, sizeof set, &set);
}

/* Bytes in the file, or -1. */
static long read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long total = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, buffer, sizeof buffer)) > 0)
		total += got;
	close(fd);
	return got < 0 ? -1 : total;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int print_samples(uint64_t *samples, long n, long bytes)
{
	qsort(samples, (size_t)n, sizeof *samples, compare);
	printf("{\"n\": %ld, \"bytes\": %ld, ", n, bytes);
	printf("\"median_ns\": %lu, \"p90_ns\": %lu, \"p99_ns\": %lu, ", samples[n / 2], samples[n * 90 / 100],
	       samples[n * 99 / 100]);
	printf("\"samples_ns\": [");
	for (long i = 0; i < n; i++)
		printf("%s%lu", i ? "," : "", samples[i]);
	printf("]}\n");
	return 0;
}

static int command_time(long n, long warm, const char *path)
{
	long bytes = 0;

	if (n < 1 || n > MAX_SAMPLES) {
		errno = ERANGE;
		return failed("number of reads");
	}
	for (long i = -warm; i < n; i++) {
		uint64_t start = now_ns();
		bytes = read_file(path);
		if (bytes < 0)
			return failed(path);
		if (i >= 0)
			shared[i] = now_ns() - start;
	}
	return print_samples(shared, n, bytes);
}

static int wait_for(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
	return -1;
}

/* A child that ends with its parent and exits with errno. */
static pid_t spawn(void)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

static int command_fresh(long n, const char *path)
{
	if (n < 1 || n > MAX_SAMPLES) {
		errno = ERANGE;
		return failed("number of reads");
	}
	for (long i = 0; i < n; i++) {
		pid_t child = spawn();

		if (child < 0)
			return failed("fork");
		if (child == 0) {
			uint64_t start;

			/* The page faults of a new process are not the file system's: take them before the clock starts. */
			memset(buffer, 0, sizeof buffer);
			shared[i] = now_ns();
			if (read_file("/dev/null") < 0)
				_exit(errno);
			start = now_ns();
			if (read_file(path) < 0)
				_exit(errno);
			shared[i] = now_ns() - start;
			_exit(0);
		}
		if (wait_for(child) < 0)
			return failed(path);
	}
	return print_samples(shared, n, read_file(path));
}

static int command_rate(long readers, double seconds, const char *path)
{
	uint64_t start, end, total = 0;
	pid_t children[MAX_READERS];
	int bad = 0;

	if (readers < 1 || readers > MAX_READERS) {
		errno = ERANGE;
		return failed("number of readers");
	}
	start = now_ns();
	end = start + (uint64_t)(seconds * 1e9);
	for (long r = 0; r < readers; r++) {
		shared[r] = 0;
		children[r] = spawn();
		if (children[r] == 0) {
			uint64_t count = 0;

			while (now_ns() < end) {
				if (read_file(path) < 0)
					_exit(errno);
				count++;
			}
			shared[r] = count;
			_exit(0);
		}
	}
	for (long r = 0; r < readers; r++) {
		bad |= children[r] < 0 || wait_for(children[r]) < 0;
		total += shared[r];
	}
	if (bad)
		return failed(path);
	printf("{\"reads\": %lu, \"seconds\": %.6f}\n", total, (double)(now_ns() - start) / 1e9);
	return 0;
}

static int command_drain(long readers, long n, char **paths, int path_count)
{
	uint64_t start = now_ns();
	pid_t children[MAX_READERS];
	int bad = 0;

	if (readers < 1 || readers > MAX_READERS) {
		errno = ERANGE;
		return failed("number of readers");
	}
	for (long r = 0; r < readers; r++) {
		children[r] = spawn();
		if (children[r] == 0) {
			for (long i = r; i < n; i += readers)
				if (read_file(paths[(i / readers) % path_count]) < 0)
					_exit(errno);
			_exit(0);
		}
	}
	for (long r = 0; r < readers; r++)
		bad |= children[r] < 0 || wait_for(children[r]) < 0;
	if (bad)
		return failed("drain");
	printf("{\"reads\": %ld, \"seconds\": %.6f}\n", n, (double)(now_ns() - start) / 1e9);
	return 0;
}

static int run(char **word, int words)
{
	if (words >= 2 && run_on(atoi(word[1])) < 0)
		return failed("sched_setaffinity");
	if (words == 5 && strcmp(word[0], "time") == 0)
		return command_time(atol(word[2]), atol(word[3]), word[4]);
	if (words == 4 && strcmp(word[0], "fresh") == 0)
		return command_fresh(atol(word[2]), word[3]);
	if (words == 5 && strcmp(word[0], "rate") == 0)
		return command_rate(atol(word[2]), atof(word[3]), word[4]);
	if (words >= 5 && strcmp(word[0], "drain") == 0)
		return command_drain(atol(word[2]), atol(word[3]), word + 4, words - 4);
	errno = EINVAL;
	return failed(word[0]);
}

int main(int argc, char **argv)
{
	char line[8192];

	shared = mmap(NULL, MAX_SAMPLES * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return failed("mmap");
	memset(buffer, 0, sizeof buffer);
	memset(shared, 0, MAX_SAMPLES * sizeof *shared);
	if (argc > 1)
		return run(argv + 1, argc - 1);
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
	return 0;
}
