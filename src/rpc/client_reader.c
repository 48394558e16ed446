/* A reader of a served store: the calls of haul/reader.h as queries.
 *
 * Each reader has a connection of its own and waits at it in the thread that calls: no other thread
 * is on the way. What callers of the client were told is durable and seen by any query that comes
 * later, on whichever connection. What was submitted and not told yet is waited for before: a read
 * is a barrier.
 * A query changes nothing: when the connection is lost it is asked again, on another one. But what
 * was pinned is gone with its connection: HAUL_ESTALE. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "rpc/client_state.h"
#include "store/reader_state.h"

#define LOOK_NS  (20 * NS_PER_MS) /* whether haul_reader_interrupt was called */
#define AGAIN_NS (20 * NS_PER_MS)

struct client_reader {
	struct haul_reader reader; /* first */
	struct haul_client *client;
	struct link link;
	uint8_t *out; /* WIRE_QUERY_MAX */
	uint8_t *in;  /* WIRE_RESULT_MAX */
	uint32_t out_bytes;
	uint64_t seq;
	bool pinned, pin_lost;
	const struct wire_result *result; /* of the last call */
};

static struct client_reader *reader_of(struct haul_reader *reader)
{
	return (struct client_reader *)(void *)reader;
}

/* ---- the connection ---- */

static void hang_up(struct client_reader *reader)
{
	link_close(&reader->link);
	reader->pin_lost |= reader->pinned;
}

/* Until the socket is ready: 0, -ECANCELED, -ETIMEDOUT. */
static int wait_ready(struct client_reader *reader, short events, int64_t until_ns)
{
	struct os *os = reader->client->os;

	for (;;) {
		struct pollfd poll_fd = { .fd = reader->link.fd, .events = events };
		const int64_t left_ns = until_ns - os->now_ns(os);
		const int64_t span_ns = left_ns < LOOK_NS ? left_ns : LOOK_NS;
		const struct timespec span = { 0, span_ns > 0 ? span_ns : 0 };
		if (reader_stopped(&reader->reader))
			return -ECANCELED;
		if (left_ns <= 0)
			return -ETIMEDOUT;
		if (ppoll(&poll_fd, 1, &span, NULL) > 0)
			return 0;
	}
}

