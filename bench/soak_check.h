/*
 * Whether a text can be the container's: all that soak.c knows about what a file may say. Some of it is known from
 * outside (limits, CPUs, age, CPU time), some from the text that the file gave first: which lines there are, and which
 * numbers never change or never go back.
 *
 * Touches nothing: texts come in, and a reason goes out where one is wrong.
 */
#ifndef PROCVIEW_BENCH_SOAK_CHECK_H
#define PROCVIEW_BENCH_SOAK_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPU_FOLDER "sys/devices/system/cpu"
#define NODE_FOLDER "sys/devices/system/node"

enum {
	COLUMNS = 10,     /* of a CPU in stat */
	MAX_NUMBERS = 512, /* of one text that are remembered */
	MAX_TASKS = 64,   /* of a container here; a host has more */
	SLACK_HUNDREDTHS = 3,
	NS_PER_HUNDREDTH = 10000000,
};

/* Those that count come first: what they showed is remembered. */
enum kind { STAT, VMSTAT, DISKSTATS, UPTIME, PRESSURE_CPU, PRESSURE_IO, PRESSURE_MEMORY, COUNTING,
	MEMINFO = COUNTING, CPUINFO, LOADAVG, SWAPS, ONLINE, NODE_MEMINFO, LIVE, CONSTANT, KINDS };

struct truth {
	uint64_t memory_kb;
	int cpus;
	int nodes;                /* memory nodes */
	uint64_t born_hundredths; /* of CLOCK_BOOTTIME, when init started */
};

/* Around one read; what is not known is UINT64_MAX. */
struct moment {
	uint64_t boottime_ns;
	uint64_t used_ns; /* CPU time of the container, as its cgroup says */
};

struct file {
	char *path; /* below the mount */
	enum kind kind;
	char *first; /* what it said first, which was checked; ends in a NUL */
	size_t first_bytes;
};

/* The largest number that each counting file has shown in each place. */
typedef uint64_t shown_numbers[COUNTING][MAX_NUMBERS];

static inline bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static inline enum kind kind_of(const char *path)
{
	static const struct { const char *path; enum kind kind; } known[] = {
		{"proc/stat", STAT}, {"proc/vmstat", VMSTAT}, {"proc/diskstats", DISKSTATS}, {"proc/uptime", UPTIME},
		{"proc/pressure/cpu", PRESSURE_CPU}, {"proc/pressure/io", PRESSURE_IO},
		{"proc/pressure/memory", PRESSURE_MEMORY}, {"proc/meminfo", MEMINFO}, {"proc/cpuinfo", CPUINFO},
		{"proc/loadavg", LOADAVG}, {"proc/swaps", SWAPS}, {CPU_FOLDER "/online", ONLINE},
		{CPU_FOLDER "/possible", ONLINE}, {CPU_FOLDER "/present", ONLINE},
	};
	/* Of the host's CPUs: frequencies and times, which change. */
	static const char *const live[] = {"/cpufreq/", "/cpuidle/", "/power/", "/thermal_throttle/"};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(path, known[i].path) == 0)
			return known[i].kind;
	if (starts_with(path, NODE_FOLDER "/") && strlen(path) > 8 && strcmp(path + strlen(path) - 8, "/meminfo") == 0)
		return NODE_MEMINFO;
	for (size_t i = 0; i < sizeof live / sizeof *live; i++)
		if (strstr(path, live[i]) != NULL)
			return LIVE;
	return CONSTANT;
}

static inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The digits from there on as one number, a point left out: 12.34 is 1234. */
static inline uint64_t number_at(const char **at)
{
	uint64_t value = 0;

	for (; is_digit(**at) || (**at == '.' && is_digit((*at)[1])); ++*at)
		if (**at != '.')
			value = value * 10 + (uint64_t)(**at - '0');
	return value;
}

/* The first number after the word. */
static inline bool number_after(const char *text, const char *word, uint64_t *value)
{
	const char *at = strstr(text, word);

	if (at == NULL)
		return false;
	at += strlen(word);
	while (*at == ' ' || *at == '\t')
		at++;
	if (!is_digit(*at))
		return false;
	*value = number_at(&at);
	return true;
}

/* --- compared with the first text ------------------------------------------------------------------------------- */

enum rule { MAY_CHANGE, NEVER_BACK, NEARLY_FIXED, FIXED };

static inline enum rule rule_of(enum kind kind, const char *line, const char *number)
{
	switch (kind) {
	case STAT:
		/* btime follows the wall clock, which may be corrected meanwhile. */
		if (starts_with(line, "btime"))
			return NEARLY_FIXED;
		return starts_with(line, "proc") ? MAY_CHANGE : NEVER_BACK;
	case VMSTAT:
		return starts_with(line, "nr_") ? MAY_CHANGE : NEVER_BACK;
	case UPTIME:
	case DISKSTATS:
		return NEVER_BACK;
	case PRESSURE_CPU:
	case PRESSURE_IO:
	case PRESSURE_MEMORY:
		return number - line >= 6 && strncmp(number - 6, "total=", 6) == 0 ? NEVER_BACK : MAY_CHANGE;
	case CPUINFO:
		return starts_with(line, "cpu MHz") ? MAY_CHANGE : FIXED;
	default:
		return MAY_CHANGE;
	}
}

