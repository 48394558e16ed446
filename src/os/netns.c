/* Network namespaces by file descriptor.
 *
 * Whatever has to happen inside a namespace happens on a helper thread that enters it, does the one
 * thing and ends: the calling thread is never anywhere else than it was, not even for a moment and
 * not on failure, because setns moves a thread and not the process. Interfaces are made with
 * rtnetlink and the interface ioctls: starting `ip` for each would cost 120 nodes seconds. */
#include "os/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"

enum {
	REQUEST_BYTES = 1024, /* the largest request, a veth pair, takes under 200 */
	PATH_BYTES = 256,
	EXIT_CANNOT_EXEC = 127
};

/* ---- on a helper thread ---- */

struct call {
	int netns_fd; /* -1: a new namespace */
	int (*inside)(void *arg);
	void *arg;
	int result;
};

static void *call_thread(void *arg)
{
	struct call *call = arg;
	int failed =
		call->netns_fd < 0 ? unshare(CLONE_NEWNET) : setns(call->netns_fd, CLONE_NEWNET);

	call->result = failed ? -errno : call->inside(call->arg);
	return NULL;
}

static int call_run(struct call *call)
{
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, call_thread, call);

	if (rc != 0)
		return -rc;
	rc = pthread_join(thread, NULL);
	HAUL_ASSERT(rc == 0);
	return call->result;
}

int netns_call(int netns_fd, int (*inside)(void *arg), void *arg)
{
	struct call call = { .netns_fd = netns_fd, .inside = inside, .arg = arg };

	HAUL_ASSERT(netns_fd >= 0);
	HAUL_ASSERT(inside != NULL);
	return call_run(&call);
}

int netns_enter(int netns_fd)
{
	HAUL_ASSERT(netns_fd >= 0);
	return setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

/* ---- interface flags and MTU ---- */

struct up {
	const char *ifname;
	uint32_t mtu_bytes; /* 0 = as it is */
};

static int up_ioctls(int fd, const struct up *up)
{
	struct ifreq request = { 0 };

	if (strlen(up->ifname) >= sizeof request.ifr_name || up->mtu_bytes > INT32_MAX)
		return -EINVAL;
	memcpy(request.ifr_name, up->ifname, strlen(up->ifname));
	if (up->mtu_bytes > 0) {
		request.ifr_mtu = (int)up->mtu_bytes;
		if (ioctl(fd, SIOCSIFMTU, &request) < 0)
			return -errno;
	}
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int up_inside(void *arg)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = up_ioctls(fd, arg);
	close(fd);
	return rc;
}

int netns_up(int netns_fd, const char *ifname, uint32_t mtu_bytes, struct haul_err *err)
{
	struct up up = { .ifname = ifname, .mtu_bytes = mtu_bytes };
	int rc = netns_call(netns_fd, up_inside, &up);

	if (rc < 0)
		return haul_err_set(err, rc, "set interface %s up with MTU %u: %s", ifname,
				    mtu_bytes, haul_strerror(rc));
	return 0;
}

/* ---- a new namespace ---- */

static int open_inside(void *arg)
{
	struct up lo = { .ifname = "lo" };
	int *fd = arg;
	int rc;

	*fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return -errno;
	rc = up_inside(&lo);
	if (rc < 0)
		close(*fd);
	return rc;
}

int netns_open(struct haul_err *err)
{
	int fd = -1;
	struct call call = { .netns_fd = -1, .inside = open_inside, .arg = &fd };
	int rc = call_run(&call);

	if (rc == -EPERM)
		return haul_err_set(err, rc,
				    "make a network namespace: needs root "
				    "(CAP_SYS_ADMIN and CAP_NET_ADMIN)");
	if (rc < 0)
		return haul_err_set(err, rc, "make a network namespace: %s", haul_strerror(rc));
	HAUL_ASSERT(fd >= 0);
	return fd;
}

/* ---- rtnetlink ---- */

struct request {
	_Alignas(NLMSG_ALIGNTO) uint8_t bytes[REQUEST_BYTES];
	uint32_t len;
};

static void *request_reserve(struct request *request, size_t bytes)
{
	uint32_t at = NLMSG_ALIGN(request->len);

	HAUL_ASSERT(at + bytes <= REQUEST_BYTES);
	request->len = at + (uint32_t)bytes;
	return request->bytes + at;
}

static void request_begin(struct request *request, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *header;

	memset(request, 0, sizeof *request);
	header = request_reserve(request, sizeof *header);
	header->nlmsg_type = type;
	header->nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST | NLM_F_ACK);
}

static struct rtattr *request_attr(struct request *request, uint16_t type, const void *value,
				   size_t bytes)
{
	struct rtattr *attr = request_reserve(request, RTA_LENGTH(bytes));

	attr->rta_type = type;
	attr->rta_len = (uint16_t)RTA_LENGTH(bytes);
	if (bytes > 0)
		memcpy(RTA_DATA(attr), value, bytes);
	return attr;
}

