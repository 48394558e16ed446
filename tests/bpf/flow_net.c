#include "bpf/flow_net.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "os/netns.h"

enum { WAIT_ATTEMPTS = 1000, WAIT_MS = 10, CHUNK_BYTES = 65536, TCX_INGRESS = 46, TCX_EGRESS = 47 };

static const char veth[] = "veth0";
static const char *const addr4[FLOW_NET_SIDES] = { "10.9.0.1", "10.9.0.2" };
static const char *const addr6[FLOW_NET_SIDES] = { "fd09::1", "fd09::2" };

/* ---- the lab ---- */

static void skip_without_bpf(void)
{
	int fd = geteuid() == 0 ? bpf_map_create(BPF_MAP_TYPE_HASH, "flow_net", 4, 4, 1, NULL) : -1;
	if (fd < 0)
		test_skip("needs root and BPF");
	close(fd);
}

static void sysctls(int netns_fd)
{
	static const char *const values[][2] = {
		{ "ipv6/conf/default/accept_dad", "0" },
		{ "ipv6/conf/default/router_solicitations", "0" },
		{ "ipv6/conf/default/autoconf", "0" },
		/* a machine that is slow is no reason to send anything twice (kernels before 6.11
		 * have only the first of the two) */
		{ "ipv4/tcp_early_retrans", "0" },
		{ "ipv4/tcp_rto_min_us", "5000000" },
	};
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		(void)netns_sysctl(netns_fd, values[i][0], values[i][1], NULL);
}

void flow_net_open(struct flow_net *net)
{
	struct haul_err err = { 0 };

	memset(net, 0, sizeof *net);
	skip_without_bpf();
	if (unshare(CLONE_NEWNS) < 0)
		test_skip("mount namespaces are forbidden");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		test_skip("mounts cannot be kept to ourselves: / is no mount point (chroot?)");
	(void)snprintf(net->folder, sizeof net->folder, "/tmp/haul-flows-XXXXXX");
	assert_non_null(mkdtemp(net->folder));
	net->env = flow_env_linux();
	net->env.bpffs = net->folder;
	for (int side = 0; side < FLOW_NET_SIDES; side++) {
		net->netns_fd[side] = netns_open(&err);
		if (net->netns_fd[side] == -EPERM)
			test_skip(err.text);
		assert_true(net->netns_fd[side] >= 0);
		sysctls(net->netns_fd[side]);
	}
	if (netns_veth(net->netns_fd[0], veth, net->netns_fd[1], veth, 1500, &err) < 0)
		fail_msg("%s", err.text);
	for (int side = 0; side < FLOW_NET_SIDES; side++) {
		char cidr[64];
		(void)snprintf(cidr, sizeof cidr, "%s/24", addr4[side]);
		assert_int_equal(netns_address(net->netns_fd[side], veth, cidr, &err), 0);
		(void)snprintf(cidr, sizeof cidr, "%s/64", addr6[side]);
		assert_int_equal(netns_address(net->netns_fd[side], veth, cidr, &err), 0);
	}
}

void flow_net_close(struct flow_net *net)
{
	for (int side = 0; side < FLOW_NET_SIDES; side++)
		assert_int_equal(close(net->netns_fd[side]), 0);
	(void)umount2(net->folder, MNT_DETACH);
	assert_int_equal(rmdir(net->folder), 0);
}

int flow_net_call(const struct flow_net *net, int side, int (*inside)(void *arg), void *arg)
{
	return netns_call(net->netns_fd[side], inside, arg);
}

/* ---- tables on it ---- */

struct table_job {
	struct flow_net *net;
	const struct haul_flows_options *options;
	struct haul_flows **ret_flows;
	const char *name;
	struct haul_err *err;
};

static int create_inside(void *arg)
{
	const struct table_job *job = arg;
	return flows_create_in(job->ret_flows, &job->net->env, job->options, job->err);
}

