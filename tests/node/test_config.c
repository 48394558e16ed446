/* node/test_config.c — what a node's file may say, and what is said of one that is wrong. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "node/config.h"

static char directory[] = "/tmp/haul-config-XXXXXX";
static char path[64];

static int open_directory(void **state)
{
	(void)state;
	if (mkdtemp(directory) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/n.yaml", directory);
	return 0;
}

static int close_directory(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(directory);
}

static int load(const char *text, struct node_config *config, struct haul_err *err)
{
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	memset(err, 0, sizeof *err);
	return config_load(path, config, err);
}

#define OBU "node: obu\nname: car\ntap: {ifname: haul0}\nradio: {kind: raw, ifname: r0}\n"
#define RSU                                                                                        \
	"node: rsu\nname: rsu\ntap: {ifname: haul0}\n"                                             \
	"radio: {kind: udp, local: \"10.0.0.1:47\", broadcast: \"10.0.0.255:47\"}\n"

/* A file with no more than what is required gives the documented defaults. */
static void test_config__defaults(void **state)
{
	struct node_config config;
	struct haul_err err;
	(void)state;
	assert_int_equal(load(OBU, &config, &err), 0);
	assert_int_equal(config.role, NODE_OBU);
	assert_string_equal(config.name, "car");
	assert_string_equal(config.file, path);
	assert_int_equal(config.id, 0);
	assert_int_equal(config.tap.mtu, 0);
	assert_string_equal(config.tap.address, "");
	assert_int_equal(config.tap.offloads,
			 HAUL_OFFLOAD_TSO | HAUL_OFFLOAD_USO | HAUL_OFFLOAD_CSUM);
	assert_int_equal(config.radio.kind, HAUL_LINK_RAW);
	assert_string_equal(config.radio.ifname, "r0");
	assert_false(config.has_backhaul);
	assert_int_equal(config.heartbeat.period_ms, 200);
	assert_int_equal(config.heartbeat.jitter_percent, 10);
	assert_int_equal(config.heartbeat.history, 10);
	assert_int_equal(config.heartbeat.candidates, 3);
	assert_int_equal(config.heartbeat.missed_max, 3);
	assert_int_equal(config.heartbeat.ttl, 8);
	assert_int_equal(config.batch.limits.ops_max, 8);
	assert_int_equal(config.batch.limits.wait_max_ns, 0);
	assert_int_equal(config.batch.sizer, HAUL_SIZER_FILL);
	assert_false(config.batch.individual);
	assert_false(config.flows);
	assert_string_equal(config.control, "");
}