static int send_query(struct client_reader *reader, int64_t until_ns)
{
	uint32_t from = 0;

	while (from < reader->out_bytes) {
		const ssize_t put = send(reader->link.fd, reader->out + from,
					 reader->out_bytes - from, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put >= 0) {
			from += (uint32_t)put;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -ECONNRESET;
		const int rc = wait_ready(reader, POLLOUT, until_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* So many bytes of the input are there. */
static int receive_to(struct client_reader *reader, uint32_t *at, uint32_t bytes, int64_t until_ns)
{
	while (*at < bytes) {
		const ssize_t got =
			recv(reader->link.fd, reader->in + *at, bytes - *at, MSG_DONTWAIT);
		if (got > 0) {
			*at += (uint32_t)got;
			continue;
		}
		if (got == 0 || (errno != EAGAIN && errno != EINTR))
			return -ECONNRESET;
		const int rc = wait_ready(reader, POLLIN, until_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int receive_frame(struct client_reader *reader, struct frame_head *head, int64_t until_ns)
{
	uint32_t at = 0;

	int rc = receive_to(reader, &at, FRAME_HEAD, until_ns);
	if (rc == 0)
		rc = frame_check_head(reader->in, head);
	if (rc == 0 && head->bytes > WIRE_RESULT_MAX)
		rc = HAUL_ELIMIT;
	if (rc == 0)
		rc = receive_to(reader, &at, head->bytes, until_ns);
	return rc < 0 ? rc : wire_check(reader->in, at, head);
}

static int receive_result(struct client_reader *reader, int64_t until_ns)
{
	struct haul_err told = { 0 };
	struct frame_head head;

	for (;;) {
		int rc = receive_frame(reader, &head, until_ns);
		if (rc < 0)
			return rc;
		if (head.kind == WIRE_ERROR) {
			rc = wire_get_error(reader->in, &told);
			return rc < 0 ? rc : told.code;
		}
		if (head.kind != WIRE_RESULT || head.seq > reader->seq)
			return -EPROTO;
		if (head.seq == reader->seq)
			return wire_get_result(reader->in, &reader->result);
		/* of a call that was interrupted */
	}
}

/* One try. */
static int ask_once(struct client_reader *reader, int64_t until_ns)
{
	if (reader->link.state != LINK_UP) {
		link_begin(&reader->link, &reader->client->target, reader->client->os);
		const int rc = link_dial(&reader->link, LINK_PATIENCE_NS, NULL);
		if (rc < 0)
			return rc;
	}
	int rc = send_query(reader, until_ns);
	if (rc == -ECANCELED || rc == -ETIMEDOUT) {
		hang_up(reader); /* half a query is there */
		return rc;
	}
	if (rc == 0)
		rc = receive_result(reader, until_ns);
	/* The server need not go on with it. */
	if (rc == -ECANCELED && reader->pinned)
		return rc;
	if (rc < 0)
		hang_up(reader);
	return rc;
}

static bool worth_again(int rc)
{
	return rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -EBUSY || rc == -EPIPE;
}

static int64_t until_of(const struct client_reader *reader)
{
	const int64_t deadline_ns = reader->client->deadline_ns;
	const int64_t now_ns = client_now(reader->client);

	return deadline_ns >= 0 ? now_ns + deadline_ns : INT64_MAX;
}

/* What was submitted before is to be seen. */
static int see_writes(struct haul_client *client, int64_t until_ns)
{
	int rc = 0;

	if (client_is_own_thread(client))
		return 0;
	(void)pthread_mutex_lock(&client->lock);
	if (client->tells < client->submits)
		rc = client_settle(client, HAUL_CLOSE_BARRIER, until_ns);
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}

/* The query that has been put together. What the call returned, or why it did not get there. */
static int ask(struct client_reader *reader)
{
	struct os *os = reader->client->os;
	const int64_t until_ns = until_of(reader);

	int rc = see_writes(reader->client, until_ns);
	if (rc < 0)
		return rc;
	const struct wire_from from = { .seq = ++reader->seq };
	wire_seal(reader->out, WIRE_QUERY, reader->out_bytes, &from);
	for (;;) {
		if (reader_stopped(&reader->reader))
			return -ECANCELED;
		if (reader->pin_lost)
			return HAUL_ESTALE;
		rc = ask_once(reader, until_ns);
		if (!worth_again(rc))
			break;
		if (os->now_ns(os) + AGAIN_NS >= until_ns)
			return -ENOTCONN;
		(void)poll(NULL, 0, (int)(AGAIN_NS / NS_PER_MS));
	}
	return rc < 0 ? rc : reader->result->result;
}

/* ---- queries ---- */

/* The start of a query; what is behind it follows by query_add. */
static void query_begin(struct client_reader *reader, const struct wire_query *query)
{
	struct wire_query own = *query;

	own.flags |= reader->pinned ? WIRE_PINNED : 0;
	memcpy(reader->out + FRAME_HEAD, &own, sizeof own);
	reader->out_bytes = WIRE_QUERY_HEAD;
}

static void query_add(struct client_reader *reader, const void *data, uint64_t bytes)
{
	HAUL_ASSERT(bytes <= WIRE_QUERY_MAX - reader->out_bytes);
	memcpy(reader->out + reader->out_bytes, data, bytes);
	reader->out_bytes += (uint32_t)bytes;
}

static struct wire_reading page_of(const struct client_reader *reader)
{
	struct frame_head head;

	memcpy(&head, reader->in, sizeof head);
	return (struct wire_reading){ reader->in, WIRE_RESULT_HEAD, head.bytes };
}

static uint32_t at_most(uint32_t count, uint32_t most)
{
	return count < most ? count : most;
}

/* What the server says about a page that is not as it should be. */
static int broken(struct client_reader *reader, int rc)
{
	hang_up(reader);
	return rc;
}

/* ---- pages ---- */

static int read_nodes(struct client_reader *reader, int count, struct haul_node *nodes,
		      int32_t *statuses)
{
	struct wire_reading page = page_of(reader);

	for (int i = 0; i < count; i++) {
		int32_t status = 0;
		const int rc = wire_get_node(&page, &nodes[i], &status);
		if (rc < 0 || (statuses == NULL && status != 0))
			return broken(reader, HAUL_ECORRUPT);
		if (statuses != NULL)
			statuses[i] = status;
	}
	return count;
}

static int read_edges(struct client_reader *reader, int count, struct haul_edge *edges,
		      int32_t *statuses)
{
	struct wire_reading page = page_of(reader);

	for (int i = 0; i < count; i++) {
		int32_t status = 0;
		const int rc = wire_get_edge(&page, &edges[i], &status);
		if (rc < 0 || (statuses == NULL && status != 0))
			return broken(reader, HAUL_ECORRUPT);
		if (statuses != NULL)
			statuses[i] = status;
	}
	return count;
}

static int read_embeddings(struct client_reader *reader, int count,
			   struct haul_embedding *embeddings, int32_t *statuses)
{
	struct wire_reading page = page_of(reader);

	for (int i = 0; i < count; i++) {
		int32_t status = 0;
		const int rc = wire_get_embedding(&page, &embeddings[i], &status);
		if (rc < 0 || (statuses == NULL && status != 0))
			return broken(reader, HAUL_ECORRUPT);
		if (statuses != NULL)
			statuses[i] = status;
	}
	return count;
}

/* Asks, and sees to it that no more comes than was asked for. */
static int ask_for(struct client_reader *reader, uint32_t most)
{
	const int rc = ask(reader);

	return rc > 0 && (uint32_t)rc > most ? broken(reader, HAUL_ECORRUPT) : rc;
}

/* ---- by name ---- */

static int get(struct haul_reader *base, const uint64_t *ids, uint32_t count,
	       struct haul_node *nodes, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_GET,
					  .count = at_most(count, WIRE_ITEMS_MAX) };

	query_begin(reader, &query);
	query_add(reader, ids, (uint64_t)query.count * sizeof *ids);
	return read_nodes(reader, ask_for(reader, query.count), nodes, statuses);
}

static int get_by_key(struct haul_reader *base, const struct haul_text *keys, uint32_t count,
		      struct haul_node *nodes, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_GET_BY_KEY };
	const uint32_t none = 0;
	uint64_t bytes = WIRE_QUERY_HEAD + 8;

	count = at_most(count, WIRE_ITEMS_MAX);
	while (query.count < count) {
		bytes += keys[query.count].bytes + 4;
		if (bytes > WIRE_QUERY_MAX)
			break;
		query.count++;
	}
	if (query.count == 0)
		return -EINVAL; /* no key is so long */
	query_begin(reader, &query);
	for (uint32_t i = 0; i < query.count; i++)
		query_add(reader, &keys[i].bytes, 4);
	if (query.count % 2 != 0)
		query_add(reader, &none, 4);
	for (uint32_t i = 0; i < query.count; i++) {
		if (keys[i].bytes > 0)
			query_add(reader, keys[i].data, keys[i].bytes);
	}
	return read_nodes(reader, ask_for(reader, query.count), nodes, statuses);
}

static int get_edges(struct haul_reader *base, const struct haul_edge_id *ids, uint32_t count,
		     struct haul_edge *edges, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_GET_EDGES,
					  .count = at_most(count, WIRE_ITEMS_MAX) };

	query_begin(reader, &query);
	query_add(reader, ids, (uint64_t)query.count * sizeof *ids);
	return read_edges(reader, ask_for(reader, query.count), edges, statuses);
}

static int get_embeddings(struct haul_reader *base, const struct haul_embedding_names *names,
			  struct haul_embedding *embeddings, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_GET_EMBEDDINGS,
					  .count = at_most(names->count, WIRE_ITEMS_MAX),
					  .type = names->index };

	query_begin(reader, &query);
	query_add(reader, names->nodes, (uint64_t)query.count * sizeof *names->nodes);
	return read_embeddings(reader, ask_for(reader, query.count), embeddings, statuses);
}

/* ---- in order ---- */

/* Asks for the next page; the cursor moves when it is there. */
static int ask_page(struct client_reader *reader, struct wire_query *query,
		    const struct haul_cursor *cursor)
{
	query->max = at_most(query->max, WIRE_ITEMS_MAX);
	memcpy(query->cursor, cursor, sizeof query->cursor);
	query_begin(reader, query);
	return ask_for(reader, query->max);
}

static void cursor_move(const struct client_reader *reader, struct haul_cursor *cursor)
{
	memcpy(cursor, reader->result->cursor, sizeof *cursor);
}

static int scan_nodes(struct haul_reader *base, struct haul_scan *scan, struct haul_node *nodes,
		      uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_SCAN,
				    .max = max,
				    .type = scan->kind,
				    .first = scan->first_id,
				    .last = scan->last_id };

	const int rc = read_nodes(reader, ask_page(reader, &query, &scan->cursor), nodes, NULL);
	if (rc >= 0)
		cursor_move(reader, &scan->cursor);
	return rc;
}

static int scan_edges(struct haul_reader *base, struct haul_cursor *cursor, struct haul_edge *edges,
		      uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_SCAN_EDGES, .max = max };

	const int rc = read_edges(reader, ask_page(reader, &query, cursor), edges, NULL);
	if (rc >= 0)
		cursor_move(reader, cursor);
	return rc;
}

static int scan_embeddings(struct haul_reader *base, struct haul_cursor *cursor,
			   struct haul_embedding *embeddings, uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_SCAN_EMBEDDINGS, .max = max };

	const int rc = read_embeddings(reader, ask_page(reader, &query, cursor), embeddings, NULL);
	if (rc >= 0)
		cursor_move(reader, cursor);
	return rc;
}