int flow_net_try(struct flow_net *net, int side, const struct haul_flows_options *options,
		 struct haul_flows **ret_flows, struct haul_err *err)
{
	struct table_job job = {
		.net = net, .options = options, .ret_flows = ret_flows, .err = err
	};
	return flow_net_call(net, side, create_inside, &job);
}

struct haul_flows *flow_net_flows(struct flow_net *net, int side,
				  const struct haul_flows_options *options)
{
	struct haul_flows_options wanted = options ? *options : (struct haul_flows_options){ 0 };
	struct haul_flows *flows = NULL;
	struct haul_err err = { 0 };

	if (!wanted.ifname)
		wanted.ifname = veth;
	if (wanted.sweep_ms == 0)
		wanted.sweep_ms = UINT32_MAX;
	if (wanted.entries_max == 0)
		wanted.entries_max = 8192;
	if (flow_net_try(net, side, &wanted, &flows, &err) < 0)
		fail_msg("%s", err.text);
	return flows;
}

static int done_inside(void *arg)
{
	haul_flows_close(arg);
	return 0;
}

void flow_net_done(const struct flow_net *net, int side, struct haul_flows *flows)
{
	assert_int_equal(flow_net_call(net, side, done_inside, flows), 0);
}

static int detach_inside(void *arg)
{
	const struct table_job *job = arg;
	return flows_detach_in(&job->net->env, job->name, job->err);
}

int flow_net_detach(struct flow_net *net, int side, const char *name, struct haul_err *err)
{
	struct table_job job = { .net = net, .name = name, .err = err };
	return flow_net_call(net, side, detach_inside, &job);
}

/* ---- programs, counters, offloads ---- */

/* All that comes until its end; what does not fit is dropped. */
static void output_read(int fd, char *text, size_t bytes)
{
	size_t used = 0;
	char spill[512];
	ssize_t got;

	do {
		bool keep = text && used + 1 < bytes;
		got = read(fd, keep ? text + used : spill, keep ? bytes - 1 - used : sizeof spill);
		used += keep && got > 0 ? (size_t)got : 0;
	} while (got > 0);
	if (text)
		text[used] = 0;
}

int flow_net_run(const struct flow_net *net, int side, const char *const argv[], char *text,
		 size_t bytes)
{
	struct haul_err err = { 0 };
	int pipes[2], status = 0;
	int pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = netns_spawn(net->netns_fd[side], argv, pipes[1], &err);
	if (pid < 0)
		fail_msg("%s", err.text);
	close(pipes[1]);
	output_read(pipes[0], text, bytes);
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct count_job {
	const char *ifname;
	struct flow_net_counters *counters;
};

static int count_inside(void *arg)
{
	const struct count_job *job = arg;
	struct flow_net_counters *c = job->counters;
	char line[512];
	int found = 0;
	FILE *file = fopen("/proc/thread-self/net/dev", "re");

	assert_non_null(file);
	while (!found && fgets(line, sizeof line, file)) {
		char *colon = strchr(line, ':');
		char *name = line + strspn(line, " ");
		if (!colon)
			continue;
		*colon = 0;
		found = strcmp(name, job->ifname) == 0 &&
			sscanf(colon + 1, "%lu %lu %*u %*u %*u %*u %*u %*u %lu %lu", &c->rx_bytes,
			       &c->rx_packets, &c->tx_bytes, &c->tx_packets) == 4;
	}
	(void)fclose(file);
	return found;
}

void flow_net_count(const struct flow_net *net, int side, const char *ifname,
		    struct flow_net_counters *ret_counters)
{
	struct count_job job = { .ifname = ifname, .counters = ret_counters };
	assert_int_equal(flow_net_call(net, side, count_inside, &job), 1);
}

static int offloads_inside(void *arg)
{
	static const uint32_t commands[] = { ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		struct ethtool_value value = { .cmd = commands[i], .data = *(const bool *)arg };
		struct ifreq request = { .ifr_data = (void *)&value };
		memcpy(request.ifr_name, veth, sizeof veth);
		if (ioctl(fd, SIOCETHTOOL, &request) < 0)
			return -errno;
	}
	return close(fd);
}

void flow_net_offloads(const struct flow_net *net, bool on)
{
	for (int side = 0; side < FLOW_NET_SIDES; side++)
		assert_int_equal(flow_net_call(net, side, offloads_inside, &on), 0);
}

void flow_net_wait(int (*holds)(void *arg), void *arg)
{
	for (int attempt = 0; attempt < WAIT_ATTEMPTS; attempt++) {
		if (holds(arg))
			return;
		(void)poll(NULL, 0, WAIT_MS);
	}
	fail_msg("what was waited for has not happened");
}

/* ---- traffic ---- */

static socklen_t address(struct sockaddr_storage *to, int side, bool v6, uint16_t port)
{
	memset(to, 0, sizeof *to);
	if (v6) {
		struct sockaddr_in6 *in6 = (void *)to;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, addr6[side], &in6->sin6_addr), 1);
		return sizeof *in6;
	}
	struct sockaddr_in *in = (void *)to;
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, addr4[side], &in->sin_addr), 1);
	return sizeof *in;
}

