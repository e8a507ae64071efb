/*
 * A container of soak.c, from inside: its first process goes to its cgroups, finds the files, starts readers and kills
 * them.
 */
#ifndef PROCVIEW_BENCH_SOAK_CONTAINER_H
#define PROCVIEW_BENCH_SOAK_CONTAINER_H

#include "soak_read.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char **groups;
static int group_count;

static int open_in_group(int group, const char *name, int flags)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/n%ld/%s", groups[group], self.number, name);
	return open(path, flags | O_CLOEXEC);
}

static int join_groups(void)
{
	self.usage_fds[0] = self.usage_fds[1] = -1;
	for (int i = 0; i < group_count; i++) {
		int fd = open_in_group(i, "cgroup.procs", O_WRONLY);

		if (fd < 0 || write(fd, "0", 1) != 1)
			return -1;
		close(fd);
		/* As v1's stat is made of: counted by ticks. cpuacct.usage is exact, and may be far from it. */
		fd = open_in_group(i, "cpuacct.usage_user", O_RDONLY);
		if (fd >= 0) {
			self.usage_fds[0] = fd;
			self.usage_fds[1] = open_in_group(i, "cpuacct.usage_sys", O_RDONLY);
		}
	}
	if (group_count == 1 && self.usage_fds[0] < 0) /* v2 */
		self.usage_fds[0] = open_in_group(0, "cpu.stat", O_RDONLY);
	return 0;
}

static int read_birth(void)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	char *at;

	if (got < 0)
		return -1;
	close(fd);
	text[got] = '\0';
	at = strrchr(text, ')');
	for (int field = 2; field < 22 && at != NULL; field++)
		at = strchr(at + 1, ' ');
	if (at == NULL)
		return errno = EINVAL, -1;
	self.truth.born_hundredths = strtoull(at, NULL, 10) * 100 / (uint64_t)sysconf(_SC_CLK_TCK);
	return 0;
}

/* Whether the host's own file cannot be read either: which of its CPUs it is makes no difference to that. */
static bool fails_on_host(const char *path)
{
	char host[512];

	snprintf(host, sizeof host, "/%s", path);
	return starts_with(path, "sys/") && read_file(host) < 0;
}

static int add_file(const char *path)
{
	struct file *file = &self.files[self.file_count];
	char text[TEXT_BYTES];
	int error;

	if (self.file_count == MAX_FILES)
		return errno = ENFILE, -1;
	*file = (struct file){strdup(path), kind_of(path), NULL, 0};
	if (read_file_somehow(file, text) == 0) {
		self.file_count++;
		return 0;
	}
	error = errno;
	if (fails_on_host(path))
		return 0;
	errno = error;
	return -1;
}

/* The folder and what is below it; "" is the mount. */
static int find_files(const char *folder)
{
	char path[1024];
	struct dirent *entry;
	DIR *listing;

	snprintf(path, sizeof path, "%s/%s", mount_point, folder);
	listing = opendir(path);
	if (listing == NULL)
		return -1;
	while ((entry = readdir(listing)) != NULL) {
		char below_mount[512];
		struct stat status;
		int result = 0;

		if (*entry->d_name == '.')
			continue;
		snprintf(below_mount, sizeof below_mount, "%s%s%s", folder, *folder ? "/" : "", entry->d_name);
		snprintf(path, sizeof path, "%s/%s", mount_point, below_mount);
		if (lstat(path, &status) < 0)
			return -1;
		if (S_ISDIR(status.st_mode))
			result = find_files(below_mount);
		else if (S_ISREG(status.st_mode))
			result = add_file(below_mount);
		if (result < 0)
			return closedir(listing), -1;
	}
	closedir(listing);
	return 0;
}

/* How many there are says what must be in their files. */
static int count_nodes(void)
{
	char path[512];
	struct dirent *entry;
	DIR *listing;

	snprintf(path, sizeof path, "%s/" NODE_FOLDER, mount_point);
	listing = opendir(path);
	if (listing == NULL)
		return errno == ENOENT ? 0 : -1;
	while ((entry = readdir(listing)) != NULL)
		self.truth.nodes += starts_with(entry->d_name, "node") && is_digit(entry->d_name[4]);
	closedir(listing);
	return 0;
}

/* Whose names are the same for everyone: the kernel caches them. */
static bool is_quick(const struct file *file)
{
	return file->kind == ONLINE || (starts_with(file->path, "proc/") && !starts_with(file->path, "proc/pressure/"));
}

static int find_all_files(void)
{
	if (find_files("proc") < 0)
		return -1;
	if (find_files(CPU_FOLDER) < 0 || count_nodes() < 0)
		return -1;
	if (self.truth.nodes > 0 && find_files(NODE_FOLDER) < 0)
		return -1;
	for (int i = 0; i < self.file_count; i++)
		if (is_quick(&self.files[i])) {
			struct file quick = self.files[i];

			self.files[i] = self.files[self.quick_count];
			self.files[self.quick_count++] = quick;
		}
	return 0;
}

static pid_t start_reader(int number)
{
	struct place *places = shared->places[self.number];
	pid_t child = fork();

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (number == 0)
		for (int i = 1; i < THREADS; i++) {
			pthread_t thread;

			if (pthread_create(&thread, NULL, read_for_ever, &places[READERS + i - 1]) != 0)
				_exit(1);
		}
	read_for_ever(&places[number]);
	_exit(1);
}

static void end_reader(pid_t reader, int number)
{
	struct place *places = shared->places[self.number];
	int status = 0, asking;

	if (reader < 0) {
		report_failed("fork", EAGAIN);
		return;
	}
	kill(reader, SIGKILL);
	waitpid(reader, &status, 0);
	asking = atomic_exchange(&places[number].asking, 0);
	for (int i = 1; number == 0 && i < THREADS; i++)
		asking |= atomic_exchange(&places[READERS + i - 1].asking, 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		atomic_fetch_add(&shared->killed, 1);
	else
		report_failed("a reader ended by itself", ECHILD);
	if (asking)
		atomic_fetch_add(&shared->killed_asking, 1);
}

static void keep_reading(long crowd)
{
	pid_t readers[READERS];

	for (int i = 0; i < READERS; i++)
		readers[i] = start_reader(i);
	while (atomic_load(&shared->ended) < atomic_load(&shared->goal)) {
		int victim = (int)below(READERS);

		/* So often that all containers together kill some hundred a second. */
		usleep((useconds_t)below(4000 * (uint64_t)crowd + 4000));
		end_reader(readers[victim], victim);
		readers[victim] = start_reader(victim);
	}
	for (int i = 0; i < READERS; i++)
		end_reader(readers[i], i);
}

static void read_all_once(void)
{
	char text[TEXT_BYTES];

	for (int i = 0; i < self.file_count; i++)
		if (read_file_somehow(&self.files[i], text) < 0)
			report_failed(self.files[i].path, errno);
}

static void live(long number, int socket)
{
	long order = 0, answer = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	self.number = number;
	me = &shared->places[number][INIT];
	chance = now_ns() + (uint64_t)number;
	if (join_groups() < 0 || read_birth() < 0 || find_all_files() < 0)
		answer = -errno;
	else
		answer = self.file_count;
	/* An order is how many containers read for the goal; 0: everything once. */
	while (write(socket, &answer, sizeof answer) == sizeof answer && read(socket, &order, sizeof order) > 0)
		if (order > 0)
			keep_reading(order);
		else
			read_all_once();
	_exit(0);
}

#endif
