#include "node/clients.h"

#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include <haul/message.h>
#include "base/assert.h"
#include "base/bytes.h"

enum { LEARNT_MAX = NODE_CLIENTS_MAX - NODE_ROUTES_MAX };

bool clients_is_station(uint64_t mac)
{
	return mac != 0 && mac < HAUL_NODE_BROADCAST && !mac_is_group(mac);
}

int clients_init(struct clients *clients, uint64_t self, uint64_t secret)
{
	HAUL_ASSERT(self != 0);
	*clients = (struct clients){ .self = self };
	const int rc = row_index_init(&clients->index, NODE_CLIENTS_MAX, secret);
	clients->row = calloc(NODE_CLIENTS_MAX, sizeof *clients->row);
	clients->used_ns = calloc(NODE_CLIENTS_MAX, sizeof *clients->used_ns);
	if (rc == 0 && clients->row != NULL && clients->used_ns != NULL)
		return 0;
	clients_done(clients);
	return -ENOMEM;
}

void clients_done(struct clients *clients)
{
	row_index_done(&clients->index);
	free(clients->row);
	free(clients->used_ns);
	*clients = (struct clients){ 0 };
}

static int add(struct clients *clients, const struct client_news *news, int64_t used_ns)
{
	const uint32_t limit = news->declared ? NODE_CLIENTS_MAX : LEARNT_MAX;

	if (clients->count >= limit)
		return HAUL_EFULL;
	const uint32_t row = clients->count++;
	clients->row[row].mac = news->mac;
	clients->row[row].owner = news->owner;
	clients->used_ns[row] = used_ns;
	row_index_put(&clients->index, news->mac, row);
	HAUL_ASSERT(clients->count == clients->index.count);
	clients->version++;
	return 1;
}

int clients_learn(struct clients *clients, const struct client_news *news)
{
	if (!clients_is_station(news->mac) || !clients_is_station(news->owner))
		return -EINVAL;
	const bool own_tap = news->declared && news->owner == clients->self;
	const int64_t used_ns = own_tap ? INT64_MAX : news->now_ns;
	const uint32_t row = row_index_find(&clients->index, news->mac);
	if (row == ROW_INDEX_NONE)
		return add(clients, news, used_ns);
	HAUL_ASSERT(row < clients->count);
	if (clients->used_ns[row] == INT64_MAX)
		return news->owner == clients->self ? 0 : -EINVAL;
	clients->used_ns[row] = used_ns;
	if (clients->row[row].owner == news->owner)
		return 0;
	clients->row[row].owner = news->owner;
	clients->version++;
	return 1;
}

void clients_used(struct clients *clients, uint64_t mac, int64_t now_ns)
{
	const uint32_t row = row_index_find(&clients->index, mac);

	if (row != ROW_INDEX_NONE && clients->used_ns[row] != INT64_MAX)
		clients->used_ns[row] = now_ns;
}

static void remove_row(struct clients *clients, uint32_t row)
{
	const uint32_t last = --clients->count;

	row_index_remove(&clients->index, clients->row[row].mac);
	if (row != last) {
		row_index_remove(&clients->index, clients->row[last].mac);
		clients->row[row].mac = clients->row[last].mac;
		clients->row[row].owner = clients->row[last].owner;
		clients->used_ns[row] = clients->used_ns[last];
		row_index_put(&clients->index, clients->row[row].mac, row);
	}
	HAUL_ASSERT(clients->count == clients->index.count);
}

uint32_t clients_expire(struct clients *clients, int64_t now_ns)
{
	const uint32_t before = clients->count;

	for (uint32_t row = clients->count; row-- > 0;)
		if (clients->used_ns[row] != INT64_MAX &&
		    now_ns - clients->used_ns[row] >= CLIENTS_AGE_NS)
			remove_row(clients, row);
	HAUL_ASSERT(clients->count <= before);
	clients->version += before - clients->count;
	return before - clients->count;
}
