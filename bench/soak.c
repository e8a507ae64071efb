/*
 * Containers whose callers read without a pause, check every byte (soak_check.h), and are killed in mid-request.
 *
 * Each container is a pid namespace of its own, in cgroups of its own. Its first process finds the files, starts
 * readers, and kills one of them at random moments. A reader reads files in random order: at once, in odd pieces, some
 * slices once more, or again and again through one open file. The first of a container's readers has several threads.
 *
 * Arguments: the mount, then the folders of cgroups that have the containers' own, n0, n1, ..., below them. Commands
 * come one a line on standard input; each answer is a line of JSON.
 *
 *   start KB CPUS   one more container, and what it must see: its limit of memory, its number of CPUs
 *   read N          until all containers together have read N times; a line each second, and one with "over": true
 *   once            every file once, by the first process of each container
 *   reports         the first of what was wrong, with texts
 *
 *   soak check KB CPUS PATH TEXT...   starts no container: whether these files can be what PATH said, one after the
 *                                     other; the status is 1, and a line says why, where not
 *
 * What a reader has counted stays when it is killed: it is in shared memory. At the end of its input, and by SIGTERM,
 * the containers are ended; they die with this process, too. Touches: the cgroups' lists of processes, and reads the
 * mount.
 */
#define _GNU_SOURCE
#include "soak_container.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { PATIENCE_SECONDS = 60 };

static struct {
	pid_t pid;
	int socket;
} containers[MAX_CONTAINERS];
static long container_count;

static int print_error(const char *what, long container, const char *why)
{
	printf("{\"error\": \"%s %ld: %s\"}\n", what, container, why);
	return 1;
}

static int command_start(uint64_t memory_kb, int cpus)
{
	long number = container_count, child, answer = 0;
	int sockets[2];

	if (number == MAX_CONTAINERS)
		return print_error("container", number, "too many");
	self.truth.memory_kb = memory_kb;
	self.truth.cpus = cpus;
	fflush(stdout);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return failed("socketpair");
	child = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
	if (child < 0)
		return failed("clone");
	if (child == 0) {
		close(sockets[0]);
		live(number, sockets[1]);
	}
	close(sockets[1]);
	containers[number].pid = (pid_t)child;
	containers[number].socket = sockets[0];
	container_count++;
	if (read(sockets[0], &answer, sizeof answer) <= 0)
		return print_error("container", number, "it has ended");
	if (answer < 0)
		return print_error("container", number, strerror((int)-answer));
	printf("{\"files\": %ld}\n", answer);
	return 0;
}

static void print_progress(bool over)
{
	bool first = true;

	printf("{\"reads\": %lu, \"requests\": %lu, \"looked_up\": %lu, \"listings\": %lu, \"killed\": %lu, "
	       "\"killed_asking\": %lu, \"wrong\": %lu, \"failed\": {",
	       shared->reads, shared->requests, shared->looked_up, shared->listings, shared->killed,
	       shared->killed_asking, shared->wrong);
	for (int error = 0; error < MAX_ERRNO; error++) {
		uint64_t count = atomic_load(&shared->failed[error]);

		if (count == 0)
			continue;
		printf("%s\"%s\": %lu", first ? "" : ", ", error ? strerrorname_np(error) : "?", count);
		first = false;
	}
	printf("}, \"over\": %s}\n", over ? "true" : "false");
	fflush(stdout);
}

