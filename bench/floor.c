/*
 * The floor of FUSE: the least a file system in user space can cost, to hold the others against.
 *
 * One thread reads /dev/fuse and answers at once with bytes it copied from the host's files when it started:
 * no library, no look-up of the caller, no rendering. What a reader pays here is the kernel's FUSE code and the
 * switches between two processes; what another file system costs above it is its own doing.
 *
 * Usage: floor MOUNTPOINT FILE...      (FILE: proc/meminfo, ...; its bytes are those of /proc/meminfo, ...)
 *
 * Touches: MOUNTPOINT, until SIGTERM or SIGINT; reads each /FILE once.
 *
 * Protocol: linux/fuse.h, and Documentation/filesystems/fuse/fuse.rst of the kernel (there the mount options fd=,
 * rootmode=, user_id=, group_id=, allow_other). Used of it: INIT, LOOKUP, GETATTR, OPEN (FOPEN_DIRECT_IO), READ and
 * RELEASE; all else gets ENOSYS, which also stops the kernel from sending FLUSH ever again. FORGET and BATCH_FORGET have
 * no reply.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_NODES = 64, MAX_CONTENT = 1 << 20, REQUEST_BYTES = 1 << 18 };

/* As long as the field allows, within reason: the tree never changes, so the kernel need not ask twice. */
static const uint64_t ONE_YEAR_S = 365 * 24 * 3600;

struct node {
	char name[64];
	uint64_t parent; /* inode number; a node's own number is its index, the root's is FUSE_ROOT_ID */
	char *content;   /* NULL: a directory */
	size_t size;
};

static struct node nodes[MAX_NODES];
static uint64_t node_count = FUSE_ROOT_ID + 1;
static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t find_child(uint64_t parent, const char *name)
{
	for (uint64_t i = FUSE_ROOT_ID + 1; i < node_count; i++)
		if (nodes[i].parent == parent && strcmp(nodes[i].name, name) == 0)
			return i;
	return 0;
}

static uint64_t add_child(uint64_t parent, const char *name)
{
	if (node_count == MAX_NODES || strlen(name) >= sizeof nodes[0].name) {
		errno = ENAMETOOLONG;
		die(name);
	}
	strcpy(nodes[node_count].name, name);
	nodes[node_count].parent = parent;
	return node_count++;
}

/* Procfs says size 0: read until the end. */
static void load(struct node *node, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	node->content = malloc(MAX_CONTENT);
	if (fd < 0 || node->content == NULL)
		die(path);
	while ((got = read(fd, node->content + node->size, MAX_CONTENT - node->size)) > 0)
		node->size += (size_t)got;
	if (got < 0)
		die(path);
	close(fd);
}

static void add_file(const char *relative)
{
	char path[256], parts[256], *rest = parts, *part;
	uint64_t at = FUSE_ROOT_ID;

	if (snprintf(path, sizeof path, "/%s", relative) >= (int)sizeof path) {
		errno = ENAMETOOLONG;
		die(relative);
	}
	strcpy(parts, path + 1);
	while ((part = strsep(&rest, "/")) != NULL) {
		uint64_t child = find_child(at, part);
		at = child ? child : add_child(at, part);
	}
	load(&nodes[at], path);
}

static void fill_attr(uint64_t ino, struct fuse_attr *attr)
{
	memset(attr, 0, sizeof *attr);
	attr->ino = ino;
	attr->mode = nodes[ino].content ? S_IFREG | 0444 : S_IFDIR | 0555;
	attr->nlink = 1;
	attr->blksize = 4096;
}

/* One reply is one writev: a header and at most one body. */
static void reply(int fuse, uint64_t unique, int error, const void *body, size_t size)
{
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof header + size),
		.error = -error,
		.unique = unique,
	};
	struct iovec parts[2] = {
		{.iov_base = &header, .iov_len = sizeof header},
		{.iov_base = (void *)(uintptr_t)body, .iov_len = size},
	};

	/* ENOENT: the request was interrupted and nobody waits for it any more. */
	if (writev(fuse, parts, size ? 2 : 1) < 0 && errno != ENOENT)
		die("reply");
}

