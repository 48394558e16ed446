/* Filters on clsact, for kernels without TCX. Ours are found again by handle, priority and the id
 * of the program, so nobody else's are touched; the qdisc goes only when we made it and it is
 * empty. Unlike links, filters outlive a process that was killed. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

enum {
	FILTER_HANDLE = 0x6861756c, /* "haul" */
	FILTER_PRIORITIES = 8,      /* tried from 1: another kind of filter may be at one */
	DUMP_BYTES = 8192
};

static enum bpf_tc_attach_point point(int side)
{
	return side == FLOW_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS;
}

int flow_tc_qdisc_add(uint32_t ifindex, uint32_t *ret_made)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	int rc = bpf_tc_hook_create(&hook);

	if (rc < 0 && rc != -EEXIST)
		return rc;
	*ret_made = rc == 0;
	return 0;
}

int flow_tc_attach(uint32_t ifindex, int side, int prog_fd, struct flow_filter *ret_filter)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point(side));
	int rc = -EINVAL;

	HAUL_ASSERT(prog_fd >= 0);
	for (uint32_t priority = 1; priority <= FILTER_PRIORITIES; priority++) {
		LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = prog_fd, .handle = FILTER_HANDLE,
			    .priority = priority);
		rc = bpf_tc_attach(&hook, &options);
		if (rc == 0) {
			ret_filter->prog_id = options.prog_id;
			ret_filter->handle = options.handle;
			ret_filter->priority = options.priority;
			return 0;
		}
		/* Taken: by a filter of another kind, or by one of ours. */
		if (rc != -EINVAL && rc != -EEXIST && rc != -EBUSY)
			return rc;
	}
	return rc;
}

int flow_tc_detach(uint32_t ifindex, int side, const struct flow_filter *filter)
{
	libbpf_print_fn_t printer = bpf_quiet_begin();
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point(side));
	LIBBPF_OPTS(bpf_tc_opts, found, .handle = filter->handle, .priority = filter->priority);
	LIBBPF_OPTS(bpf_tc_opts, gone, .handle = filter->handle, .priority = filter->priority);
	int rc = bpf_tc_query(&hook, &found);

	if (rc == 0 && found.prog_id == filter->prog_id)
		rc = bpf_tc_detach(&hook, &gone);
	bpf_quiet_end(printer);
	/* No filter, no qdisc, no interface: somebody was faster. */
	return rc == -ENOENT || rc == -ENODEV || rc == -EINVAL ? 0 : rc;
}

/* ---- is anybody else there ---- */

struct dump_request {
	struct nlmsghdr header;
	struct tcmsg tc;
};

static struct nlmsghdr *next_of(struct nlmsghdr *header, uint32_t *left)
{
	uint32_t bytes = NLMSG_ALIGN(header->nlmsg_len);

	*left = bytes < *left ? *left - bytes : 0;
	return (struct nlmsghdr *)(void *)((char *)header + bytes);
}

/* Returns 1 when the kernel lists a filter, 0 when it lists none. */
static int filters_read(int fd)
{
	_Alignas(struct nlmsghdr) char buffer[DUMP_BYTES];

	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof buffer, 0);
		uint32_t left = got < 0 ? 0 : (uint32_t)got;
		if (got < 0)
			return -errno;
		for (struct nlmsghdr *header = (void *)buffer; NLMSG_OK(header, left);
		     header = next_of(header, &left)) {
			if (header->nlmsg_type == NLMSG_DONE)
				return 0;
			if (header->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(header))->error;
			if (header->nlmsg_type == RTM_NEWTFILTER)
				return 1;
		}
	}
}

static int filters_any(uint32_t ifindex, int side)
{
	struct dump_request request = {
		.header = { .nlmsg_len = sizeof request,
			    .nlmsg_type = RTM_GETTFILTER,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.tc = { .tcm_family = AF_UNSPEC,
			.tcm_ifindex = (int)ifindex,
			.tcm_parent =
				TC_H_MAKE(TC_H_CLSACT, side == FLOW_INGRESS ? TC_H_MIN_INGRESS
									    : TC_H_MIN_EGRESS) },
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int rc;

	if (fd < 0)
		return -errno;
	rc = send(fd, &request, sizeof request, 0) < 0 ? -errno : filters_read(fd);
	close(fd);
	return rc;
}

int flow_tc_qdisc_remove(uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	libbpf_print_fn_t printer;
	int rc = 0;

	for (int side = 0; side < FLOW_SIDES && rc == 0; side++)
		rc = filters_any(ifindex, side);
	if (rc > 0)
		return 0;
	if (rc == 0) {
		printer = bpf_quiet_begin();
		rc = bpf_tc_hook_destroy(&hook);
		bpf_quiet_end(printer);
	}
	return rc == -ENOENT || rc == -ENODEV || rc == -EINVAL ? 0 : rc;
}