/* All that was appended since request_attr(…, NULL, 0) becomes the inside of that attribute. */
static void request_nest_end(struct request *request, struct rtattr *nest)
{
	nest->rta_len = (uint16_t)(request->bytes + request->len - (uint8_t *)nest);
}

/* Send and wait for the kernel's verdict, which rtnetlink gives before send returns. */
static int request_exchange(int fd, struct request *request)
{
	struct nlmsghdr *header = (void *)request->bytes;
	_Alignas(NLMSG_ALIGNTO) uint8_t answer[4 * REQUEST_BYTES];
	struct nlmsghdr *reply = (void *)answer;
	const struct nlmsgerr *verdict = NLMSG_DATA(reply);
	ssize_t got;

	header->nlmsg_len = request->len;
	if (send(fd, request->bytes, request->len, 0) < 0)
		return -errno;
	got = recv(fd, answer, sizeof answer, 0);
	if (got < 0)
		return -errno;
	if ((size_t)got < NLMSG_LENGTH(sizeof *verdict) || reply->nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return verdict->error;
}

static int request_run(struct request *request)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int rc;

	if (fd < 0)
		return -errno;
	rc = request_exchange(fd, request);
	close(fd);
	return rc;
}

/* ---- veth ---- */

struct veth {
	const char *a_name;
	const char *b_name;
	int b_fd;
	uint32_t mtu_bytes;
};

static int veth_inside(void *arg)
{
	const struct veth *veth = arg;
	struct request request;
	struct rtattr *info;
	struct rtattr *data;
	struct rtattr *peer;

	request_begin(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	request_reserve(&request, sizeof(struct ifinfomsg));
	request_attr(&request, IFLA_IFNAME, veth->a_name, strlen(veth->a_name) + 1);
	request_attr(&request, IFLA_MTU, &veth->mtu_bytes, sizeof veth->mtu_bytes);
	info = request_attr(&request, IFLA_LINKINFO, NULL, 0);
	request_attr(&request, IFLA_INFO_KIND, "veth", sizeof "veth");
	data = request_attr(&request, IFLA_INFO_DATA, NULL, 0);
	peer = request_attr(&request, VETH_INFO_PEER, NULL, 0);
	request_reserve(&request, sizeof(struct ifinfomsg));
	request_attr(&request, IFLA_IFNAME, veth->b_name, strlen(veth->b_name) + 1);
	request_attr(&request, IFLA_MTU, &veth->mtu_bytes, sizeof veth->mtu_bytes);
	request_attr(&request, IFLA_NET_NS_FD, &veth->b_fd, sizeof veth->b_fd);
	request_nest_end(&request, peer);
	request_nest_end(&request, data);
	request_nest_end(&request, info);
	return request_run(&request);
}

int netns_veth(int a_fd, const char *a_name, int b_fd, const char *b_name, uint32_t mtu_bytes,
	       struct haul_err *err)
{
	struct veth veth = { .a_name = a_name, .b_name = b_name, .b_fd = b_fd };
	int rc;

	HAUL_ASSERT(strlen(a_name) < IFNAMSIZ);
	HAUL_ASSERT(strlen(b_name) < IFNAMSIZ);
	veth.mtu_bytes = mtu_bytes;
	rc = netns_call(a_fd, veth_inside, &veth);
	if (rc < 0)
		return haul_err_set(err, rc, "make veth pair %s, %s with MTU %u: %s", a_name,
				    b_name, mtu_bytes, haul_strerror(rc));
	rc = netns_up(a_fd, a_name, 0, err);
	return rc < 0 ? rc : netns_up(b_fd, b_name, 0, err);
}

/* ---- addresses ---- */

struct address {
	const char *ifname;
	int family;
	uint8_t bytes[16];
	uint8_t prefix_bits;
};

static int address_inside(void *arg)
{
	const struct address *address = arg;
	size_t bytes = address->family == AF_INET ? 4 : 16;
	unsigned int index = if_nametoindex(address->ifname);
	struct request request;
	struct ifaddrmsg *body;

	if (index == 0)
		return -ENODEV;
	request_begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
	body = request_reserve(&request, sizeof *body);
	body->ifa_family = (uint8_t)address->family;
	body->ifa_prefixlen = address->prefix_bits;
	/* Without NODAD an IPv6 address is of no use for its first second. */
	body->ifa_flags = address->family == AF_INET ? 0 : IFA_F_NODAD;
	body->ifa_index = index;
	request_attr(&request, IFA_LOCAL, address->bytes, bytes);
	request_attr(&request, IFA_ADDRESS, address->bytes, bytes);
	return request_run(&request);
}

static int address_parse(const char *cidr, struct address *ret_address)
{
	struct address address = { 0 };
	const char *slash = strchr(cidr, '/');
	char text[INET6_ADDRSTRLEN];
	char *end = NULL;
	unsigned long bits;

	if (slash == NULL || (size_t)(slash - cidr) >= sizeof text)
		return -EINVAL;
	memcpy(text, cidr, (size_t)(slash - cidr));
	text[slash - cidr] = '\0';
	address.family = strchr(text, ':') == NULL ? AF_INET : AF_INET6;
	if (inet_pton(address.family, text, address.bytes) != 1)
		return -EINVAL;
	bits = strtoul(slash + 1, &end, 10);
	if (end == slash + 1 || *end != '\0' || bits > (address.family == AF_INET ? 32 : 128))
		return -EINVAL;
	address.prefix_bits = (uint8_t)bits;
	*ret_address = address;
	return 0;
}

int netns_address(int netns_fd, const char *ifname, const char *cidr, struct haul_err *err)
{
	struct address address;
	int rc = address_parse(cidr, &address);

	if (rc < 0)
		return haul_err_set(err, rc,
				    "address \"%s\" of %s: want an IPv4 or IPv6 address "
				    "with prefix, as in 10.0.0.1/24",
				    cidr, ifname);
	address.ifname = ifname;
	rc = netns_call(netns_fd, address_inside, &address);
	if (rc < 0)
		return haul_err_set(err, rc, "address %s onto %s: %s", cidr, ifname,
				    haul_strerror(rc));
	return 0;
}

/* ---- sysctl ---- */

struct sysctl {
	const char *path;
	const char *value;
};

/* /proc/sys/net shows the namespace of the thread that opens a file in it. */
static int sysctl_inside(void *arg)
{
	static const char root[] = "/proc/sys/net/";
	const struct sysctl *sysctl = arg;
	size_t path_bytes = strlen(sysctl->path) + 1;
	size_t value_bytes = strlen(sysctl->value);
	char path[PATH_BYTES];
	int fd;
	int rc = 0;

	if (sizeof root - 1 + path_bytes > sizeof path)
		return -ENAMETOOLONG;
	memcpy(path, root, sizeof root - 1);
	memcpy(path + sizeof root - 1, sysctl->path, path_bytes);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, sysctl->value, value_bytes) != (ssize_t)value_bytes)
		rc = -errno;
	close(fd);
	return rc;
}