/* Same lines and words in the same order; numbers by their rule. How many spaces pad a number does not count. */
static inline const char *differs(const struct file *file, const char *text, uint64_t *shown)
{
	const char *t = text, *f = file->first, *line = text;

	for (int n = 0;;) {
		const char *number;
		uint64_t now, first;

		while (*t == ' ')
			t++;
		while (*f == ' ')
			f++;
		if (!is_digit(*t) || !is_digit(*f)) {
			if (*t != *f)
				return "other words or lines than at first";
			if (*t == '\0')
				return NULL;
			if (*t == '\n')
				line = t + 1;
			t++, f++;
			continue;
		}
		number = t;
		now = number_at(&t);
		first = number_at(&f);
		switch (rule_of(file->kind, line, number)) {
		case MAY_CHANGE:
			break;
		case FIXED:
			if (now != first)
				return "a number that never changes is another one than at first";
			break;
		case NEARLY_FIXED:
			if (now > first + 1 || first > now + 1)
				return "a time that never changes is another one than at first";
			break;
		case NEVER_BACK:
			if (n >= MAX_NUMBERS || shown == NULL)
				break;
			if (now < shown[n])
				return "a number that never goes back went back";
			shown[n] = now;
		}
		n++;
	}
}

/* --- what is known from outside ---------------------------------------------------------------------------------- */

static inline const char *wrong_in_meminfo(const char *text, const struct truth *truth)
{
	uint64_t total, unused, available, swap, swap_unused;

	if (!number_after(text, "MemTotal:", &total) || !number_after(text, "MemFree:", &unused)
	    || !number_after(text, "MemAvailable:", &available) || !number_after(text, "SwapTotal:", &swap)
	    || !number_after(text, "SwapFree:", &swap_unused))
		return "a line is missing";
	if (total != truth->memory_kb)
		return "MemTotal is not the container's limit";
	if (unused > available || available > total)
		return "not MemFree <= MemAvailable <= MemTotal";
	return swap_unused > swap ? "not SwapFree <= SwapTotal" : NULL;
}

static inline const char *wrong_in_node(const char *text, const struct truth *truth)
{
	uint64_t total, unused;

	if (!number_after(text, "MemTotal:", &total) || !number_after(text, "MemFree:", &unused))
		return "a line is missing";
	if (truth->nodes == 1 ? total != truth->memory_kb : total > truth->memory_kb)
		return "MemTotal of a node is not the container's";
	return unused > total ? "not MemFree <= MemTotal" : NULL;
}

/* The line of that CPU, -1 for all of them; where the next line begins, or NULL. */
static inline const char *row_of(const char *line, int cpu, uint64_t *columns)
{
	char name[16];

	if (cpu < 0)
		strcpy(name, "cpu ");
	else
		snprintf(name, sizeof name, "cpu%d", cpu);
	if (!starts_with(line, name))
		return NULL;
	line += strlen(name);
	for (int i = 0; i < COLUMNS; i++) {
		if (*line++ != ' ' || !is_digit(*line))
			return NULL;
		columns[i] = number_at(&line);
	}
	return *line == '\n' ? line + 1 : NULL;
}

static inline const char *wrong_in_stat(const char *text, const struct truth *truth, const struct moment *before,
					const struct moment *after)
{
	uint64_t all[COLUMNS], one[COLUMNS], sum[COLUMNS] = {0}, tasks, running, used_ns, slack_ns;
	const char *line = row_of(text, -1, all);

	for (int cpu = 0; cpu < truth->cpus && line != NULL; cpu++) {
		line = row_of(line, cpu, one);
		for (int i = 0; i < COLUMNS && line != NULL; i++)
			sum[i] += one[i];
	}
	if (line == NULL)
		return "a line of a CPU is missing, or is none";
	if (starts_with(line, "cpu"))
		return "more CPUs than the container has";
	if (memcmp(all, sum, sizeof sum) != 0)
		return "the line cpu is not the sum of the others";
	if (!number_after(text, "\nprocesses", &tasks) || !number_after(text, "\nprocs_running", &running))
		return "a line is missing";
	if (tasks < 1 || tasks > MAX_TASKS || running > MAX_TASKS)
		return "more tasks than the container has";
	if (before->used_ns == UINT64_MAX || after->used_ns == UINT64_MAX)
		return NULL;
	/* Each of three columns is rounded down for each CPU. */
	used_ns = (all[0] + all[1] + all[2]) * NS_PER_HUNDREDTH;
	slack_ns = 3u * (uint64_t)truth->cpus * NS_PER_HUNDREDTH;
	if (used_ns + slack_ns < before->used_ns || used_ns > after->used_ns)
		return "the CPU time is not the container's";
	return NULL;
}