struct socket_job {
	int side;
	int type;
	bool v6;
	uint16_t port;
};

static int socket_inside(void *arg)
{
	const struct socket_job *job = arg;
	struct sockaddr_storage own;
	socklen_t bytes = address(&own, job->side, job->v6, job->port);
	int one = 1;
	int fd = socket(job->v6 ? AF_INET6 : AF_INET, job->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&own, bytes), 0);
	return fd;
}

int flow_net_socket(const struct flow_net *net, int side, int type, bool v6, uint16_t port)
{
	struct socket_job job = { .side = side, .type = type, .v6 = v6, .port = port };
	return flow_net_call(net, side, socket_inside, &job);
}

uint16_t flow_net_port(int fd)
{
	struct sockaddr_storage own;
	socklen_t bytes = sizeof own;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &bytes), 0);
	return ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
					       : ((struct sockaddr_in *)&own)->sin_port);
}

static void wait_for(int fd, short events)
{
	struct pollfd ready = { .fd = fd, .events = events };
	assert_int_equal(poll(&ready, 1, WAIT_ATTEMPTS * WAIT_MS), 1);
}

void flow_net_udp(int fd, int to_side, uint16_t port, uint32_t count, uint32_t payload_bytes)
{
	uint8_t payload[2048] = { 0 };
	struct sockaddr_storage to;
	socklen_t bytes = address(&to, to_side, false, port);

	assert_true(payload_bytes <= sizeof payload);
	for (uint32_t i = 0; i < count; i++) {
		ssize_t sent;
		/* An error that an earlier datagram brought back is not this one's. */
		do {
			wait_for(fd, POLLOUT);
			sent = sendto(fd, payload, payload_bytes, 0, (struct sockaddr *)&to, bytes);
		} while (sent < 0 && (errno == ECONNREFUSED || errno == EAGAIN));
		assert_int_equal(sent, payload_bytes);
	}
}

static uint64_t stream_write(int fd, uint64_t left)
{
	static const uint8_t zeros[CHUNK_BYTES];
	uint64_t done = 0;

	while (done < left) {
		size_t chunk = left - done < sizeof zeros ? (size_t)(left - done) : sizeof zeros;
		ssize_t sent = send(fd, zeros, chunk, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN)
			break;
		assert_true(sent > 0);
		done += (uint64_t)sent;
	}
	return done;
}

/* What is there; *ret_ended when the other end has closed. */
static uint64_t stream_read(int fd, bool *ret_ended)
{
	static uint8_t buffer[CHUNK_BYTES];
	uint64_t done = 0;

	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof buffer, 0);
		if (got < 0 && errno == EAGAIN)
			return done;
		assert_true(got >= 0);
		if (got == 0) {
			*ret_ended = true;
			return done;
		}
		done += (uint64_t)got;
	}
}