int netns_sysctl(int netns_fd, const char *path, const char *value, struct haul_err *err)
{
	struct sysctl sysctl = { .path = path, .value = value };
	int rc = netns_call(netns_fd, sysctl_inside, &sysctl);

	if (rc < 0)
		return haul_err_set(err, rc, "write \"%s\" to /proc/sys/net/%s: %s", value, path,
				    haul_strerror(rc));
	return 0;
}

/* ---- processes ---- */

struct spawn {
	int netns_fd;
	int out_fd;
	int report_fd; /* closes at exec; an errno is written to it when anything fails */
	pid_t parent;
	/* execvp wants it without the inner const, and writes to none of it. */
	union {
		const char *const *given;
		char *const *exec;
	} argv;
};

/* In the child of a process that may have threads: async-signal-safe calls only. */
static int spawn_prepare(const struct spawn *spawn)
{
	sigset_t none;
	int null_fd;

	/* In a group of its own, so that Ctrl-C reaches us and not it: we end it in our order. */
	if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	/* Died before prctl took effect: nobody would tell us. */
	if (getppid() != spawn->parent)
		return -ECHILD;
	if (setns(spawn->netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
		return -errno;
	if (spawn->out_fd < 0)
		return 0;
	if (dup2(spawn->out_fd, STDOUT_FILENO) < 0 || dup2(spawn->out_fd, STDERR_FILENO) < 0)
		return -errno;
	return 0;
}

static _Noreturn void spawn_child(const struct spawn *spawn)
{
	int rc = spawn_prepare(spawn);

	if (rc == 0) {
		execvp(spawn->argv.given[0], spawn->argv.exec);
		rc = -errno;
	}
	/* A parent that is gone reads no report: nothing is left to do about a failed write. */
	if (write(spawn->report_fd, &rc, sizeof rc) < 0)
		_exit(EXIT_CANNOT_EXEC);
	_exit(EXIT_CANNOT_EXEC);
}

static int spawn_fork(struct spawn *spawn)
{
	int report[2];
	int failure = 0;
	ssize_t got;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	spawn->report_fd = report[1];
	spawn->parent = getpid();
	pid = fork();
	if (pid == 0)
		spawn_child(spawn);
	failure = pid < 0 ? -errno : 0;
	close(report[1]);
	if (pid > 0) {
		do {
			got = read(report[0], &failure, sizeof failure);
		} while (got < 0 && errno == EINTR);
		/* Nothing came: exec closed the pipe. */
		if (got > 0)
			while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
				;
	}
	close(report[0]);
	return failure < 0 ? failure : pid;
}

int netns_spawn(int netns_fd, const char *const argv[], int out_fd, struct haul_err *err)
{
	struct spawn spawn = { .netns_fd = netns_fd, .out_fd = out_fd };
	int rc;

	HAUL_ASSERT(netns_fd >= 0);
	HAUL_ASSERT(argv[0] != NULL);
	spawn.argv.given = argv;
	rc = spawn_fork(&spawn);
	if (rc < 0)
		return haul_err_set(err, rc, "start %s: %s", argv[0], haul_strerror(rc));
	return rc;
}