static int neighbours(struct haul_reader *base, struct haul_neighbours *asked,
		      struct haul_edge *edges, uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_NEIGHBOURS,
				    .flags = asked->bare ? WIRE_BARE : 0,
				    .max = max,
				    .type = asked->type,
				    .direction = asked->direction,
				    .first = asked->node };

	const int rc = read_edges(reader, ask_page(reader, &query, &asked->cursor), edges, NULL);
	if (rc >= 0)
		cursor_move(reader, &asked->cursor);
	return rc;
}

/* ---- along edges ---- */

/* What was found, of a fixed length each. */
static int copy_found(struct client_reader *reader, int count, void *out, uint32_t each)
{
	const struct wire_reading page = page_of(reader);

	if (count < 0)
		return count;
	if ((uint64_t)count * each != page.bytes - page.at)
		return broken(reader, HAUL_ECORRUPT);
	if (count > 0)
		memcpy(out, page.data + page.at, (size_t)count * each);
	return count;
}

static int traverse(struct haul_reader *base, const struct haul_traverse *asked,
		    struct haul_visit *visits, uint32_t max, bool *ret_complete)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_TRAVERSE,
					  .max = max,
					  .type = asked->type,
					  .direction = asked->direction,
					  .depth_max = asked->depth_max,
					  .visits_max = asked->visits_max,
					  .first = asked->start };

	query_begin(reader, &query);
	const int rc = copy_found(reader, ask_for(reader, max), visits, sizeof *visits);
	if (rc >= 0)
		*ret_complete = reader->result->complete != 0;
	return rc;
}