static void transfer(int from, int to, uint64_t bytes)
{
	uint64_t sent = 0, got = 0;
	bool ended = false;

	if (bytes == 0)
		assert_int_equal(shutdown(from, SHUT_WR), 0);
	while (!ended) {
		struct pollfd ready[2] = { { .fd = sent < bytes ? from : -1, .events = POLLOUT },
					   { .fd = to, .events = POLLIN } };
		assert_true(poll(ready, 2, WAIT_ATTEMPTS * WAIT_MS) > 0);
		if (sent < bytes) {
			sent += stream_write(from, bytes - sent);
			if (sent == bytes)
				assert_int_equal(shutdown(from, SHUT_WR), 0);
		}
		got += stream_read(to, &ended);
	}
	assert_int_equal(got, bytes);
}

uint16_t flow_net_tcp(const struct flow_net *net, int side, bool v6, uint64_t bytes,
		      uint16_t *ret_from_port)
{
	int listener = flow_net_socket(net, 1 - side, SOCK_STREAM, v6, 0);
	int from = flow_net_socket(net, side, SOCK_STREAM, v6, 0);
	uint16_t port = flow_net_port(listener);
	struct sockaddr_storage to;
	socklen_t to_bytes = address(&to, 1 - side, v6, port);
	bool ended = false;
	int accepted;

	assert_int_equal(listen(listener, 1), 0);
	if (connect(from, (struct sockaddr *)&to, to_bytes) < 0)
		assert_int_equal(errno, EINPROGRESS);
	wait_for(listener, POLLIN);
	accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	wait_for(from, POLLOUT);
	if (ret_from_port)
		*ret_from_port = flow_net_port(from);
	transfer(from, accepted, bytes);
	assert_int_equal(close(accepted), 0);
	while (!ended) {
		wait_for(from, POLLIN);
		assert_int_equal(stream_read(from, &ended), 0);
	}
	assert_int_equal(close(from), 0);
	assert_int_equal(close(listener), 0);
	return port;
}

/* ---- what the table says ---- */

struct entries {
	struct haul_flow_key *keys;
	struct haul_flow_value *values;
	uint32_t max;
	uint32_t count;
};

static int entries_visit(const struct haul_map_batch *batch, void *arg)
{
	struct entries *entries = arg;

	for (uint32_t i = 0; i < batch->count; i++, entries->count++) {
		if (entries->count >= entries->max)
			continue;
		memcpy(&entries->keys[entries->count], haul_map_key(batch, i),
		       sizeof *entries->keys);
		memcpy(&entries->values[entries->count], haul_map_value(batch, i),
		       sizeof *entries->values);
	}
	return 0;
}

uint32_t flow_net_entries(struct haul_flows *flows, struct haul_flow_key *keys,
			  struct haul_flow_value *values, uint32_t max)
{
	struct entries entries = { .keys = keys, .values = values, .max = max };

	assert_int_equal(haul_flows_scan(flows, NULL, entries_visit, &entries, NULL), 0);
	return entries.count;
}

uint64_t flow_net_total(struct haul_flows *flows, enum haul_flow_total total)
{
	uint64_t totals[HAUL_FLOW_TOTALS];

	assert_int_equal(haul_flows_totals(flows, totals), 0);
	return totals[total];
}

void flow_net_balance(struct haul_flows *flows)
{
	struct haul_flows_summary *summary = calloc(1, sizeof *summary);
	const uint64_t *t = summary->totals;
	uint64_t count = 0;

	assert_non_null(summary);
	assert_int_equal(haul_flows_summary(flows, NULL, summary), 0);
	assert_int_equal(t[HAUL_FLOW_T_PACKETS], summary->all.packets + t[HAUL_FLOW_T_OVERFLOW] +
							 t[HAUL_FLOW_T_LATE] +
							 t[HAUL_FLOW_T_REMOVED]);
	assert_int_equal(t[HAUL_FLOW_T_BYTES], summary->all.bytes + t[HAUL_FLOW_T_OVERFLOW_BYTES] +
						       t[HAUL_FLOW_T_LATE_BYTES] +
						       t[HAUL_FLOW_T_REMOVED_BYTES]);
	assert_int_equal(haul_flows_count(flows, &count), 0);
	assert_int_equal(count, summary->all.connections);
	free(summary);
}

