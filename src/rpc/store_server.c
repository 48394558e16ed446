#include "rpc/store_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"

enum { CONNECTIONS = 1000, CONNECTIONS_MAX = 100000, FDS_BESIDE = 128, EVENTS = 128 };

/* ---- opening ---- */

static int read_options(struct store_server *server, const struct store_server_options *options,
			struct haul_err *err)
{
	static const char *const usual = "127.0.0.1";

	server->options = *options;
	if (server->options.connections_max == 0)
		server->options.connections_max = CONNECTIONS;
	if (server->options.connections_max > CONNECTIONS_MAX)
		return haul_err_set(err, HAUL_ELIMIT, "%u connections: at most %d are possible",
				    options->connections_max, CONNECTIONS_MAX);
	if (options->address_count == 0) {
		server->options.addresses[0] = usual;
		server->options.address_count = 1;
	}
	if (options->token_file == NULL)
		return 0;
	return address_token(options->token_file, server->token, &server->token_bytes, err);
}

static int listen_all(struct store_server *server, struct haul_err *err)
{
	for (uint32_t i = 0; i < server->options.address_count; i++) {
		struct address *address = &server->addresses[i];
		int rc = address_parse(address, server->options.addresses[i], STORE_SERVER_PORT,
				       true, err);
		if (rc < 0)
			return rc;
		if (!address_is_local(address) && server->token_bytes == 0)
			return haul_err_set(err, -EINVAL,
					    "%s can be reached from other machines: that needs a "
					    "token file, with a secret that clients have to know",
					    address->text);
	}
	for (uint32_t i = 0; i < server->options.address_count; i++) {
		const int fd = address_listen(&server->addresses[i], err);
		if (fd < 0)
			return fd;
		server->listeners[server->listener_count++] = fd;
	}
	return 0;
}

