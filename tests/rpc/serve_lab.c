#include "serve_lab.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the server ---- */

static void *serve(void *arg)
{
	struct serve_lab *lab = arg;
	const int rc = store_server_run(lab->server);
	return (void *)(intptr_t)rc;
}

void serve_lab_start(struct serve_lab *lab, const struct store_server_options *options)
{
	struct store_server_options own = { .store = lab->store,
					    .addresses = { lab->local, "127.0.0.1:0" },
					    .address_count = 2,
					    .stats = lab->stats };
	if (options != NULL) {
		own.connections_max = options->connections_max;
		own.token_file = options->token_file;
	}
	const int rc = store_server_open(&lab->server, &own, &lab->err);
	if (rc < 0)
		fail_msg("%s", lab->err.text);
	(void)snprintf(lab->tcp, sizeof lab->tcp, "127.0.0.1:%u", store_server_port(lab->server));
	if (lab->tune != NULL)
		lab->tune(lab->server);
	assert_int_equal(pthread_create(&lab->thread, NULL, serve, lab), 0);
	lab->runs = true;
}

void serve_lab_stop(struct serve_lab *lab)
{
	void *rc;

	if (!lab->runs)
		return;
	store_server_stop(lab->server);
	assert_int_equal(pthread_join(lab->thread, &rc), 0);
	assert_null(rc);
	store_server_close(lab->server);
	lab->server = NULL;
	lab->runs = false;
}

void serve_lab_open(struct serve_lab *lab, const struct store_server_options *options)
{
	memset(lab, 0, sizeof *lab);
	assert_int_equal(haul_stats_table_open(&lab->stats), 0);
	const struct haul_store_options store = { .memory = 128 << 20, .stats = lab->stats };
	folder_lab_open(&lab->folder);
	(void)snprintf(lab->local, sizeof lab->local, "unix:%s/socket", lab->folder.path);
	assert_int_equal(haul_store_init(lab->folder.store, &lab->err), 0);
	assert_int_equal(haul_store_open(&lab->store, lab->folder.store, &store, &lab->err), 0);
	serve_lab_start(lab, options);
}

void serve_lab_close(struct serve_lab *lab)
{
	serve_lab_stop(lab);
	assert_int_equal(haul_store_close(lab->store), 0);
	haul_stats_table_close(lab->stats);
	folder_lab_close(&lab->folder);
}

struct look {
	const char *block, *name;
	enum haul_close reason;
	uint64_t value;
	bool found;
};

static void look_at(const struct haul_stats *stats, void *arg)
{
	struct look *look = arg;

	if (strcmp(stats->name, look->block) != 0)
		return;
	if (look->name == NULL) {
		look->value = stats->closed[look->reason];
		look->found = true;
	}
	for (uint32_t i = 0; look->name != NULL && i < stats->counter_count; i++) {
		if (strcmp(stats->counters[i].name, look->name) != 0)
			continue;
		look->value = stats->extra[i];
		look->found = true;
	}
}

uint64_t serve_lab_figure(struct serve_lab *lab, const char *block, const char *name)
{
	struct look look = { .block = block, .name = name };

	(void)haul_stats_visit(lab->stats, look_at, &look);
	assert_true(look.found);
	return look.value;
}

uint64_t serve_lab_closed(struct serve_lab *lab, const char *block, enum haul_close reason)
{
	struct look look = { .block = block, .reason = reason };

	(void)haul_stats_visit(lab->stats, look_at, &look);
	assert_true(look.found);
	return look.value;
}

struct haul_client *serve_lab_client(struct serve_lab *lab, const char *address,
				     const struct haul_client_options *options)
{
	struct haul_client_options own = { .policy = HAUL_CLIENT_SELFCLOCK };
	struct haul_client *client;

	if (options != NULL)
		own = *options;
	own.stats = lab->stats;
	const int rc = haul_client_open(&client, address, &own, &lab->err);
	if (rc < 0)
		fail_msg("%s", lab->err.text);
	return client;
}

void serve_lab_nodes(struct haul_changes *changes, uint64_t from, uint32_t count)
{
	haul_changes_clear(changes);
	for (uint32_t i = 0; i < count; i++) {
		const struct haul_node node = { .id = from + i, .kind = 1 };
		assert_int_equal(haul_changes_create_node(changes, &node, NULL), i);
	}
}

bool serve_lab_has(struct serve_lab *lab, uint64_t id)
{
	struct haul_reader *reader;
	struct haul_node node;
	int32_t status;

	assert_int_equal(haul_store_reader(lab->store, 1 << 16, &reader), 0);
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), 1);
	haul_reader_close(reader);
	assert_true(status == 0 || status == -ENOENT);
	return status == 0;
}

/* ---- the proxy ---- */

enum { PAIRS = 16, PIECE = 64 << 10 };

struct pair {
	int client, server; /* -1: none */
};
struct serve_proxy {
	char address[FOLDER_LAB_PATH + 32];
	char target[FOLDER_LAB_PATH + 32];
	int listener, wake;
	pthread_t thread;
	struct pair pairs[PAIRS];
	_Atomic bool hold, mute, refuse, end;
	_Atomic uint32_t cuts_wanted, cuts_done;
	_Atomic uint64_t carried, rounds;
};

static struct sockaddr_un name_of(const char *address)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	assert_true(strlen(address) - 5 < sizeof name.sun_path);
	memcpy(name.sun_path, address + 5, strlen(address) - 5);
	return name;
}

