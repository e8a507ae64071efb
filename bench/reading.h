/*
 * What the readers of the benchmark have in common: one measurement is open, read to the end of the file (a read that
 * returns 0), close, between two readings of CLOCK_MONOTONIC; answers are one line of JSON each.
 */
#ifndef PROCVIEW_BENCH_READING_H
#define PROCVIEW_BENCH_READING_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Large enough for every file here in one read, small enough that FUSE does not pin pages for nothing. */
enum { BUFFER_BYTES = 1 << 16 };

static char buffer[BUFFER_BYTES] __attribute__((aligned(4096)));

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int failed(const char *what)
{
	printf("{\"error\": \"%s: %s\"}\n", what, strerror(errno));
	return 1;
}

/* Of the calling thread; -1 is any CPU. */
static inline int run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	return sched_setaffinity(0, sizeof set, &set);
}

/* Bytes in the file, or -1. */
static inline long read_into(const char *path, char *into)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long total = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, into, BUFFER_BYTES)) > 0)
		total += got;
	close(fd);
	return got < 0 ? -1 : total;
}

static inline long read_file(const char *path)
{
	return read_into(path, buffer);
}

static inline int compare_samples(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static inline int print_samples(uint64_t *samples, long n, long bytes)
{
	qsort(samples, (size_t)n, sizeof *samples, compare_samples);
	printf("{\"n\": %ld, \"bytes\": %ld, ", n, bytes);
	printf("\"median_ns\": %lu, \"p90_ns\": %lu, \"p99_ns\": %lu, ", samples[n / 2], samples[n * 90 / 100],
	       samples[n * 99 / 100]);
	printf("\"samples_ns\": [");
	for (long i = 0; i < n; i++)
		printf("%s%lu", i ? "," : "", samples[i]);
	printf("]}\n");
	return 0;
}

#endif