static void answer_init(int fuse, const struct fuse_in_header *in, const struct fuse_init_in *init)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = init->minor < FUSE_KERNEL_MINOR_VERSION ? init->minor : FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = init->max_readahead,
		.max_write = 4096,
		.max_background = 16,
		.congestion_threshold = 12,
		.time_gran = 1,
	};

	if (init->major != FUSE_KERNEL_VERSION) {
		errno = EPROTO;
		die("FUSE major version");
	}
	reply(fuse, in->unique, 0, &out, sizeof out);
}

static void answer_lookup(int fuse, const struct fuse_in_header *in, const char *name)
{
	struct fuse_entry_out out = {.entry_valid = ONE_YEAR_S, .attr_valid = ONE_YEAR_S};
	uint64_t ino = find_child(in->nodeid, name);

	if (ino == 0) {
		reply(fuse, in->unique, ENOENT, NULL, 0);
		return;
	}
	out.nodeid = ino;
	fill_attr(ino, &out.attr);
	reply(fuse, in->unique, 0, &out, sizeof out);
}

static void answer_getattr(int fuse, const struct fuse_in_header *in)
{
	struct fuse_attr_out out = {.attr_valid = ONE_YEAR_S};

	fill_attr(in->nodeid, &out.attr);
	reply(fuse, in->unique, 0, &out, sizeof out);
}

static void answer_open(int fuse, const struct fuse_in_header *in)
{
	struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};

	reply(fuse, in->unique, 0, &out, sizeof out);
}

static void answer_read(int fuse, const struct fuse_in_header *in, const struct fuse_read_in *asked)
{
	const struct node *node = &nodes[in->nodeid];
	size_t size = 0;

	if (asked->offset < node->size) {
		size = node->size - (size_t)asked->offset;
		if (size > asked->size)
			size = asked->size;
	}
	reply(fuse, in->unique, 0, size ? node->content + asked->offset : NULL, size);
}

static void answer(int fuse, const char *request)
{
	const struct fuse_in_header *in = (const void *)request;
	const char *body = request + sizeof *in;

	if (in->opcode != FUSE_INIT && in->nodeid >= node_count) {
		reply(fuse, in->unique, ESTALE, NULL, 0);
		return;
	}
	switch (in->opcode) {
	case FUSE_INIT:
		answer_init(fuse, in, (const void *)body);
		break;
	case FUSE_LOOKUP:
		answer_lookup(fuse, in, body);
		break;
	case FUSE_GETATTR:
		answer_getattr(fuse, in);
		break;
	case FUSE_OPEN:
		answer_open(fuse, in);
		break;
	case FUSE_READ:
		answer_read(fuse, in, (const void *)body);
		break;
	case FUSE_RELEASE:
		reply(fuse, in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(fuse, in->unique, ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	/* No SA_RESTART: a signal has to end the read of /dev/fuse. */
	struct sigaction action = {.sa_handler = stop};
	static char request[REQUEST_BYTES] __attribute__((aligned(16)));
	char options[128];
	int fuse;

	if (argc < 3) {
		fprintf(stderr, "usage: floor MOUNTPOINT FILE...\n");
		return 2;
	}
	for (int i = 2; i < argc; i++)
		add_file(argv[i]);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		die("/dev/fuse");
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
	if (mount("procview-bench-floor", argv[1], "fuse", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
		die("mount");
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	while (!stopping) {
		if (read(fuse, request, sizeof request) >= 0)
			answer(fuse, request);
		else if (errno == ENODEV) /* unmounted by somebody else */
			return 0;
		else if (errno != EINTR && errno != ENOENT && errno != EAGAIN)
			die("read /dev/fuse");
	}
	umount2(argv[1], MNT_DETACH);
	return 0;
}
