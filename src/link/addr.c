/* link/addr.c — addresses as text. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/link.h>

static int bad(const char *text, struct haul_err *err)
{
	return haul_err_set(err, -EINVAL,
			    "\"%s\" is not an address; write 192.0.2.1:4789, "
			    "[2001:db8::1]:4789 or 02:00:00:00:00:01",
			    text);
}

/* Port of ":port" up to the end of text, or -1. */
static int parse_port(const char *text)
{
	uint32_t port = 0;
	if (text[0] != ':' || text[1] == '\0')
		return -1;
	for (const char *c = text + 1; *c != '\0'; c++) {
		if (*c < '0' || *c > '9')
			return -1;
		port = port * 10 + (uint32_t)(*c - '0');
		if (port > UINT16_MAX)
			return -1;
	}
	return (int)port;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Six two-digit bytes with colons between them, nothing else. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	if (strlen(text) != 17)
		return false;
	for (uint32_t i = 0; i < 6; i++) {
		int high = hex_digit(text[3 * i]);
		int low = hex_digit(text[3 * i + 1]);
		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* "host:port" or "[host]:port". */
static bool parse_socket(const char *text, struct haul_addr *addr)
{
	bool v6 = text[0] == '[';
	const char *host = v6 ? text + 1 : text;
	const char *end = strchr(host, v6 ? ']' : ':');
	char copy[INET6_ADDRSTRLEN];
	if (end == NULL || (size_t)(end - host) >= sizeof copy)
		return false;
	memcpy(copy, host, (size_t)(end - host));
	copy[end - host] = '\0';
	int port = parse_port(v6 ? end + 1 : end);
	if (port < 0 || inet_pton(v6 ? AF_INET6 : AF_INET, copy, addr->bytes) != 1)
		return false;
	addr->kind = v6 ? HAUL_ADDR_IPV6 : HAUL_ADDR_IPV4;
	addr->port = (uint16_t)port;
	return true;
}

int haul_addr_parse(const char *text, struct haul_addr *ret_addr, struct haul_err *err)
{
	struct haul_addr addr = { .kind = HAUL_ADDR_MAC };
	if (!parse_mac(text, addr.bytes)) {
		memset(&addr, 0, sizeof addr);
		if (!parse_socket(text, &addr))
			return bad(text, err);
	}
	*ret_addr = addr;
	return 0;
}

const char *haul_addr_format(const struct haul_addr *addr, char text[HAUL_ADDR_TEXT])
{
	char host[INET6_ADDRSTRLEN] = "";
	const uint8_t *b = addr->bytes;
	switch ((enum haul_addr_kind)addr->kind) {
	case HAUL_ADDR_IPV4:
		(void)inet_ntop(AF_INET, b, host, sizeof host);
		(void)snprintf(text, HAUL_ADDR_TEXT, "%s:%u", host, addr->port);
		break;
	case HAUL_ADDR_IPV6:
		(void)inet_ntop(AF_INET6, b, host, sizeof host);
		(void)snprintf(text, HAUL_ADDR_TEXT, "[%s]:%u", host, addr->port);
		break;
	case HAUL_ADDR_MAC:
		(void)snprintf(text, HAUL_ADDR_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1],
			       b[2], b[3], b[4], b[5]);
		break;
	case HAUL_ADDR_NONE:
	default:
		(void)snprintf(text, HAUL_ADDR_TEXT, "none");
		break;
	}
	return text;
}
