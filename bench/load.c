#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/netns.h"
#include "os/os.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	DATAGRAM_BYTES_MAX = 65507,
	RECEIVE_BYTES = 65536,
	BURST = 32, /* datagrams a sendmmsg of the plain sender */
	SOCKBUF_BYTES = 4 << 20,
	IPERF_PORT_FIRST = 5201,
	OUTPUT_BYTES_MAX = 1 << 18
};

/* A socket is made inside a namespace by a thread that has moved there, and stays in it. */
struct maker {
	int netns;
	int type;
	int fd;
};

static void *maker_main(void *arg)
{
	struct maker *maker = arg;

	maker->fd = netns_enter(maker->netns);
	if (maker->fd < 0)
		return NULL;
	maker->fd = socket(AF_INET, maker->type | SOCK_CLOEXEC, 0);
	if (maker->fd < 0)
		maker->fd = -errno;
	return NULL;
}

static int socket_in(int netns, int type, struct haul_err *err)
{
	struct maker maker = { .netns = netns, .type = type, .fd = -EIO };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, maker_main, &maker);

	if (r)
		return haul_err_set(err, -r, "load: thread: %s", haul_strerror(-r));
	pthread_join(thread, NULL);
	if (maker.fd < 0)
		return haul_err_set(err, maker.fd, "load: socket: %s", haul_strerror(maker.fd));
	return maker.fd;
}

static int bind_receiver(int fd, const char *address, struct sockaddr_in *ret_bound,
			 struct haul_err *err)
{
	struct sockaddr_in bound = { .sin_family = AF_INET };
	socklen_t bound_bytes = sizeof bound;
	int sockbuf = SOCKBUF_BYTES;

	HAUL_ASSERT(inet_pton(AF_INET, address, &bound.sin_addr) == 1);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &sockbuf, sizeof sockbuf);
	if (bind(fd, (struct sockaddr *)&bound, sizeof bound) ||
	    getsockname(fd, (struct sockaddr *)&bound, &bound_bytes))
		return haul_err_set(err, -errno, "load: bind %s: %s", address,
				    haul_strerror(-errno));
	*ret_bound = bound;
	return 0;
}

struct receiver {
	int fd;
	uint32_t payload_bytes;
	_Atomic bool stop;
	_Atomic uint64_t datagrams;
};

/* Counts by bytes: with UDP_GRO one receive brings many datagrams of one size. */
static void *receiver_main(void *arg)
{
	struct receiver *receiver = arg;
	uint8_t *buffer = malloc(RECEIVE_BYTES);
	struct pollfd poll_fd = { .fd = receiver->fd, .events = POLLIN };

	while (buffer && !receiver->stop) {
		if (poll(&poll_fd, 1, 20) <= 0)
			continue;
		for (;;) {
			ssize_t got = recv(receiver->fd, buffer, RECEIVE_BYTES, MSG_DONTWAIT);

			if (got < 0)
				break;
			receiver->datagrams += (uint64_t)got / receiver->payload_bytes;
		}
	}
	free(buffer);
	return NULL;
}

static int send_plain(int fd, uint8_t *payload, uint32_t bytes)
{
	struct iovec piece = { .iov_base = payload, .iov_len = bytes };
	struct mmsghdr messages[BURST];

	memset(messages, 0, sizeof messages);
	for (int i = 0; i < BURST; i++) {
		messages[i].msg_hdr.msg_iov = &piece;
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	return sendmmsg(fd, messages, BURST, 0);
}

/* Blocks in the kernel when the device's queue is full, so the load is as fast as it can be. */
static void send_until(int fd, const struct load_udp *load, uint8_t *payload)
{
	int64_t end_ns =
		os_linux()->now_ns(os_linux()) + (int64_t)(load->seconds * (double)NS_PER_S);
	size_t bytes = (size_t)load->payload_bytes * load->segments;

	while (os_linux()->now_ns(os_linux()) < end_ns) {
		if (load->segments > 1)
			(void)send(fd, payload, bytes, 0);
		else
			(void)send_plain(fd, payload, load->payload_bytes);
	}
}

static int start_sender(const struct load_udp *load, const struct sockaddr_in *to,
			struct haul_err *err)
{
	int segment = (int)load->payload_bytes;
	int fd = socket_in(load->from_netns, SOCK_DGRAM, err);

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) ||
	    (load->segments > 1 &&
	     setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment))) {
		int r = -errno;

		close(fd);
		return haul_err_set(err, r, "load: sender: %s", haul_strerror(r));
	}
	return fd;
}

