#include "os/netif.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/netns.h"

static bool same_address(const struct haul_addr *addr, const struct sockaddr *other)
{
	if (other == NULL)
		return false;
	if (addr->kind == HAUL_ADDR_IPV4 && other->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, other, sizeof in);
		return memcmp(&in.sin_addr, addr->bytes, sizeof in.sin_addr) == 0;
	}
	if (addr->kind == HAUL_ADDR_IPV6 && other->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, other, sizeof in6);
		return memcmp(&in6.sin6_addr, addr->bytes, sizeof in6.sin6_addr) == 0;
	}
	return false;
}

static int mtu_of(const char *ifname, uint32_t *ret_mtu_bytes)
{
	struct ifreq request = { 0 };
	size_t bytes = strnlen(ifname, sizeof request.ifr_name - 1);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(request.ifr_name, ifname, bytes);
	int rc = ioctl(fd, SIOCGIFMTU, &request) < 0 ? -errno : 0;
	(void)close(fd);
	if (rc < 0)
		return rc;
	HAUL_ASSERT(request.ifr_mtu >= 0);
	*ret_mtu_bytes = (uint32_t)request.ifr_mtu;
	return 0;
}

int netif_name(const struct haul_addr *addr, char ret_name[IF_NAMESIZE])
{
	struct ifaddrs *list;
	int rc = -ENOENT;
	if (getifaddrs(&list) < 0)
		return -errno;
	for (const struct ifaddrs *entry = list; entry != NULL && rc < 0; entry = entry->ifa_next)
		if (same_address(addr, entry->ifa_addr)) {
			(void)snprintf(ret_name, IF_NAMESIZE, "%s", entry->ifa_name);
			rc = 0;
		}
	freeifaddrs(list);
	return rc;
}

int netif_mtu(const struct haul_addr *addr, uint32_t *ret_mtu_bytes)
{
	char name[IF_NAMESIZE];
	int rc = netif_name(addr, name);
	return rc < 0 ? rc : mtu_of(name, ret_mtu_bytes);
}

int netif_address(const char *ifname, const char *cidr, struct haul_err *err)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return haul_err_set(err, -errno, "network namespace: %s", haul_strerror(-errno));
	int rc = netns_address(fd, ifname, cidr, err);
	(void)close(fd);
	return rc;
}
