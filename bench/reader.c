/*
 * The reader: what every contender is measured with, inside the container, so that Python's own costs stay out of it.
 *
 * Commands come as arguments, or one a line on standard input (so that one process serves a whole run); each answer is
 * one line of JSON. CPU is the number of the one to run on, or -1 for any.
 *
 *   time CPU N WARM PATH        N durations in ns, after WARM that do not count; median, p90, p99
 *   fresh CPU N PATH            the same, each by a process of its own that was just forked: nothing can know it yet
 *   rate CPU READERS S PATH     reads/s of READERS processes in S seconds
 *   drain CPU READERS N PATH... N reads in all by READERS processes, over the paths in turn
 *   storm CPU THREADS S PATH    durations of all reads of THREADS threads in S seconds
 *   flood CPU THREADS PATH      the answer comes at once; so many threads read until the flood is ended
 *   calm CPU                    ends the flood; the number of its reads
 *
 * Touches: reads the paths it is given, and nothing else.
 */
#define _GNU_SOURCE
#include "reading.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { MAX_SAMPLES = 1 << 16, MAX_READERS = 64, MAX_WORDS = 64 };

/* Shared with the forked readers. */
static uint64_t *shared;

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

/* Threads of this process, each with a buffer of its own. */
struct reading {
	pthread_t thread;
	const char *path;
	int cpu;
	int error;
	uint64_t end;     /* 0: until calm */
	uint64_t reads;
	uint64_t *samples; /* NULL: nobody wants to know */
	uint64_t room;    /* beyond it, the oldest are overwritten */
};

static struct reading readings[MAX_READERS];
static struct {
	struct reading of[MAX_READERS];
	char path[4096];
	long threads;
	atomic_int calm;
} flood;

static void *keep_reading(void *argument)
{
	struct reading *self = argument;
	char *own = aligned_alloc(4096, BUFFER_BYTES);

	if (own == NULL || run_on(self->cpu) < 0) {
		self->error = errno;
		free(own);
		return NULL;
	}
	memset(own, 0, BUFFER_BYTES);
	while (self->end ? now_ns() < self->end : !atomic_load(&flood.calm)) {
		uint64_t start = now_ns();

		if (read_into(self->path, own) < 0) {
			self->error = errno;
			break;
		}
		if (self->samples)
			self->samples[self->reads % self->room] = now_ns() - start;
		self->reads++;
	}
	free(own);
	return NULL;
}

static long start_threads(struct reading *of, long threads, int cpu, const char *path)
{
	for (long i = 0; i < threads; i++) {
		of[i].path = path;
		of[i].cpu = cpu;
		of[i].error = 0;
		of[i].reads = 0;
		errno = pthread_create(&of[i].thread, NULL, keep_reading, &of[i]);
		if (errno)
			return i;
	}
	return threads;
}

/* Their reads; errno says whether one failed. */
static uint64_t join_threads(struct reading *of, long threads)
{
	uint64_t reads = 0;

	errno = 0;
	for (long i = 0; i < threads; i++) {
		pthread_join(of[i].thread, NULL);
		reads += of[i].reads;
		if (of[i].error)
			errno = of[i].error;
	}
	return reads;
}

static int command_storm(int cpu, long threads, double seconds, const char *path)
{
	uint64_t room, end = now_ns() + (uint64_t)(seconds * 1e9);
	long started, n = 0;

	if (threads < 1 || threads > MAX_READERS) {
		errno = ERANGE;
		return failed("number of threads");
	}
	room = MAX_SAMPLES / (uint64_t)threads;
	for (long i = 0; i < threads; i++) {
		readings[i].end = end;
		readings[i].samples = shared + (uint64_t)i * room;
		readings[i].room = room;
	}
	started = start_threads(readings, threads, cpu, path);
	join_threads(readings, started);
	if (started < threads || errno)
		return failed(path);
	for (long i = 0; i < threads; i++) {
		uint64_t kept = readings[i].reads < room ? readings[i].reads : room;

		memmove(shared + n, readings[i].samples, kept * sizeof *shared);
		n += (long)kept;
	}
	if (n == 0) {
		errno = ETIME;
		return failed(path);
	}
	return print_samples(shared, n, read_file(path));
}

static int command_calm(void)
{
	uint64_t reads;

	atomic_store(&flood.calm, 1);
	reads = join_threads(flood.of, flood.threads);
	flood.threads = 0;
	if (errno)
		return failed("flood");
	printf("{\"reads\": %lu}\n", reads);
	return 0;
}

static int command_flood(int cpu, long threads, const char *path)
{
	if (flood.threads || threads < 1 || threads > MAX_READERS || strlen(path) >= sizeof flood.path) {
		errno = ERANGE;
		return failed("flood");
	}
	strcpy(flood.path, path);
	atomic_store(&flood.calm, 0);
	flood.threads = start_threads(flood.of, threads, cpu, flood.path);
	if (flood.threads < threads) {
		int error = errno;

		atomic_store(&flood.calm, 1);
		join_threads(flood.of, flood.threads);
		flood.threads = 0;
		errno = error;
		return failed("flood");
	}
	printf("{\"threads\": %ld}\n", threads);
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
	if (words == 5 && strcmp(word[0], "storm") == 0)
		return command_storm(atoi(word[1]), atol(word[2]), atof(word[3]), word[4]);
	if (words == 4 && strcmp(word[0], "flood") == 0)
		return command_flood(atoi(word[1]), atol(word[2]), word[3]);
	if (words == 2 && strcmp(word[0], "calm") == 0)
		return command_calm();
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