/* A descriptor a connection. */
static int raise_files(const struct store_server *server, struct haul_err *err)
{
	const rlim_t need = server->options.connections_max + FDS_BESIDE;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
		return 0;
	if (limit.rlim_max < need)
		return haul_err_set(err, -EMFILE,
				    "%u connections need %llu open files, and %llu are allowed; "
				    "take fewer or raise ulimit -n",
				    server->options.connections_max, (unsigned long long)need,
				    (unsigned long long)limit.rlim_max);
	limit.rlim_cur = need;
	return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

static int memory_alloc(struct store_server *server)
{
	const uint32_t conns = server->options.connections_max;
	const uint32_t tasks = conns * SERVER_TASKS_EACH;

	server->conns = calloc(conns, sizeof *server->conns);
	server->tasks = calloc(tasks, sizeof *server->tasks);
	server->inputs_bytes = (uint64_t)conns * SERVER_IN;
	server->inputs = mmap(NULL, server->inputs_bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (server->inputs == MAP_FAILED)
		server->inputs = NULL;
	if (server->conns == NULL || server->tasks == NULL || server->inputs == NULL)
		return -ENOMEM;
	for (uint32_t i = conns; i-- > 0;) {
		server->conns[i].fd = -1;
		server->conns[i].in = server->inputs + (uint64_t)i * SERVER_IN;
		server->conns[i].next = server->conns_free;
		server->conns_free = &server->conns[i];
	}
	for (uint32_t i = tasks; i-- > 0;) {
		server->tasks[i].next = server->tasks_free;
		server->tasks_free = &server->tasks[i];
	}
	return buddy_init(&server->arena, SERVER_ARENA);
}

static int watch(struct store_server *server, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
	return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int watch_all(struct store_server *server)
{
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (server->epoll_fd < 0 || server->wake_fd < 0)
		return -errno;
	int rc = watch(server, server->wake_fd, NULL);
	for (uint32_t i = 0; rc == 0 && i < server->listener_count; i++)
		rc = watch(server, server->listeners[i], &server->listeners[i]);
	return rc;
}

static int parts_open(struct store_server *server)
{
	int rc = memory_alloc(server);

	if (rc == 0)
		rc = watch_all(server);
	for (uint32_t i = 0; rc == 0 && i < SERVER_PINS; i++)
		rc = haul_store_reader(server->store, SERVER_READER_BYTES, &server->pins[i].reader);
	if (rc == 0)
		rc = server_query_open(server);
	if (rc == 0)
		rc = server_feed_open(server);
	if (rc == 0)
		rc = server_stats_enter(server);
	return rc;
}

int store_server_open(struct store_server **ret_server, const struct store_server_options *options,
		      struct haul_err *err)
{
	struct haul_store_status status;
	struct store_server *server = calloc(1, sizeof *server);

	HAUL_ASSERT(options->store != NULL && options->address_count <= STORE_SERVER_ADDRESSES);
	if (server == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a server");
	server->store = options->store;
	server->os = os_linux();
	server->patience = (struct server_patience){
		.hello_ns = 5 * NS_PER_S,
		.half_ns = 10 * NS_PER_S,
		.out_ns = 15 * NS_PER_S,
		.stall_ns = 200 * NS_PER_MS,
		.pin_ns = 60 * NS_PER_S,
		.leave_ns = 1 * NS_PER_S,
		.last_ns = 5 * NS_PER_S,
	};
	server->epoll_fd = server->wake_fd = -1;
	(void)pthread_mutex_init(&server->done_lock, NULL);
	(void)pthread_mutex_init(&server->feed_lock, NULL);
	(void)pthread_cond_init(&server->feed_cond, NULL);
	(void)pthread_mutex_init(&server->ask_lock, NULL);
	(void)pthread_cond_init(&server->ask_cond, NULL);
	haul_store_status(server->store, &status);
	server->welcome =
		(struct wire_welcome){ .protocol = WIRE_PROTOCOL, .credits = WIRE_CREDITS };
	memcpy(server->welcome.uuid, status.uuid, sizeof status.uuid);
	int rc = read_options(server, options, err);
	if (rc == 0)
		rc = raise_files(server, err);
	if (rc == 0)
		rc = listen_all(server, err);
	if (rc == 0) {
		rc = parts_open(server);
		if (rc < 0)
			(void)haul_err_set(err, rc, "the server of a store: %s", haul_strerror(rc));
	}
	if (rc < 0) {
		store_server_close(server);
		return rc;
	}
	*ret_server = server;
	return 0;
}

uint16_t store_server_port(const struct store_server *server)
{
	for (uint32_t i = 0; i < server->options.address_count; i++) {
		const union address_name *name = &server->addresses[i].name;
		if (name->any.sa_family == AF_INET)
			return ntohs(name->v4.sin_port);
		if (name->any.sa_family == AF_INET6)
			return ntohs(name->v6.sin6_port);
	}
	return 0;
}

static void unlisten(struct store_server *server)
{
	for (uint32_t i = 0; i < server->listener_count; i++)
		address_unlisten(&server->addresses[i], server->listeners[i]);
	server->listener_count = 0;
}

void store_server_close(struct store_server *server)
{
	if (server == NULL)
		return;
	unlisten(server);
	server_feed_close(server);
	server_query_close(server);
	for (uint32_t i = 0; i < SERVER_PINS; i++)
		haul_reader_close(server->pins[i].reader);
	server_stats_remove(server);
	if (server->epoll_fd >= 0)
		(void)close(server->epoll_fd);
	if (server->wake_fd >= 0)
		(void)close(server->wake_fd);
	if (server->inputs != NULL)
		(void)munmap(server->inputs, server->inputs_bytes);
	if (server->arena.arena != NULL)
		buddy_done(&server->arena);
	free(server->conns);
	free(server->tasks);
	(void)pthread_mutex_destroy(&server->done_lock);
	(void)pthread_mutex_destroy(&server->feed_lock);
	(void)pthread_cond_destroy(&server->feed_cond);
	(void)pthread_mutex_destroy(&server->ask_lock);
	(void)pthread_cond_destroy(&server->ask_cond);
	free(server);
}

void store_server_stop(struct store_server *server)
{
	atomic_store(&server->stop, true);
	server_wake(server);
}

/* ---- running ---- */

static void listeners_rest(struct store_server *server, bool rest)
{
	for (uint32_t i = 0; i < server->listener_count; i++) {
		struct epoll_event event = { .events = rest ? 0 : EPOLLIN,
					     .data.ptr = &server->listeners[i] };
		(void)epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listeners[i], &event);
	}
}

static void handle(struct store_server *server, const struct epoll_event *event)
{
	void *what = event->data.ptr;
	uint64_t count;

	if (what == NULL) {
		const ssize_t got = read(server->wake_fd, &count, sizeof count);
		(void)got;
		return;
	}
	if (what >= (void *)server->conns &&
	    what < (void *)(server->conns + server->options.connections_max)) {
		server_conn_event(server, what, event->events);
		return;
	}
	const int *listener = what;
	if (server->stopping || server->accept_paused)
		return;
	server_accept(server, *listener);
	if (server->accept_paused) /* no descriptor is free: later */
		listeners_rest(server, true);
}

/* How long there is nothing to do, if nobody comes. */
static int patience_ms(struct store_server *server)
{
	(void)pthread_mutex_lock(&server->done_lock);
	const bool busy = server->done.head != NULL || server->ready != NULL;
	server->awake = busy;
	(void)pthread_mutex_unlock(&server->done_lock);
	if (busy)
		return 0;
	return server->timers || server->accept_paused || server->stopping ? SERVER_SWEEP_MS : -1;
}

/* Nothing more is read; who has nothing coming is let go at once. */
static void stop_reading(struct store_server *server)
{
	server->stopping = true;
	unlisten(server);
	for (uint32_t i = 0; i < server->options.connections_max; i++) {
		struct server_conn *conn = &server->conns[i];
		if (conn->fd < 0)
			continue;
		conn->ended = true;
		server_conn_ready(server, conn);
	}
	server_run_ready(server);
}

static int turn(struct store_server *server)
{
	struct epoll_event events[EVENTS];

	const int wait_ms = patience_ms(server);
	const int count = epoll_wait(server->epoll_fd, events, EVENTS, wait_ms);
	if (count < 0 && errno != EINTR)
		return -errno;
	(void)pthread_mutex_lock(&server->done_lock);
	server->awake = true;
	(void)pthread_mutex_unlock(&server->done_lock);
	server->now_ns = server->os->now_ns(server->os);
	server->timers |= count > 0;
	for (int i = 0; i < count; i++)
		handle(server, &events[i]);
	server_done(server);
	server_run_ready(server);
	const bool paused = server->accept_paused;
	server_sweep(server);
	if (paused && !server->accept_paused)
		listeners_rest(server, false);
	return 0;
}

int store_server_run(struct store_server *server)
{
	int64_t until_ns = INT64_MAX;
	int rc = 0;

	while (rc == 0) {
		rc = turn(server);
		if (atomic_load(&server->stop) && !server->stopping) {
			until_ns = server->now_ns + server->patience.last_ns;
			stop_reading(server);
		}
		if (server->stopping && (server->conns_used == 0 || server->now_ns >= until_ns))
			break;
	}
	for (uint32_t i = 0; i < server->options.connections_max; i++)
		server_conn_close(server, &server->conns[i]);
	/* What was taken is executed; its tasks come back, to nobody. */
	server_feed_close(server);
	(void)haul_store_flush(server->store);
	while (server->tasks_used > 0 && rc == 0)
		rc = turn(server);
	server_run_ready(server);
	return rc;
}