/* Tell all containers, and wait for their answers. */
static int command_all(long order)
{
	struct pollfd waiting[MAX_CONTAINERS];
	long left = container_count;
	uint64_t moved_ns = now_ns(), printed_ns = moved_ns, ended = 0;

	for (long i = 0; i < container_count; i++) {
		waiting[i] = (struct pollfd){containers[i].socket, POLLIN, 0};
		if (write(containers[i].socket, &order, sizeof order) < 0)
			return failed("a container");
	}
	while (left > 0) {
		long answer;

		poll(waiting, (nfds_t)container_count, 200);
		for (long i = 0; i < container_count; i++) {
			if (!waiting[i].revents)
				continue;
			if (read(waiting[i].fd, &answer, sizeof answer) <= 0)
				return print_error("container", i, "it has ended");
			waiting[i].fd = -1; /* poll passes it over */
			waiting[i].revents = 0;
			left--;
		}
		if (atomic_load(&shared->ended) != ended) {
			ended = atomic_load(&shared->ended);
			moved_ns = now_ns();
		}
		if (now_ns() - moved_ns > PATIENCE_SECONDS * 1000000000ull)
			return print_error("no read has ended for seconds:", PATIENCE_SECONDS, "the file system hangs");
		if (left > 0 && now_ns() - printed_ns > 1000000000u) {
			printed_ns = now_ns();
			print_progress(false);
		}
	}
	print_progress(true);
	return 0;
}

static void print_quoted(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text < ' ' || *text == '"' || *text == '\\' || *text > '~')
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	putchar('"');
}

static int command_reports(void)
{
	bool first = true;

	printf("{\"reports\": [");
	for (int i = 0; i < MAX_REPORTS; i++) {
		const struct report *report = &shared->reports[i];

		if (!atomic_load(&report->complete))
			continue;
		printf("%s{\"container\": %ld, \"path\": ", first ? "" : ", ", report->container);
		print_quoted(report->path);
		printf(", \"why\": ");
		print_quoted(report->why);
		printf(", \"text\": ");
		print_quoted(report->text);
		putchar('}');
		first = false;
	}
	printf("]}\n");
	return 0;
}

static int run(char *line)
{
	unsigned long number;
	int cpus;

	if (sscanf(line, "start %lu %d", &number, &cpus) == 2)
		return command_start(number, cpus);
	if (sscanf(line, "read %lu", &number) == 1) {
		atomic_store(&shared->goal, number);
		return command_all(container_count);
	}
	if (strcmp(line, "once\n") == 0)
		return command_all(0);
	if (strcmp(line, "reports\n") == 0)
		return command_reports();
	errno = EINVAL;
	return failed("command");
}

/* In the middle of a command, too; nothing but calls that a handler of signals may make. */
static void end_all(int number)
{
	for (long i = 0; i < container_count; i++)
		kill(containers[i].pid, SIGKILL);
	for (long i = 0; i < container_count; i++)
		waitpid(containers[i].pid, NULL, 0);
	_exit(number ? 128 + number : 0);
}

/* check KB CPUS PATH TEXT...: the time of a text and the CPU time at it are not known. */
static int check_texts(int count, char **word)
{
	struct file file = {word[2], kind_of(word[2]), NULL, 0};
	struct truth truth = {strtoull(word[0], NULL, 10), atoi(word[1]), 1, 0};
	const struct moment before = {0, UINT64_MAX}, after = {UINT64_MAX, UINT64_MAX};
	static shown_numbers shown;

	for (int i = 3; i < count; i++) {
		long bytes = read_file(word[i]);
		const char *why;

		if (bytes < 0 || bytes >= BUFFER_BYTES)
			return failed(word[i]);
		buffer[bytes] = '\0';
		if (file.first == NULL) {
			file.first = memcpy(malloc((size_t)bytes + 1), buffer, (size_t)bytes + 1);
			file.first_bytes = (size_t)bytes;
		}
		why = wrong_in(&file, buffer, (size_t)bytes, &truth, &before, &after, &shown);
		if (why != NULL) {
			printf("%s\n", why);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	char line[256];

	if (argc >= 6 && strcmp(argv[1], "check") == 0)
		return check_texts(argc - 2, argv + 2);
	if (argc < 3)
		return 2;
	mount_point = argv[1];
	groups = argv + 2;
	group_count = argc - 2;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return failed("mmap");
	signal(SIGTERM, end_all);
	signal(SIGINT, SIG_IGN); /* of a terminal: who gives us our input ends it */
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	while (fgets(line, sizeof line, stdin) != NULL) {
		run(line);
		fflush(stdout);
	}
	end_all(0);
}
