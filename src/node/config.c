/* The schema, the checks and the defaults. A check that a schema cannot express stands in one of
 * the take_* functions; each has a case in tests/node/test_config.c. */
#include "node/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/message.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "node/conf.h"
#include "node/control.h"

enum {
	PLACE_BYTES = 64,
	TAP_MTU_MIN = 68, /* what IPv4 needs (RFC 791) */
	TAP_MTU_MAX = 65000,
	TAP_MTU_DEFAULT_MAX = 9216, /* on links that carry anything, like the loopback */
	LINK_MTU_MIN = 256,
	FRAME_OVERHEAD_BYTES = 14 + 4, /* Ethernet and one VLAN tag */
	MESSAGE_OVERHEAD_BYTES = HAUL_MESSAGE_HEADER_BYTES + HAUL_MESSAGE_TAG_BYTES,
	PERIOD_MS_MIN = 10,
	PERIOD_MS_MAX = 60000,
	JITTER_PERCENT_MAX = 50,
	JITTER_PERCENT_DEFAULT = 10,
	HISTORY_MIN = 4,
	HISTORY_MAX = 32,
	MISSED_MAX = 100,
	TTL_MAX = 64
};

/* ---- schema: the file as it is ---- */

struct file_tap {
	char *ifname;
	uint32_t *mtu;
	char *address;
	uint32_t *offloads;
};

struct file_link {
	enum haul_link_kind kind;
	char *ifname;
	char *local;
	char *broadcast;
	uint32_t *mtu;
	uint32_t *offloads;
	char **peers;
	uint32_t peers_count;
};

struct file_heartbeat {
	uint32_t *period_ms;
	uint32_t *jitter_percent;
	uint32_t *history;
	uint32_t *candidates;
	uint32_t *missed_max;
	uint32_t *ttl;
};

struct file_batch {
	enum haul_preset preset;
	enum haul_sizer_policy *sizer;
	bool individual;
};

struct file {
	enum node_role role;
	char *name;
	char *id;
	struct file_tap tap;
	struct file_link radio;
	struct file_link *backhaul;
	struct file_heartbeat heartbeat;
	struct file_batch batch;
	char *control;
	bool flows;
};

#define OPT     CYAML_FLAG_OPTIONAL
#define OPT_PTR (CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER)
#define PTR     CYAML_FLAG_POINTER

static const cyaml_strval_t role_names[] = { { "obu", NODE_OBU }, { "rsu", NODE_RSU } };
static const cyaml_strval_t kind_names[] = { { "raw", HAUL_LINK_RAW }, { "udp", HAUL_LINK_UDP } };
static const cyaml_strval_t tap_offload_names[] = {
	{ "tso", HAUL_OFFLOAD_TSO },
	{ "uso", HAUL_OFFLOAD_USO },
	{ "csum", HAUL_OFFLOAD_CSUM },
};
static const cyaml_strval_t udp_offload_names[] = {
	{ "gso", HAUL_OFFLOAD_GSO },
	{ "gro", HAUL_OFFLOAD_GRO },
};
/* of the presets, those for packets */
static const cyaml_strval_t preset_names[] = {
	{ "low-latency", HAUL_PRESET_LOW_LATENCY },
	{ "balanced", HAUL_PRESET_BALANCED },
	{ "throughput", HAUL_PRESET_THROUGHPUT },
};
#define X(id, name) { name, id },
static const cyaml_strval_t sizer_names[] = { HAUL_SIZER_LIST(X) };
#undef X

static const cyaml_schema_value_t peer_schema = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1,
								     HAUL_ADDR_TEXT - 1) };