struct haul_flow_key flow_net_key(uint8_t proto, uint16_t port0, uint16_t port1)
{
	struct haul_flow_key key = { .port_lo = port0, .port_hi = port1, .proto = proto };

	key.addr_lo[10] = key.addr_lo[11] = key.addr_hi[10] = key.addr_hi[11] = 0xff;
	assert_int_equal(inet_pton(AF_INET, addr4[0], key.addr_lo + 12), 1);
	assert_int_equal(inet_pton(AF_INET, addr4[1], key.addr_hi + 12), 1);
	return key;
}

/* ---- objects of the kernel ---- */

static void id_add(struct flow_net_ids *ids, char kind, uint32_t id)
{
	assert_true(ids->count < FLOW_NET_IDS);
	ids->kind[ids->count] = kind;
	ids->id[ids->count++] = id;
}

static void fd_add(struct flow_net_ids *ids, char kind, int fd)
{
	union {
		struct bpf_map_info map;
		struct bpf_prog_info prog;
		struct bpf_link_info link;
	} info;
	uint32_t bytes = kind == 'm'   ? sizeof info.map
			 : kind == 'p' ? sizeof info.prog
				       : sizeof info.link;

	memset(&info, 0, sizeof info);
	if (fd < 0)
		return;
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &bytes), 0);
	id_add(ids, kind, kind == 'm' ? info.map.id : kind == 'p' ? info.prog.id : info.link.id);
	if (kind == 'l')
		id_add(ids, 'p', info.link.prog_id);
}

void flow_net_ids(struct haul_flows *flows, struct flow_net_ids *ret_ids)
{
	memset(ret_ids, 0, sizeof *ret_ids);
	for (int pin = 0; pin < FLOW_PINS; pin++)
		fd_add(ret_ids,
		       pin < FLOW_SWEEP    ? 'm'
		       : pin == FLOW_SWEEP ? 'p'
					   : 'l',
		       flows->fd[pin]);
	for (uint32_t shard = 0; shard < flows->saved.shards; shard++) {
		uint32_t id = 0;
		assert_int_equal(flow_slot_get(flows, shard, &id), 0);
		id_add(ret_ids, 'm', id);
	}
	for (int side = 0; side < FLOW_SIDES; side++)
		if (flows->saved.filter[side].prog_id)
			id_add(ret_ids, 'p', flows->saved.filter[side].prog_id);
}

static int ids_gone(void *arg)
{
	struct flow_net_ids *ids = arg;

	while (ids->count > 0) {
		uint32_t id = ids->id[ids->count - 1];
		char kind = ids->kind[ids->count - 1];
		int fd = kind == 'm'   ? bpf_map_get_fd_by_id(id)
			 : kind == 'p' ? bpf_prog_get_fd_by_id(id)
				       : bpf_link_get_fd_by_id(id);
		if (fd >= 0) {
			close(fd);
			return 0;
		}
		assert_int_equal(errno, ENOENT);
		ids->count--;
	}
	return 1;
}

void flow_net_gone(struct flow_net_ids *ids)
{
	assert_true(ids->count > 0);
	flow_net_wait(ids_gone, ids);
}

static int tcx_inside(void *arg)
{
	uint32_t ids[16], count = 16, flags = 0;
	int rc = bpf_prog_query((int)if_nametoindex(veth), *(const uint32_t *)arg, 0, &flags, ids,
				&count);
	return rc < 0 ? -errno : (int)count;
}

int flow_net_tcx(const struct flow_net *net, int side, bool egress)
{
	uint32_t type = egress ? TCX_EGRESS : TCX_INGRESS;
	return flow_net_call(net, side, tcx_inside, &type);
}