static int path(struct haul_reader *base, const struct haul_path *asked, uint64_t *nodes,
		uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_PATH,
					  .max = max,
					  .type = asked->type,
					  .direction = asked->direction,
					  .depth_max = asked->depth_max,
					  .first = asked->src,
					  .last = asked->dst };

	query_begin(reader, &query);
	return copy_found(reader, ask_for(reader, max), nodes, sizeof *nodes);
}

/* ---- by likeness ---- */

static int near_some(struct client_reader *reader, const struct haul_near *asked, uint32_t from,
		     uint32_t count, struct haul_near_hit *hits)
{
	const uint32_t dimensions = asked->dimensions;
	const struct wire_query query = { .ask = WIRE_NEAR,
					  .flags = asked->exact ? WIRE_EXACT : 0,
					  .count = count,
					  .max = asked->k,
					  .type = asked->index,
					  .dimensions = dimensions,
					  .metric = asked->metric };

	static_assert(sizeof *hits == sizeof(struct wire_hit), "as they are sent");
	query_begin(reader, &query);
	query_add(reader, asked->vectors + (size_t)from * dimensions,
		  (uint64_t)count * dimensions * sizeof(float));
	int rc = ask_for(reader, count);
	if (rc >= 0 && (uint32_t)rc != count)
		rc = broken(reader, HAUL_ECORRUPT);
	if (rc < 0)
		return rc;
	rc = copy_found(reader, (int)(count * asked->k), hits + (size_t)from * asked->k,
			sizeof *hits);
	return rc < 0 ? rc : (int)count;
}