static inline const char *wrong_in_cpuinfo(const char *text, const struct truth *truth)
{
	int cpus = 0;

	for (const char *line = text; line != NULL && *line; line = strchr(line, '\n'), line += line != NULL)
		if (starts_with(line, "processor")) {
			const char *at = line + strcspn(line, "0123456789\n");

			if (!is_digit(*at) || number_at(&at) != (uint64_t)cpus)
				return "processors are not numbered from 0";
			cpus++;
		}
	return cpus == truth->cpus ? NULL : "another number of processors than the container has";
}

/* A number with two digits behind the point, in hundredths. */
static inline bool hundredths_at(const char **at, uint64_t *value)
{
	const char *start = *at;

	if (!is_digit(*start))
		return false;
	*value = number_at(at);
	return *at - start >= 4 && (*at)[-3] == '.';
}

static inline const char *wrong_in_uptime(const char *text, const struct truth *truth, const struct moment *before,
					  const struct moment *after)
{
	uint64_t least = before->boottime_ns / NS_PER_HUNDREDTH, most = after->boottime_ns / NS_PER_HUNDREDTH;
	uint64_t age, idle;
	const char *at = text;

	if (!hundredths_at(&at, &age) || *at++ != ' ' || !hundredths_at(&at, &idle) || strcmp(at, "\n") != 0)
		return "not two times";
	if (idle > (age + SLACK_HUNDREDTHS) * (uint64_t)truth->cpus)
		return "idle for longer than it lives";
	age += truth->born_hundredths;
	return age + SLACK_HUNDREDTHS < least || age > most + SLACK_HUNDREDTHS ? "not the age of the container" : NULL;
}

static inline const char *wrong_in_loadavg(const char *text)
{
	uint64_t load[3], running, tasks;
	const char *at = text;

	for (int i = 0; i < 3; i++)
		if (!hundredths_at(&at, &load[i]) || *at++ != ' ')
			return "not three loads";
	if (!is_digit(*at))
		return "no tasks";
	running = number_at(&at);
	if (*at++ != '/' || !is_digit(*at))
		return "no tasks";
	tasks = number_at(&at);
	if (*at++ != ' ' || !is_digit(*at))
		return "no last pid";
	number_at(&at);
	if (strcmp(at, "\n") != 0)
		return "more than a line";
	if (load[0] > MAX_TASKS * 100 || load[1] > MAX_TASKS * 100 || load[2] > MAX_TASKS * 100)
		return "more load than the container has tasks";
	return running > MAX_TASKS || tasks > MAX_TASKS ? "more tasks than the container has" : NULL;
}

static inline const char *wrong_in_swaps(const char *text)
{
	if (!starts_with(text, "Filename\t"))
		return "no header";
	for (const char *line = strchr(text, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
		uint64_t size, used;

		if (sscanf(line, "%*s %*s %lu %lu", &size, &used) != 2)
			return "not an area of swap";
		if (used > size)
			return "more swap used than there is";
	}
	return NULL;
}

static inline const char *wrong_in_online(const char *text, const struct truth *truth)
{
	char expected[32] = "0\n";

	if (truth->cpus > 1)
		snprintf(expected, sizeof expected, "0-%d\n", truth->cpus - 1);
	return strcmp(text, expected) == 0 ? NULL : "not the container's CPUs";
}

/* Why the text is wrong, or NULL. A NUL stands behind it; shown may be NULL. The file's first text is checked by this,
 * too: it is its own first. */
static inline const char *wrong_in(const struct file *file, const char *text, size_t bytes, const struct truth *truth,
				   const struct moment *before, const struct moment *after, shown_numbers *shown)
{
	const char *reason = NULL;

	if (memchr(text, '\0', bytes) != NULL)
		return "a NUL byte";
	if (bytes == 0 ? starts_with(file->path, "proc/") : text[bytes - 1] != '\n')
		return "it does not end with a line";
	switch (file->kind) {
	case MEMINFO: reason = wrong_in_meminfo(text, truth); break;
	case NODE_MEMINFO: reason = wrong_in_node(text, truth); break;
	case STAT: reason = wrong_in_stat(text, truth, before, after); break;
	case CPUINFO: reason = wrong_in_cpuinfo(text, truth); break;
	case UPTIME: reason = wrong_in_uptime(text, truth, before, after); break;
	case LOADAVG: reason = wrong_in_loadavg(text); break;
	case SWAPS: reason = wrong_in_swaps(text); break;
	case ONLINE: reason = wrong_in_online(text, truth); break;
	default: break;
	}
	if (reason != NULL)
		return reason;
	if (file->kind == CONSTANT && (bytes != file->first_bytes || memcmp(text, file->first, bytes) != 0))
		return "not what it was at first";
	return differs(file, text, shown != NULL && file->kind < COUNTING ? (*shown)[file->kind] : NULL);
}

#endif