/* Every key there is arrives where it belongs. */
static void test_config__every_key(void **state)
{
	struct node_config config;
	struct haul_err err = { 0 };
	(void)state;
	const char *text = "node: rsu\nname: corner\nid: \"02:00:00:00:01:01\"\n"
			   "tap: {ifname: t1, mtu: 1300, address: 10.1.0.5/24, offloads: [csum]}\n"
			   "radio: {kind: udp, ifname: w0, local: \"10.0.0.1:4789\", "
			   "broadcast: \"10.0.0.255:4790\", mtu: 1400, offloads: []}\n"
			   "backhaul: {local: \"10.9.0.1:1\", ifname: e0, mtu: 9000, "
			   "offloads: [gro], peers: [\"10.9.0.2:2\", \"10.9.0.3:3\"]}\n"
			   "heartbeat: {period_ms: 500, jitter_percent: 0, history: 4, "
			   "candidates: 8, missed_max: 5, ttl: 2}\n"
			   "batch: {preset: throughput, sizer: model, individual: true}\n"
			   "control: /run/x.sock\n"
			   "flows: true\n";
	if (load(text, &config, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(config.role, NODE_RSU);
	assert_true(config.id == UINT64_C(0x020000000101));
	assert_string_equal(config.tap.ifname, "t1");
	assert_int_equal(config.tap.mtu, 1300);
	assert_string_equal(config.tap.address, "10.1.0.5/24");
	assert_int_equal(config.tap.offloads, HAUL_OFFLOAD_CSUM);
	assert_int_equal(config.radio.kind, HAUL_LINK_UDP);
	assert_string_equal(config.radio.ifname, "w0");
	assert_int_equal(config.radio.local.port, 4789);
	assert_int_equal(config.radio.broadcast.bytes[3], 255);
	assert_int_equal(config.radio.broadcast.port, 4790);
	assert_int_equal(config.radio.mtu, 1400);
	assert_int_equal(config.radio.offloads, 0);
	assert_true(config.has_backhaul);
	assert_int_equal(config.backhaul.mtu, 9000);
	assert_string_equal(config.backhaul.ifname, "e0");
	assert_int_equal(config.backhaul.offloads, HAUL_OFFLOAD_GRO);
	assert_int_equal(config.peer_count, 2);
	assert_int_equal(config.peers[1].port, 3);
	assert_int_equal(config.heartbeat.period_ms, 500);
	assert_int_equal(config.heartbeat.jitter_percent, 0);
	assert_int_equal(config.heartbeat.history, 4);
	assert_int_equal(config.heartbeat.candidates, 8);
	assert_int_equal(config.heartbeat.missed_max, 5);
	assert_int_equal(config.heartbeat.ttl, 2);
	assert_int_equal(config.batch.limits.ops_max, 32);
	assert_int_equal(config.batch.sizer, HAUL_SIZER_MODEL);
	assert_true(config.batch.individual);
	assert_string_equal(config.control, "/run/x.sock");
	assert_true(config.flows);
}

/* Each wrong file is refused, and the one line that says so has the line number, the key, the
 * value and what would be right; nothing is written to the configuration. */
static void test_config__says_what_is_wrong_and_where(void **state)
{
	static const struct {
		const char *text;
		const char *want[4]; /* all of these are in the text of the error */
	} cases[] = {
		{ OBU "colour: red\n", { ":5: ", "colour", "known: node, name, id" } },
		{ "node: obu\nname: car\ntap: {ifname: haul0, mru: 3}\nradio: {kind: raw}\n",
		  { ":3: ", "mru", "ifname, mtu" } },
		{ "node: bus\nname: car\ntap: {ifname: h}\nradio: {kind: raw, ifname: r}\n",
		  { ":1: ", "node", "bus", "obu, rsu" } },
		{ OBU "batch:\n  individual: false\n  preset: quick\n",
		  { ":7: ", "batch.preset", "quick", "low-latency, balanced, throughput" } },
		{ OBU "batch: {sizer: 7}\n", { ":5: ", "batch.sizer", "7", "fixed, fill" } },
		{ OBU "heartbeat:\n  ttl: 8\n  period_ms: 5\n",
		  { ":7: ", "heartbeat.period_ms", "5", "10 to 60000" } },
		{ OBU "heartbeat: {jitter_percent: 51}\n",
		  { ":5: ", "jitter_percent", "51", "0 to 50" } },
		{ OBU "heartbeat: {history: 3}\n", { ":5: ", "history", "\"3\"", "4 to 32" } },
		{ OBU "heartbeat: {candidates: 0}\n", { ":5: ", "candidates", "\"0\"", "1 to 8" } },
		{ OBU "heartbeat: {missed_max: 0}\n", { ":5: ", "missed_max", "1 to 100" } },
		{ OBU "heartbeat: {ttl: 300}\n", { ":5: ", "ttl", "300", "1 to 64" } },
		{ OBU "heartbeat: {period_ms: soon}\n",
		  { ":5: ", "period_ms", "soon", "whole number" } },
		{ OBU "heartbeat: {period_ms: -200}\n", { ":5: ", "period_ms", "-200" } },
		{ OBU "heartbeat: {period_ms: [1]}\n", { ":5: ", "period_ms", "whole number" } },
		{ OBU "batch: {individual: perhaps}\n", { ":5: ", "perhaps", "true or false" } },
		{ OBU "batch: fast\n", { ":5: ", "batch", "keys" } },
		{ OBU "id: 02:00:00:00:01\n", { ":5: ", "id", "02:00:00:00:01\"", "MAC" } },
		{ OBU "id: \"ff:ff:ff:ff:ff:ff\"\n", { ":5: ", "id", "ff:ff", "one station" } },
		{ OBU "id: \"00:00:00:00:00:00\"\n", { ":5: ", "id", "MAC" } },
		{ "node: obu\ntap: {ifname: haul0}\nradio: {kind: raw, ifname: r0}\n",
		  { ":1: ", "name", "missing" } },
		{ "node: obu\nname: car\nradio: {kind: raw, ifname: r0}\ntap:\n  mtu: 1400\n",
		  { ":4: ", "ifname", "missing" } },
		{ OBU "name: bus\n", { ":5: ", "name", "twice" } },
		{ "node: obu\nname: car\ntap: {ifname: interface-name-too-long}\n"
		  "radio: {kind: raw, ifname: r0}\n",
		  { ":3: ", "tap.ifname", "interface-name-too-long", "1 to 15" } },
		{ "node: obu\nname: car\ntap: {ifname: h, address: 10.1.0.5}\n"
		  "radio: {kind: raw, ifname: r0}\n",
		  { ":3: ", "tap.address", "10.1.0.5", "prefix" } },
		{ "node: obu\nname: car\ntap: {ifname: h, address: 10.1.0.5/33}\n"
		  "radio: {kind: raw, ifname: r0}\n",
		  { ":3: ", "tap.address", "10.1.0.5/33" } },
		{ "node: obu\nname: car\ntap: {ifname: h, mtu: 20}\n"
		  "radio: {kind: raw, ifname: r0}\n",
		  { ":3: ", "tap.mtu", "20", "68 to" } },
		{ "node: obu\nname: car\ntap: {ifname: h, offloads: [gso]}\n"
		  "radio: {kind: raw, ifname: r0}\n",
		  { ":3: ", "tap.offloads", "tso, uso, csum" } },
		{ "node: obu\nname: car\ntap: {ifname: h}\nradio: {kind: raw}\n",
		  { ":4: ", "radio", "ifname", "missing" } },
		{ "node: obu\nname: car\ntap: {ifname: h}\n"
		  "radio: {kind: raw, ifname: r, local: \"10.0.0.1:4\"}\n",
		  { ":4: ", "radio.local", "udp only" } },
		{ "node: obu\nname: car\ntap: {ifname: h}\n"
		  "radio: {kind: raw, ifname: r, offloads: [gso]}\n",
		  { ":4: ", "radio.offloads", "udp only" } },
		{ "node: obu\nname: car\ntap: {ifname: h}\n"
		  "radio:\n  kind: udp\n  broadcast: \"10.0.0.255:4\"\n",
		  { ":4: ", "radio", "local", "missing" } },
		{ "node: obu\nname: car\ntap: {ifname: h}\n"
		  "radio:\n  kind: udp\n  broadcast: \"10.0.0.255:4\"\n  local: 10.0.0.1\n",
		  { ":7: ", "radio.local", "10.0.0.1", "port" } },
		{ "node: obu\nname: car\ntap: {ifname: h}\n"
		  "radio: {kind: udp, local: \"10.0.0.1:4\", broadcast: \"[ff02::1]:4\"}\n",
		  { ":4: ", "radio.broadcast", "ff02::1", "same kind" } },
		{ OBU "backhaul: {local: \"10.0.0.1:4\", peers: []}\n",
		  { ":5: ", "backhaul", "rsu only" } },
		{ RSU
		  "backhaul:\n  local: \"10.0.0.1:4\"\n  peers:\n  - \"10.0.0.2:4\"\n  - here\n",
		  { ":9: ", "backhaul.peers[1]", "here", "address and a port" } },
		{ RSU "backhaul: {local: \"10.0.0.1:4\", peers: [\"1.1.1.1:1\", \"1.1.1.1:1\"]}\n",
		  { ":5: ", "backhaul.peers[1]", "1.1.1.1:1", "twice" } },
		{ RSU "backhaul: {local: \"10.0.0.1:4\", peers: [\"[::1]:1\"]}\n",
		  { ":5: ", "backhaul.peers[0]", "::1", "same kind" } },
		{ RSU "backhaul: {local: \"10.0.0.1:4\"}\n", { ":5: ", "peers", "missing" } },
		{ "", { "n.yaml", "empty" } },
		{ "# nothing but this\n", { "n.yaml", "empty" } },
		{ "node: obu\nname: [car\ntap: 7\n", { ":3: ", "not YAML" } },
		{ "just words\n", { ":1: ", "keys" } },
	};
	struct node_config config, untouched;
	struct haul_err err;
	(void)state;
	memset(&config, 0x55, sizeof config);
	untouched = config;
	for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(load(cases[i].text, &config, &err), HAUL_ECONFIG);
		assert_non_null(strstr(err.text, "n.yaml"));
		assert_null(strchr(err.text, '\n'));
		for (uint32_t n = 0; n < 4 && cases[i].want[n] != NULL; n++)
			if (strstr(err.text, cases[i].want[n]) == NULL)
				fail_msg("case %u: \"%s\" lacks \"%s\"", i, err.text,
					 cases[i].want[n]);
		assert_memory_equal(&config, &untouched, sizeof config);
	}
}

/* What cannot be read at all is an error with the file's name. */
static void test_config__file_that_cannot_be_read(void **state)
{
	struct node_config config;
	struct haul_err err = { 0 };
	char other[128];
	(void)state;
	(void)snprintf(other, sizeof other, "%s/none.yaml", directory);
	assert_int_equal(config_load(other, &config, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none.yaml"));
	assert_int_equal(config_load(directory, &config, &err), -EISDIR);
	assert_non_null(strstr(err.text, directory));
	char *endless = calloc(1, 2 * CONFIG_FILE_BYTES);
	assert_non_null(endless);
	memset(endless, 'x', 2 * CONFIG_FILE_BYTES - 1);
	assert_int_equal(config_load(endless, &config, &err), -ENAMETOOLONG);
	free(endless);
}

/* The TAP's MTU follows from what the links carry; a configured one that does not fit is refused
 * with both numbers. */
static void test_config__tap_mtu_fits_the_links(void **state)
{
	struct node_config config;
	struct haul_err err;
	uint32_t mtu = 0;
	(void)state;
	assert_int_equal(load(OBU, &config, &err), 0);
	assert_int_equal(config_tap_mtu(&config, 1472, &mtu, &err), 0);
	assert_int_equal(mtu, 1472 - 32 - 16 - 18);
	assert_int_equal(config_tap_mtu(&config, 65507, &mtu, &err), 0);
	assert_int_equal(mtu, 9216);
	const char *text = "node: obu\nname: car\ntap:\n  ifname: haul0\n  mtu: 1407\n"
			   "radio: {kind: raw, ifname: r0}\n";
	assert_int_equal(load(text, &config, &err), 0);
	assert_int_equal(config_tap_mtu(&config, 1473, &mtu, &err), 0);
	assert_int_equal(mtu, 1407);
	assert_int_equal(config_tap_mtu(&config, 1472, &mtu, &err), HAUL_ECONFIG);
	assert_non_null(strstr(err.text, ":5: tap.mtu: \"1407\""));
	assert_non_null(strstr(err.text, "1406"));
	assert_non_null(strstr(err.text, "1472"));
}

/* The examples are good. */
static void test_config__examples(void **state)
{
	static const char *const names[] = { "node-obu.yaml", "node-rsu.yaml" };
	const char *examples = getenv("HAUL_EXAMPLES");
	(void)state;
	assert_non_null(examples);
	for (uint32_t i = 0; i < 2; i++) {
		struct node_config config;
		struct haul_err err = { 0 };
		char name[512];
		(void)snprintf(name, sizeof name, "%s/%s", examples, names[i]);
		if (config_load(name, &config, &err) < 0)
			fail_msg("%s", err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config__defaults),
		cmocka_unit_test(test_config__every_key),
		cmocka_unit_test(test_config__says_what_is_wrong_and_where),
		cmocka_unit_test(test_config__file_that_cannot_be_read),
		cmocka_unit_test(test_config__tap_mtu_fits_the_links),
		cmocka_unit_test(test_config__examples),
	};
	return cmocka_run_group_tests(tests, open_directory, close_directory);
}
