/* Onto an interface: TCX links, before all other programs there, so that what another program drops
 * or redirects is seen; where the kernel has no TCX, filters on clsact (flow_tc.c); for ingress
 * optionally an XDP link, in the driver or, where that has none, in the generic place behind it.
 * A link goes with its last descriptor and pin; a filter has to be taken back. */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

/* Of <linux/bpf.h>, since 6.6. */
enum { TCX_INGRESS = 46, TCX_EGRESS = 47, TCX_BEFORE = 1U << 3 };

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum { L2_ETHER = 14 };

/* ---- the interface ---- */

static int cookie_of(int socket_fd, uint64_t *ret_cookie)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof cookie;

	if (getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes) < 0)
		return -errno;
	*ret_cookie = cookie;
	return 0;
}

int flow_netns_cookie(uint64_t *ret_cookie)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = cookie_of(fd, ret_cookie);
	close(fd);
	return rc;
}

/* Bytes before the IP header; negative: not a kind of interface whose packets we can tell. */
static int l2_bytes_of(unsigned int hardware)
{
	switch (hardware) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		return L2_ETHER;
	case ARPHRD_NONE:
	case ARPHRD_PPP:
	case ARPHRD_RAWIP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
		return 0;
	default:
		return -ENOTSUP;
	}
}

/* veth counts what it hands over without the tag beside it; others count the tag, too. */
static uint32_t tag_uncounted(int fd, const char *ifname)
{
	struct ethtool_drvinfo driver = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request = { 0 };

	memcpy(request.ifr_name, ifname, strlen(ifname));
	request.ifr_data = (void *)&driver;
	return ioctl(fd, SIOCETHTOOL, &request) == 0 && strcmp(driver.driver, "veth") == 0;
}

static int interface_read(int fd, const char *ifname, struct flow_interface *ret_interface,
			  struct haul_err *err)
{
	struct ifreq request = { 0 };
	struct flow_interface interface = { 0 };
	int rc;

	memcpy(request.ifr_name, ifname, strlen(ifname));
	if (ioctl(fd, SIOCGIFINDEX, &request) < 0)
		return haul_err_set(err, -errno, "interface \"%s\": %s", ifname,
				    errno == ENODEV ? "there is none of that name here"
						    : haul_strerror(-errno));
	interface.ifindex = (uint32_t)request.ifr_ifindex;
	if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		return haul_err_set(err, -errno, "interface \"%s\": %s", ifname,
				    haul_strerror(-errno));
	rc = l2_bytes_of(request.ifr_hwaddr.sa_family);
	if (rc < 0)
		return haul_err_set(err, rc,
				    "interface \"%s\" is of type %u: only Ethernet and plain IP "
				    "(TUN, PPP, tunnels) can be counted",
				    ifname, request.ifr_hwaddr.sa_family);
	interface.l2_bytes = (uint32_t)rc;
	interface.tag_uncounted = tag_uncounted(fd, ifname);
	rc = cookie_of(fd, &interface.netns_cookie);
	if (rc < 0)
		return haul_err_set(err, rc, "this network namespace cannot be told: %s",
				    haul_strerror(rc));
	*ret_interface = interface;
	return 0;
}

int flow_interface_get(const char *ifname, struct flow_interface *ret_interface,
		       struct haul_err *err)
{
	int fd, rc;

	if (strlen(ifname) >= IFNAMSIZ)
		return haul_err_set(err, -ENODEV,
				    "interface \"%s\": no name is longer than %d bytes", ifname,
				    IFNAMSIZ - 1);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return haul_err_set(err, -errno, "socket: %s", haul_strerror(-errno));
	rc = interface_read(fd, ifname, ret_interface, err);
	close(fd);
	return rc;
}

/* ---- links ---- */

static int link_create(const struct haul_flows *flows, int prog_fd, uint32_t type, uint32_t flags)
{
	union bpf_attr attr = { 0 };

	HAUL_ASSERT(prog_fd >= 0);
	attr.link_create.prog_fd = (uint32_t)prog_fd;
	attr.link_create.target_ifindex = flows->saved.ifindex;
	attr.link_create.attach_type = type;
	attr.link_create.flags = flags;
	return flows->env.sys->call(flows->env.sys, BPF_LINK_CREATE, &attr);
}

static int attach_failed(const struct haul_flows *flows, const char *what, int rc,
			 struct haul_err *err)
{
	if (rc == -EPERM)
		return haul_err_set(err, rc,
				    "cannot attach to \"%s\": needs root, or CAP_BPF and "
				    "CAP_NET_ADMIN",
				    flows->saved.ifname);
	return haul_err_set(err, rc, "cannot attach %s to \"%s\": %s", what, flows->saved.ifname,
			    haul_strerror(rc));
}