int load_udp_run(const struct load_udp *load, double *ret_per_s, struct haul_err *err)
{
	struct receiver receiver = { .payload_bytes = load->payload_bytes };
	struct sockaddr_in bound;
	pthread_t thread;
	uint8_t *payload = NULL;
	int on = 1, r, fd = -1;
	int64_t start_ns;

	HAUL_ASSERT(load->payload_bytes * load->segments <= DATAGRAM_BYTES_MAX);
	receiver.fd = socket_in(load->to_netns, SOCK_DGRAM, err);
	if (receiver.fd < 0)
		return receiver.fd;
	r = bind_receiver(receiver.fd, load->to_address, &bound, err);
	if (r)
		goto close_receiver;
	if (load->segments > 1)
		(void)setsockopt(receiver.fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
	r = fd = start_sender(load, &bound, err);
	if (r < 0)
		goto close_receiver;
	payload = calloc(1, DATAGRAM_BYTES_MAX);
	r = payload ? -pthread_create(&thread, NULL, receiver_main, &receiver) : -ENOMEM;
	if (r) {
		haul_err_set(err, r, "load: %s", haul_strerror(r));
		goto close_sender;
	}
	start_ns = os_linux()->now_ns(os_linux());
	send_until(fd, load, payload);
	*ret_per_s = (double)receiver.datagrams * (double)NS_PER_S /
		     (double)(os_linux()->now_ns(os_linux()) - start_ns);
	receiver.stop = true;
	pthread_join(thread, NULL);
close_sender:
	free(payload);
	close(fd);
close_receiver:
	close(receiver.fd);
	return r < 0 ? r : 0;
}

struct echo {
	int fd;
	_Atomic bool stop;
};

static void *echo_main(void *arg)
{
	struct echo *echo = arg;
	struct pollfd poll_fd = { .fd = echo->fd, .events = POLLIN };

	while (!echo->stop) {
		struct sockaddr_in from;
		socklen_t from_bytes = sizeof from;
		uint8_t bytes[64];
		ssize_t got;

		if (poll(&poll_fd, 1, 20) <= 0)
			continue;
		got = recvfrom(echo->fd, bytes, sizeof bytes, MSG_DONTWAIT,
			       (struct sockaddr *)&from, &from_bytes);
		if (got > 0)
			(void)sendto(echo->fd, bytes, (size_t)got, 0, (struct sockaddr *)&from,
				     from_bytes);
	}
	return NULL;
}

static int compare_ns(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Returns the round trips answered within 100 ms each. */
static int echo_trips(int fd, const struct load_echo *load, int64_t *rtt_ns)
{
	struct os *os = os_linux();
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct timespec pause = { .tv_nsec = load->pause_ns };
	int answered = 0;

	for (uint32_t i = 0; i < load->count; i++) {
		uint32_t number = i, echoed = UINT32_MAX;
		int64_t start_ns = os->now_ns(os);

		if (send(fd, &number, sizeof number, 0) != sizeof number)
			continue;
		/* An answer that came too late belongs to an earlier trip: skip it. */
		while (echoed != number && poll(&poll_fd, 1, 100) > 0)
			if (recv(fd, &echoed, sizeof echoed, 0) < 0)
				break;
		if (echoed == number)
			rtt_ns[answered++] = os->now_ns(os) - start_ns;
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return answered;
}

int load_echo_run(const struct load_echo *load, int64_t *rtt_ns, struct haul_err *err)
{
	struct echo echo = { .fd = socket_in(load->to_netns, SOCK_DGRAM, err) };
	struct sockaddr_in bound;
	pthread_t thread;
	int r, fd = -1;

	if (echo.fd < 0)
		return echo.fd;
	r = bind_receiver(echo.fd, load->to_address, &bound, err);
	if (r)
		goto close_echo;
	r = fd = socket_in(load->from_netns, SOCK_DGRAM, err);
	if (r < 0)
		goto close_echo;
	if (connect(fd, (struct sockaddr *)&bound, sizeof bound)) {
		r = haul_err_set(err, -errno, "load: connect: %s", haul_strerror(-errno));
		goto close_sender;
	}
	r = -pthread_create(&thread, NULL, echo_main, &echo);
	if (r)
		goto close_sender;
	r = echo_trips(fd, load, rtt_ns);
	echo.stop = true;
	pthread_join(thread, NULL);
	qsort(rtt_ns, (size_t)r, sizeof *rtt_ns, compare_ns);
close_sender:
	close(fd);
close_echo:
	close(echo.fd);
	return r;
}

/* Read all of a child's output and reap it; NULL when it failed. The caller frees. */
static char *child_output(int fd, pid_t pid)
{
	char *text = calloc(1, OUTPUT_BYTES_MAX);
	size_t used = 0;
	int status = 0;
	ssize_t got = 1;

	while (text && got > 0 && used < OUTPUT_BYTES_MAX - 1) {
		got = read(fd, text + used, OUTPUT_BYTES_MAX - 1 - used);
		used += got > 0 ? (size_t)got : 0;
	}
	if (waitpid(pid, &status, 0) != pid || status) {
		free(text);
		return NULL;
	}
	return text;
}

static int parse_iperf(const char *text, double *ret_gbit_per_s, uint32_t *ret_retransmits)
{
	json_t *root = text ? json_loads(text, 0, NULL) : NULL;
	json_t *end = json_object_get(root, "end");
	json_t *received = json_object_get(end, "sum_received");
	json_t *sent = json_object_get(end, "sum_sent");
	double bits = json_number_value(json_object_get(received, "bits_per_second"));

	*ret_retransmits = (uint32_t)json_integer_value(json_object_get(sent, "retransmits"));
	json_decref(root);
	if (bits <= 0)
		return -EIO;
	*ret_gbit_per_s = bits / 1e9;
	return 0;
}

/* Start a program in a namespace with its output in a pipe. */
static int spawn_piped(int netns, const char *const argv[], pid_t *ret_pid, struct haul_err *err)
{
	int pipe_fd[2], pid;

	if (pipe2(pipe_fd, O_CLOEXEC))
		return haul_err_set(err, -errno, "load: pipe: %s", haul_strerror(-errno));
	pid = netns_spawn(netns, argv, pipe_fd[1], err);
	close(pipe_fd[1]);
	if (pid < 0) {
		close(pipe_fd[0]);
		return pid;
	}
	*ret_pid = pid;
	return pipe_fd[0];
}

int load_tcp_run(const struct load_tcp *load, double *ret_gbit_per_s, uint32_t *ret_retransmits,
		 struct haul_err *err)
{
	char port[16], time[16], line[256], *text;
	const char *server[] = { "iperf3", "-s", "-1", "-p", port, "--forceflush", NULL };
	const char *client[] = { "iperf3", "-c", load->to_address, "-p", port, "-t",
				 time,     "-C", "cubic",          "-J", NULL };
	pid_t server_pid, client_pid;
	int server_fd, client_fd, r;
	ssize_t got;

	snprintf(port, sizeof port, "%d", IPERF_PORT_FIRST);
	snprintf(time, sizeof time, "%.0f", load->seconds < 1 ? 1 : load->seconds);
	server_fd = spawn_piped(load->to_netns, server, &server_pid, err);
	if (server_fd < 0)
		return server_fd;
	/* It says that it listens before it accepts. */
	got = read(server_fd, line, sizeof line);
	client_fd = got > 0 ? spawn_piped(load->from_netns, client, &client_pid, err) : -EIO;
	if (client_fd < 0) {
		kill(server_pid, SIGTERM);
		waitpid(server_pid, NULL, 0);
		close(server_fd);
		return haul_err_set(err, client_fd, "load: iperf3 did not start");
	}
	text = child_output(client_fd, client_pid);
	r = parse_iperf(text, ret_gbit_per_s, ret_retransmits);
	free(text);
	close(client_fd);
	kill(server_pid, SIGTERM);
	waitpid(server_pid, NULL, 0);
	close(server_fd);
	return r ? haul_err_set(err, r, "load: iperf3 gave no result") : 0;
}