static void pair_end(struct pair *pair)
{
	if (pair->client >= 0)
		(void)close(pair->client);
	if (pair->server >= 0)
		(void)close(pair->server);
	pair->client = pair->server = -1;
}

static void pair_begin(struct serve_proxy *proxy)
{
	const struct sockaddr_un name = name_of(proxy->target);
	const int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);

	if (client < 0)
		return;
	for (uint32_t i = 0; i < PAIRS && !proxy->refuse; i++) {
		struct pair *pair = &proxy->pairs[i];
		if (pair->client >= 0)
			continue;
		pair->client = client;
		pair->server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(pair->server, (const struct sockaddr *)&name, sizeof name) < 0)
			pair_end(pair);
		return;
	}
	(void)close(client);
}

/* false: one of the two has ended. */
static bool carry(int from, int to, _Atomic uint64_t *count)
{
	static _Thread_local uint8_t piece[PIECE];
	const ssize_t got = recv(from, piece, sizeof piece, 0);

	if (got <= 0)
		return false;
	if (count != NULL)
		*count += (uint64_t)got;
	for (ssize_t at = 0; at < got;) {
		const ssize_t put = send(to, piece + at, (size_t)(got - at), MSG_NOSIGNAL);
		if (put <= 0)
			return false;
		at += put;
	}
	return true;
}

static void *carry_all(void *arg)
{
	struct serve_proxy *proxy = arg;
	uint64_t count;

	while (!proxy->end) {
		proxy->rounds++;
		struct pollfd fds[2 + 2 * PAIRS] = { { proxy->wake, POLLIN, 0 },
						     { proxy->listener, POLLIN, 0 } };
		for (uint32_t i = 0; i < PAIRS; i++) {
			const struct pair *pair = &proxy->pairs[i];
			fds[2 + 2 * i].fd = proxy->mute ? -1 : pair->client;
			fds[3 + 2 * i].fd = proxy->hold ? -1 : pair->server;
			fds[2 + 2 * i].events = fds[3 + 2 * i].events = POLLIN;
		}
		(void)poll(fds, 2 + 2 * PAIRS, -1);
		if (fds[0].revents != 0)
			(void)!read(proxy->wake, &count, sizeof count);
		const bool cut = proxy->cuts_done != proxy->cuts_wanted;
		for (uint32_t i = 0; i < PAIRS; i++) {
			struct pair *pair = &proxy->pairs[i];
			if (cut || (fds[2 + 2 * i].revents != 0 &&
				    !carry(pair->client, pair->server, &proxy->carried)))
				pair_end(pair);
			else if (fds[3 + 2 * i].revents != 0 &&
				 !carry(pair->server, pair->client, NULL))
				pair_end(pair);
		}
		if (cut)
			proxy->cuts_done = proxy->cuts_wanted;
		if (fds[1].revents != 0)
			pair_begin(proxy);
	}
	return NULL;
}

static void wake(struct serve_proxy *proxy)
{
	const uint64_t one = 1;
	assert_int_equal(write(proxy->wake, &one, sizeof one), sizeof one);
}

/* Once this returns nothing is carried any more by what was asked before. */
static void wake_and_wait(struct serve_proxy *proxy)
{
	const uint64_t round = proxy->rounds;

	while (proxy->rounds == round) {
		wake(proxy);
		(void)sched_yield();
	}
}

struct serve_proxy *serve_proxy_open(struct serve_lab *lab)
{
	struct serve_proxy *proxy = calloc(1, sizeof *proxy);

	assert_non_null(proxy);
	for (uint32_t i = 0; i < PAIRS; i++)
		proxy->pairs[i] = (struct pair){ -1, -1 };
	(void)snprintf(proxy->address, sizeof proxy->address, "unix:%s/proxy", lab->folder.path);
	memcpy(proxy->target, lab->local, sizeof proxy->target);
	proxy->wake = eventfd(0, EFD_CLOEXEC);
	proxy->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_un name = name_of(proxy->address);
	assert_int_equal(bind(proxy->listener, (const struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(listen(proxy->listener, PAIRS), 0);
	assert_int_equal(pthread_create(&proxy->thread, NULL, carry_all, proxy), 0);
	return proxy;
}

void serve_proxy_close(struct serve_proxy *proxy)
{
	proxy->end = true;
	wake(proxy);
	assert_int_equal(pthread_join(proxy->thread, NULL), 0);
	for (uint32_t i = 0; i < PAIRS; i++)
		pair_end(&proxy->pairs[i]);
	(void)close(proxy->listener);
	(void)close(proxy->wake);
	(void)unlink(proxy->address + 5);
	free(proxy);
}

const char *serve_proxy_address(const struct serve_proxy *proxy)
{
	return proxy->address;
}

void serve_proxy_hold(struct serve_proxy *proxy, bool hold)
{
	proxy->hold = hold;
	wake_and_wait(proxy);
}

void serve_proxy_mute(struct serve_proxy *proxy, bool mute)
{
	proxy->mute = mute;
	wake_and_wait(proxy);
}

void serve_proxy_refuse(struct serve_proxy *proxy, bool refuse)
{
	proxy->refuse = refuse;
	wake_and_wait(proxy);
}

void serve_proxy_cut(struct serve_proxy *proxy)
{
	const uint32_t wanted = ++proxy->cuts_wanted;

	wake(proxy);
	while (proxy->cuts_done < wanted)
		(void)sched_yield();
}

uint64_t serve_proxy_carried(const struct serve_proxy *proxy)
{
	return proxy->carried;
}