static int attach_clsact(struct haul_flows *flows, int side, int prog_fd, struct haul_err *err)
{
	struct flow_saved *saved = &flows->saved;
	int rc = 0;

	if (!saved->qdisc_made)
		rc = flow_tc_qdisc_add(saved->ifindex, &saved->qdisc_made);
	rc = rc ? rc : flow_tc_attach(saved->ifindex, side, prog_fd, &saved->filter[side]);
	return rc < 0 ? attach_failed(flows, "a tc filter", rc, err) : 0;
}

/* Returns 1 when it had to be clsact. */
static int attach_tc(struct haul_flows *flows, int side, int prog_fd, struct haul_err *err)
{
	int rc = link_create(flows, prog_fd, side == FLOW_INGRESS ? TCX_INGRESS : TCX_EGRESS,
			     TCX_BEFORE);
	if (rc >= 0) {
		flows->fd[FLOW_LINK_INGRESS + side] = rc;
		return 0;
	}
	/* What a kernel before 6.6 says to an attach type that it does not know. */
	if (rc != -EINVAL && rc != -EOPNOTSUPP)
		return attach_failed(flows, "a TCX program", rc, err);
	rc = attach_clsact(flows, side, prog_fd, err);
	return rc < 0 ? rc : 1;
}

/* Returns 1 when it had to be the generic place. */
static int attach_xdp(struct haul_flows *flows, int prog_fd, struct haul_err *err)
{
	int generic = 0;
	int rc = link_create(flows, prog_fd, BPF_XDP, XDP_FLAGS_DRV_MODE);

	if (rc == -EOPNOTSUPP || rc == -EINVAL) {
		generic = 1;
		rc = link_create(flows, prog_fd, BPF_XDP, XDP_FLAGS_SKB_MODE);
	}
	if (rc == -EBUSY || rc == -EEXIST)
		return haul_err_set(err, -EBUSY,
				    "\"%s\" has an XDP program already, and takes only one: use tc",
				    flows->saved.ifname);
	if (rc < 0)
		return attach_failed(flows, "an XDP program", rc, err);
	flows->fd[FLOW_LINK_INGRESS] = rc;
	return generic;
}

int flow_attach(struct haul_flows *flows, const struct flow_programs *programs,
		struct haul_err *err)
{
	static const enum flow_hook hooks[3][2] = {
		{ FLOW_HOOK_TCX, FLOW_HOOK_CLSACT },
		{ FLOW_HOOK_XDP_TCX, FLOW_HOOK_XDP_CLSACT },
		{ FLOW_HOOK_GENERIC_TCX, FLOW_HOOK_GENERIC_CLSACT },
	};
	int ingress, egress;

	HAUL_ASSERT(flows->fd[FLOW_LINK_INGRESS] < 0 && flows->fd[FLOW_LINK_EGRESS] < 0);
	if (programs->xdp >= 0) {
		ingress = attach_xdp(flows, programs->xdp, err);
		ingress += ingress >= 0;
	} else {
		ingress = attach_tc(flows, FLOW_INGRESS, programs->ingress, err);
		ingress = ingress > 0 ? 0 : ingress;
	}
	if (ingress < 0)
		return ingress;
	egress = attach_tc(flows, FLOW_EGRESS, programs->egress, err);
	if (egress < 0)
		return egress;
	flows->saved.hook = hooks[ingress][egress];
	return 0;
}

/* ---- and off it ---- */

static int link_detach(const struct flow_env *env, int fd)
{
	union bpf_attr attr = { 0 };

	attr.link_detach.link_fd = (uint32_t)fd;
	return env->sys->call(env->sys, BPF_LINK_DETACH, &attr);
}

int flow_detach(const struct flow_env *env, const int link_fd[FLOW_SIDES],
		const struct flow_saved *saved, struct haul_err *err)
{
	uint64_t cookie = 0;
	int rc = 0;

	/* A link whose interface is gone says so; that is what we want. */
	for (int side = 0; side < FLOW_SIDES; side++)
		if (link_fd[side] >= 0)
			(void)link_detach(env, link_fd[side]);
	if (saved->filter[0].prog_id == 0 && saved->filter[1].prog_id == 0 && !saved->qdisc_made)
		return 0;
	rc = flow_netns_cookie(&cookie);
	if (rc == 0 && cookie != saved->netns_cookie)
		return haul_err_set(err, -EXDEV,
				    "\"%s\" is in another network namespace: its tc filters can "
				    "be removed only from in there",
				    saved->ifname);
	for (int side = 0; side < FLOW_SIDES && rc == 0; side++)
		if (saved->filter[side].prog_id != 0)
			rc = flow_tc_detach(saved->ifindex, side, &saved->filter[side]);
	if (rc == 0 && saved->qdisc_made)
		rc = flow_tc_qdisc_remove(saved->ifindex);
	if (rc < 0)
		return haul_err_set(err, rc, "tc filters of \"%s\" cannot be removed: %s",
				    saved->ifname, haul_strerror(rc));
	return 0;
}