static const cyaml_schema_field_t tap_fields[] = {
	CYAML_FIELD_STRING_PTR("ifname", PTR, struct file_tap, ifname, 1, CONFIG_IFNAME_BYTES - 1),
	CYAML_FIELD_UINT_PTR("mtu", OPT_PTR, struct file_tap, mtu),
	CYAML_FIELD_STRING_PTR("address", OPT_PTR, struct file_tap, address, 1, HAUL_ADDR_TEXT - 1),
	CYAML_FIELD_FLAGS_PTR("offloads", OPT_PTR | CYAML_FLAG_STRICT, struct file_tap, offloads,
			      tap_offload_names, 3),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t radio_fields[] = {
	CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct file_link, kind, kind_names, 2),
	CYAML_FIELD_STRING_PTR("ifname", OPT_PTR, struct file_link, ifname, 1,
			       CONFIG_IFNAME_BYTES - 1),
	CYAML_FIELD_STRING_PTR("local", OPT_PTR, struct file_link, local, 1, HAUL_ADDR_TEXT - 1),
	CYAML_FIELD_STRING_PTR("broadcast", OPT_PTR, struct file_link, broadcast, 1,
			       HAUL_ADDR_TEXT - 1),
	CYAML_FIELD_UINT_PTR("mtu", OPT_PTR, struct file_link, mtu),
	CYAML_FIELD_FLAGS_PTR("offloads", OPT_PTR | CYAML_FLAG_STRICT, struct file_link, offloads,
			      udp_offload_names, 2),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t backhaul_fields[] = {
	CYAML_FIELD_STRING_PTR("ifname", OPT_PTR, struct file_link, ifname, 1,
			       CONFIG_IFNAME_BYTES - 1),
	CYAML_FIELD_STRING_PTR("local", PTR, struct file_link, local, 1, HAUL_ADDR_TEXT - 1),
	CYAML_FIELD_SEQUENCE("peers", PTR, struct file_link, peers, &peer_schema, 0,
			     CONFIG_BACKHAUL_PEERS),
	CYAML_FIELD_UINT_PTR("mtu", OPT_PTR, struct file_link, mtu),
	CYAML_FIELD_FLAGS_PTR("offloads", OPT_PTR | CYAML_FLAG_STRICT, struct file_link, offloads,
			      udp_offload_names, 2),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t heartbeat_fields[] = {
	CYAML_FIELD_UINT_PTR("period_ms", OPT_PTR, struct file_heartbeat, period_ms),
	CYAML_FIELD_UINT_PTR("jitter_percent", OPT_PTR, struct file_heartbeat, jitter_percent),
	CYAML_FIELD_UINT_PTR("history", OPT_PTR, struct file_heartbeat, history),
	CYAML_FIELD_UINT_PTR("candidates", OPT_PTR, struct file_heartbeat, candidates),
	CYAML_FIELD_UINT_PTR("missed_max", OPT_PTR, struct file_heartbeat, missed_max),
	CYAML_FIELD_UINT_PTR("ttl", OPT_PTR, struct file_heartbeat, ttl),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t batch_fields[] = {
	CYAML_FIELD_ENUM("preset", OPT | CYAML_FLAG_STRICT, struct file_batch, preset, preset_names,
			 3),
	CYAML_FIELD_ENUM_PTR("sizer", OPT_PTR | CYAML_FLAG_STRICT, struct file_batch, sizer,
			     sizer_names, HAUL_SIZER_POLICIES),
	CYAML_FIELD_BOOL("individual", OPT, struct file_batch, individual), CYAML_FIELD_END
};

static const cyaml_schema_field_t file_fields[] = {
	CYAML_FIELD_ENUM("node", CYAML_FLAG_STRICT, struct file, role, role_names, 2),
	CYAML_FIELD_STRING_PTR("name", PTR, struct file, name, 1, CONFIG_NAME_BYTES - 1),
	CYAML_FIELD_STRING_PTR("id", OPT_PTR, struct file, id, 1, HAUL_ADDR_TEXT - 1),
	CYAML_FIELD_MAPPING("tap", CYAML_FLAG_DEFAULT, struct file, tap, tap_fields),
	CYAML_FIELD_MAPPING("radio", CYAML_FLAG_DEFAULT, struct file, radio, radio_fields),
	CYAML_FIELD_MAPPING_PTR("backhaul", OPT_PTR, struct file, backhaul, backhaul_fields),
	CYAML_FIELD_MAPPING("heartbeat", OPT, struct file, heartbeat, heartbeat_fields),
	CYAML_FIELD_MAPPING("batch", OPT, struct file, batch, batch_fields),
	CYAML_FIELD_STRING_PTR("control", OPT_PTR, struct file, control, 1, CONFIG_PATH_BYTES - 1),
	CYAML_FIELD_BOOL("flows", OPT, struct file, flows),
	CYAML_FIELD_END
};

static const cyaml_schema_value_t file_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER,
								      struct file, file_fields) };

_Static_assert(HAUL_PRESET_LOW_LATENCY == 0, "the preset when the file names none");

/* ---- checks and defaults ---- */

struct check {
	const char *path;
	struct haul_err *err;
};

static void copy_text(char *out, size_t bytes, const char *text)
{
	int n = snprintf(out, bytes, "%s", text != NULL ? text : "");
	HAUL_ASSERT(n >= 0 && (size_t)n < bytes); /* the schema bounds it */
}

struct number {
	const char *place;
	const uint32_t *value; /* NULL = not in the file */
	uint32_t min;
	uint32_t max;
	uint32_t otherwise;
	uint32_t *ret;
};

/* numbers end with a NULL place. */
static int take_numbers(const struct check *check, const struct number *numbers)
{
	for (; numbers->place != NULL; numbers++) {
		uint32_t value = numbers->value != NULL ? *numbers->value : numbers->otherwise;
		if (numbers->value != NULL && (value < numbers->min || value > numbers->max))
			return conf_fail(check->path, numbers->place, check->err, "want %u to %u",
					 numbers->min, numbers->max);
		*numbers->ret = value;
	}
	return 0;
}

static int take_id(const struct check *check, const struct file *file, struct node_config *config)
{
	struct haul_addr addr;
	if (file->id == NULL)
		return 0;
	if (haul_addr_parse(file->id, &addr, NULL) < 0 || addr.kind != HAUL_ADDR_MAC ||
	    mac_is_group(mac_load(addr.bytes)) || mac_load(addr.bytes) == 0)
		return conf_fail(check->path, "id", check->err,
				 "want the MAC address of one station, like 02:00:00:00:01:01");
	config->id = mac_load(addr.bytes);
	return 0;
}

/* "192.0.2.1/24" or "2001:db8::1/64" */
static bool is_cidr(const char *text)
{
	char address[HAUL_ADDR_TEXT];
	uint8_t bytes[16];
	char *end;
	const char *slash = strchr(text, '/');
	if (slash == NULL || slash[1] < '0' || slash[1] > '9')
		return false;
	copy_text(address, sizeof address, text);
	address[slash - text] = '\0';
	unsigned long bits = strtoul(slash + 1, &end, 10);
	if (*end != '\0')
		return false;
	if (inet_pton(AF_INET, address, bytes) == 1)
		return bits <= 32;
	return inet_pton(AF_INET6, address, bytes) == 1 && bits <= 128;
}

static int take_tap(const struct check *check, const struct file_tap *file, struct config_tap *tap)
{
	const struct number numbers[] = {
		{ "tap.mtu", file->mtu, TAP_MTU_MIN, TAP_MTU_MAX, 0, &tap->mtu },
		{ 0 },
	};
	copy_text(tap->ifname, sizeof tap->ifname, file->ifname);
	if (file->address != NULL && !is_cidr(file->address))
		return conf_fail(check->path, "tap.address", check->err,
				 "want an address and its prefix length, like 10.1.0.5/24");
	copy_text(tap->address, sizeof tap->address, file->address);
	tap->offloads = file->offloads != NULL
				? *file->offloads
				: HAUL_OFFLOAD_TSO | HAUL_OFFLOAD_USO | HAUL_OFFLOAD_CSUM;
	return take_numbers(check, numbers);
}

/* An address with port into ret, which says its kind. key is that of the link at place. */
static int take_address(const struct check *check, const char *place, const char *text,
			struct haul_addr *ret)
{
	struct haul_addr addr;
	if (haul_addr_parse(text, &addr, NULL) < 0 ||
	    (addr.kind != HAUL_ADDR_IPV4 && addr.kind != HAUL_ADDR_IPV6) || addr.port == 0)
		return conf_fail(check->path, place, check->err,
				 "want an address and a port, like 192.0.2.1:4789");
	*ret = addr;
	return 0;
}

static int take_raw(const struct check *check, const struct file_link *file)
{
	if (file->ifname == NULL)
		return conf_fail(check->path, "radio", check->err,
				 "key \"ifname\" is missing: kind raw names its interface");
	if (file->local != NULL || file->broadcast != NULL)
		return conf_fail(check->path,
				 file->local != NULL ? "radio.local" : "radio.broadcast",
				 check->err, "is for kind udp only");
	if (file->offloads != NULL)
		return conf_fail(check->path, "radio.offloads", check->err, "is for kind udp only");
	return 0;
}

static int take_udp_radio(const struct check *check, const struct file_link *file,
			  struct config_link *link)
{
	if (file->local == NULL || file->broadcast == NULL)
		return conf_fail(check->path, "radio", check->err,
				 "key \"%s\" is missing: kind udp needs it",
				 file->local == NULL ? "local" : "broadcast");
	int rc = take_address(check, "radio.local", file->local, &link->local);
	if (rc == 0)
		rc = take_address(check, "radio.broadcast", file->broadcast, &link->broadcast);
	if (rc == 0 && link->local.kind != link->broadcast.kind)
		rc = conf_fail(check->path, "radio.broadcast", check->err,
			       "want an address of the same kind as radio.local");
	return rc;
}

static void take_common(const struct file_link *file, struct config_link *link)
{
	copy_text(link->ifname, sizeof link->ifname, file->ifname);
	link->offloads =
		file->offloads != NULL ? *file->offloads : HAUL_OFFLOAD_GSO | HAUL_OFFLOAD_GRO;
}

static int take_radio(const struct check *check, const struct file_link *file,
		      struct config_link *link)
{
	const struct number numbers[] = {
		{ "radio.mtu", file->mtu, LINK_MTU_MIN, HAUL_MESSAGE_BYTES_MAX, 0, &link->mtu },
		{ 0 },
	};
	link->kind = file->kind;
	take_common(file, link);
	int rc = file->kind == HAUL_LINK_RAW ? take_raw(check, file)
					     : take_udp_radio(check, file, link);
	return rc < 0 ? rc : take_numbers(check, numbers);
}

static int take_peers(const struct check *check, const struct file_link *file,
		      struct node_config *config)
{
	for (uint32_t i = 0; i < file->peers_count; i++) {
		char place[PLACE_BYTES];
		(void)snprintf(place, sizeof place, "backhaul.peers[%u]", i);
		int rc = take_address(check, place, file->peers[i], &config->peers[i]);
		if (rc < 0)
			return rc;
		if (config->peers[i].kind != config->backhaul.local.kind)
			return conf_fail(check->path, place, check->err,
					 "want an address of the same kind as backhaul.local");
		for (uint32_t n = 0; n < i; n++)
			if (memcmp(&config->peers[n], &config->peers[i], sizeof config->peers[n]) ==
			    0)
				return conf_fail(check->path, place, check->err, "given twice");
	}
	config->peer_count = file->peers_count;
	return 0;
}

static int take_backhaul(const struct check *check, const struct file *file,
			 struct node_config *config)
{
	const struct file_link *backhaul = file->backhaul;
	if (backhaul == NULL)
		return 0;
	if (file->role != NODE_RSU)
		return conf_fail(check->path, "backhaul", check->err, "is for node: rsu only");
	const struct number numbers[] = {
		{ "backhaul.mtu", backhaul->mtu, LINK_MTU_MIN, HAUL_MESSAGE_BYTES_MAX, 0,
		  &config->backhaul.mtu },
		{ 0 },
	};
	config->has_backhaul = true;
	config->backhaul.kind = HAUL_LINK_UDP;
	take_common(backhaul, &config->backhaul);
	int rc = take_address(check, "backhaul.local", backhaul->local, &config->backhaul.local);
	if (rc == 0)
		rc = take_peers(check, backhaul, config);
	return rc < 0 ? rc : take_numbers(check, numbers);
}

static int take_heartbeat(const struct check *check, const struct file_heartbeat *file,
			  struct config_heartbeat *heartbeat)
{
	const struct number numbers[] = {
		{ "heartbeat.period_ms", file->period_ms, PERIOD_MS_MIN, PERIOD_MS_MAX, 200,
		  &heartbeat->period_ms },
		{ "heartbeat.jitter_percent", file->jitter_percent, 0, JITTER_PERCENT_MAX,
		  JITTER_PERCENT_DEFAULT, &heartbeat->jitter_percent },
		{ "heartbeat.history", file->history, HISTORY_MIN, HISTORY_MAX, 10,
		  &heartbeat->history },
		{ "heartbeat.candidates", file->candidates, 1, CONTROL_CANDIDATES_MAX, 3,
		  &heartbeat->candidates },
		{ "heartbeat.missed_max", file->missed_max, 1, MISSED_MAX, 3,
		  &heartbeat->missed_max },
		{ "heartbeat.ttl", file->ttl, 1, TTL_MAX, 8, &heartbeat->ttl },
		{ 0 },
	};
	return take_numbers(check, numbers);
}

static int take_all(const struct check *check, const struct file *file, struct node_config *config)
{
	copy_text(config->name, sizeof config->name, file->name);
	copy_text(config->control, sizeof config->control, file->control);
	config->role = file->role;
	config->flows = file->flows;
	config->batch.limits = haul_limits_preset(file->batch.preset);
	config->batch.individual = file->batch.individual;
	config->batch.sizer = file->batch.sizer != NULL ? *file->batch.sizer : HAUL_SIZER_FILL;
	int rc = take_id(check, file, config);
	if (rc == 0)
		rc = take_tap(check, &file->tap, &config->tap);
	if (rc == 0)
		rc = take_radio(check, &file->radio, &config->radio);
	if (rc == 0)
		rc = take_backhaul(check, file, config);
	if (rc == 0)
		rc = take_heartbeat(check, &file->heartbeat, &config->heartbeat);
	return rc;
}

int config_load(const char *path, struct node_config *ret_config, struct haul_err *err)
{
	struct node_config config = { 0 };
	void *data = NULL;
	if (strlen(path) >= sizeof config.file)
		return haul_err_set(err, -ENAMETOOLONG, "%.64s...: the name is longer than %d",
				    path, CONFIG_FILE_BYTES - 1);
	int rc = conf_load(path, &file_schema, &data, err);
	if (rc < 0)
		return rc;
	copy_text(config.file, sizeof config.file, path);
	rc = take_all(&(struct check){ .path = path, .err = err }, data, &config);
	conf_free(&file_schema, data);
	if (rc < 0)
		return rc;
	*ret_config = config;
	return 0;
}

int config_tap_mtu(const struct node_config *config, uint32_t message_bytes, uint32_t *ret_mtu,
		   struct haul_err *err)
{
	uint32_t overhead = MESSAGE_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES;
	HAUL_ASSERT(message_bytes >= LINK_MTU_MIN);
	uint32_t most = message_bytes - overhead;
	if (config->tap.mtu > most)
		return conf_fail(config->file, "tap.mtu", err,
				 "does not fit: want at most %u, as the links carry messages of %u "
				 "bytes and a frame needs %u more than the MTU",
				 most, message_bytes, overhead);
	if (most > TAP_MTU_DEFAULT_MAX)
		most = TAP_MTU_DEFAULT_MAX;
	*ret_mtu = config->tap.mtu != 0 ? config->tap.mtu : most;
	return 0;
}
