/* rpc/serve_lab.h — a served store in a folder, and a proxy in front of it, for tests.
 *
 * Model      serve_lab_open makes a store in a new folder, serves it in a thread on a Unix socket
 *            and on a port of 127.0.0.1. The proxy listens on a Unix socket of its own and carries
 *            bytes to the server and back, until it is told to hold answers back, to lose all
 *            connections, to refuse new ones, or to send what a client sent a second time.
 * Ownership  serve_lab_close stops the server and removes the folder.
 * Threads    calls from one. Errors: asserts. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <haul/client.h>
#include <haul/store.h>
#include "../store/folder_lab.h"
#include "lib/testlib.h"
#include "rpc/store_server.h"

struct serve_lab {
	struct folder_lab folder;
	struct haul_store *store;
	struct store_server *server;
	pthread_t thread;
	bool runs;
	void (*tune)(struct store_server *server); /* before it runs; NULL = nothing */
	struct haul_stats_table *stats;
	char local[FOLDER_LAB_PATH + 32]; /* unix:… */
	char tcp[32];
	struct haul_err err;
};
/* options: NULL, or connections_max and token_file of them. */
void serve_lab_open(struct serve_lab *lab, const struct store_server_options *options);
void serve_lab_close(struct serve_lab *lab);
/* The server alone: it ends, or serves the same store again at the same addresses. */
void serve_lab_stop(struct serve_lab *lab);
void serve_lab_start(struct serve_lab *lab, const struct store_server_options *options);
/* A counter of a block: "store.server", "client" … */
uint64_t serve_lab_figure(struct serve_lab *lab, const char *block, const char *name);
uint64_t serve_lab_closed(struct serve_lab *lab, const char *block, enum haul_close reason);
/* A client at `address`, entered in lab->stats. */
struct haul_client *serve_lab_client(struct serve_lab *lab, const char *address,
				     const struct haul_client_options *options);
/* Nodes with ids [from, from + count) as one list; kind 1. */
void serve_lab_nodes(struct haul_changes *changes, uint64_t from, uint32_t count);
/* Whether the node is there, in the store itself. */
bool serve_lab_has(struct serve_lab *lab, uint64_t id);

struct serve_proxy;
struct serve_proxy *serve_proxy_open(struct serve_lab *lab);
void serve_proxy_close(struct serve_proxy *proxy);
const char *serve_proxy_address(const struct serve_proxy *proxy);
/* Answers are not carried while this is on. */
void serve_proxy_hold(struct serve_proxy *proxy, bool hold);
/* Nothing of a client is carried while this is on. */
void serve_proxy_mute(struct serve_proxy *proxy, bool mute);
/* All connections end now, on both sides; what was held is lost. */
void serve_proxy_cut(struct serve_proxy *proxy);
/* New connections are taken, and ended at once. */
void serve_proxy_refuse(struct serve_proxy *proxy, bool refuse);
/* Bytes of clients that have been carried to the server. */
uint64_t serve_proxy_carried(const struct serve_proxy *proxy);