/* As many at once as go into a frame, and their hits into another. */
static int near(struct haul_reader *base, const struct haul_near *asked, struct haul_near_hit *hits)
{
	struct client_reader *reader = reader_of(base);
	const uint32_t room =
		(WIRE_QUERY_MAX - WIRE_QUERY_HEAD) / (asked->dimensions * (uint32_t)sizeof(float));
	const uint32_t most = at_most(room, WIRE_HITS_MAX / asked->k);

	HAUL_ASSERT(most > 0);
	for (uint32_t done = 0; done < asked->count;) {
		const int rc =
			near_some(reader, asked, done, at_most(asked->count - done, most), hits);
		if (rc < 0)
			return rc;
		done += (uint32_t)rc;
	}
	return (int)asked->count;
}

/* ---- pin, open, close ---- */

static int pin(struct haul_reader *base)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_PIN };

	if (reader->pinned)
		return -EINVAL;
	query_begin(reader, &query);
	const int rc = ask(reader);
	reader->pinned = rc == 0;
	return rc;
}

static void unpin(struct haul_reader *base)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_UNPIN };

	if (!reader->pinned)
		return;
	reader->pinned = false;
	if (!reader->pin_lost) {
		query_begin(reader, &query);
		if (ask(reader) < 0)
			hang_up(reader); /* that lets go of it as well */
	}
	reader->pin_lost = false;
}

static void reader_close(struct haul_reader *base)
{
	struct client_reader *reader = reader_of(base);

	link_close(&reader->link);
	free(reader->out);
	free(reader->in);
	free(reader);
}

static const struct haul_reader_calls reader_calls = {
	.close = reader_close,
	.pin = pin,
	.unpin = unpin,
	.get = get,
	.get_by_key = get_by_key,
	.get_edges = get_edges,
	.get_embeddings = get_embeddings,
	.scan = scan_nodes,
	.scan_edges = scan_edges,
	.scan_embeddings = scan_embeddings,
	.neighbours = neighbours,
	.traverse = traverse,
	.path = path,
	.near = near,
};

static struct client_reader *reader_alloc(void)
{
	struct client_reader *reader = calloc(1, sizeof *reader);

	if (reader == NULL)
		return NULL;
	reader->out = aligned_alloc(64, (WIRE_QUERY_MAX + 63) & ~63);
	reader->in = aligned_alloc(64, WIRE_RESULT_MAX);
	if (reader->out != NULL && reader->in != NULL)
		return reader;
	free(reader->out);
	free(reader->in);
	free(reader);
	return NULL;
}

int haul_client_reader(struct haul_client *client, uint64_t bytes, struct haul_reader **ret_reader)
{
	struct client_reader *reader = reader_alloc();

	HAUL_ASSERT(client != NULL && ret_reader != NULL);
	(void)bytes; /* a page of the server is bounded, and fits */
	if (reader == NULL)
		return -ENOMEM;
	reader->reader.calls = &reader_calls;
	reader->client = client;
	link_begin(&reader->link, &client->target, client->os);
	*ret_reader = &reader->reader;
	return 0;
}
