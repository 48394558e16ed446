/* Who gets in at the server of a store, and what it tells to whom. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "raw_lab.h"

static void token_write(struct serve_lab *lab, char *path, const char *name, const char *token)
{
	(void)snprintf(path, FOLDER_LAB_PATH + 32, "%s/%s", lab->folder.path, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(token, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* With a token only who knows it gets in, wherever he comes from. */
static void test_server__asks_for_the_token(void **state)
{
	char right[FOLDER_LAB_PATH + 32], wrong[FOLDER_LAB_PATH + 32];
	struct haul_client *client = NULL;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	serve_lab_stop(&lab);
	token_write(&lab, right, "right", "a secret of some length\n");
	token_write(&lab, wrong, "wrong", "a secret of some lengt");
	const struct store_server_options options = { .token_file = right };
	serve_lab_start(&lab, &options);
	const struct haul_client_options knows = { .token_file = right };
	const struct haul_client_options guesses = { .token_file = wrong };
	assert_int_equal(haul_client_open(&client, lab.tcp, NULL, &lab.err), -EACCES);
	assert_non_null(strstr(lab.err.text, "token"));
	assert_int_equal(haul_client_open(&client, lab.tcp, &guesses, &lab.err), -EACCES);
	assert_null(client);
	assert_int_equal(haul_client_open(&client, lab.tcp, &knows, &lab.err), 0);
	haul_client_close(client);
	assert_int_equal(serve_lab_figure(&lab, "store.server", "token_failures"), 2);
	serve_lab_close(&lab);
}

/* A question for figures with `rest` bytes behind it. */
static uint32_t raw_status(uint8_t *data, uint32_t rest, uint64_t seq)
{
	const struct wire_query query = { .ask = WIRE_STATUS };
	const struct wire_from from = { .seq = seq };

	memcpy(data + FRAME_HEAD, &query, sizeof query);
	wire_seal(data, WIRE_QUERY, WIRE_QUERY_HEAD + rest, &from);
	return WIRE_QUERY_HEAD + rest;
}

/* Figures are told to who has said the token, in order of asking, and to nobody before; a question
 * that is longer than it can be is refused by its head, and one with anything behind it. */
static void test_server__tells_figures_to_who_may_know(void **state)
{
	uint8_t *data = aligned_alloc(64, WIRE_QUERY_MAX + 64), *reply = raw_room();
	char right[FOLDER_LAB_PATH + 32];
	const struct wire_result *result;
	struct frame_head head;
	struct serve_lab lab;

	(void)state;
	assert_non_null(data);
	memset(data, 0, WIRE_QUERY_MAX + 64);
	serve_lab_open(&lab, NULL);
	serve_lab_stop(&lab);
	token_write(&lab, right, "right", "secret\n");
	const struct store_server_options options = { .token_file = right };
	serve_lab_start(&lab, &options);
	int fd = raw_connect(&lab);
	raw_send(fd, data, raw_status(data, 0, 1));
	assert_int_equal(raw_error(fd), -EPROTO);
	fd = raw_connect(&lab);
	const uint32_t hello = wire_put_hello(data, (const uint8_t *)"secreT", 6);
	raw_send(fd, data, hello + raw_status(data + hello, 0, 1)); /* at once, in one piece */
	assert_int_equal(raw_error(fd), -EACCES);
	assert_int_equal(serve_lab_figure(&lab, "store.server", "queries"), 0);
	fd = raw_connect(&lab);
	raw_hello(fd, "secret");
	assert_int_equal(raw_read(fd, reply, RAW_ROOM), WIRE_WELCOME_BYTES);
	for (uint64_t seq = 1; seq <= WIRE_CREDITS; seq++)
		raw_send(fd, data, raw_status(data, 0, seq));
	for (uint64_t seq = 1; seq <= WIRE_CREDITS; seq++) {
		assert_true(raw_read(fd, reply, RAW_ROOM) > WIRE_RESULT_HEAD);
		memcpy(&head, reply, sizeof head);
		assert_int_equal(head.kind, WIRE_RESULT);
		assert_int_equal(head.seq, seq);
		assert_int_equal(wire_get_result(reply, &result), 0);
		assert_int_equal(result->result, 4); /* blocks: three of the store, the server's */
	}
	(void)raw_status(data, WIRE_QUERY_MAX + 8 - WIRE_QUERY_HEAD, 9);
	raw_send(fd, data, FRAME_HEAD);
	assert_int_equal(raw_error(fd), HAUL_ELIMIT);
	fd = raw_connect(&lab);
	raw_hello(fd, "secret");
	assert_int_equal(raw_read(fd, reply, RAW_ROOM), WIRE_WELCOME_BYTES);
	raw_send(fd, data, raw_status(data, 64 << 10, 1));
	assert_int_equal(raw_error(fd), HAUL_ECORRUPT);
	free(data);
	free(reply);
	serve_lab_close(&lab);
}

/* It does not listen where others can come from without a token file, nor with an empty one. */
static void test_server__refuses_open_doors(void **state)
{
	char empty[FOLDER_LAB_PATH + 32];
	struct store_server *server = NULL;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	token_write(&lab, empty, "empty", "\n");
	struct store_server_options options = { .store = lab.store,
						.addresses = { "0.0.0.0:0" },
						.address_count = 1 };
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EINVAL);
	assert_non_null(strstr(lab.err.text, "token file"));
	options.addresses[0] = "[::]:0";
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EINVAL);
	options.addresses[0] = "*:0";
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EINVAL);
	options.token_file = empty;
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EINVAL);
	options.token_file = "/nonexistent";
	assert_int_equal(store_server_open(&server, &options, &lab.err), -ENOENT);
	options.token_file = NULL;
	options.addresses[0] = "127.0.0.1:99999";
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EINVAL);
	assert_null(server);
	serve_lab_close(&lab);
}

/* A socket of a server that is gone is replaced, that of a living one is not, nor is a file. */
static void test_server__replaces_stale_sockets_only(void **state)
{
	char path[FOLDER_LAB_PATH + 48], file[FOLDER_LAB_PATH + 32];
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct store_server *server = NULL;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct store_server_options options = { .store = lab.store,
						.addresses = { lab.local },
						.address_count = 1 };
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EADDRINUSE);
	options.addresses[0] = lab.tcp;
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EADDRINUSE);
	token_write(&lab, file, "file", "mine");
	(void)snprintf(path, sizeof path, "unix:%s", file);
	options.addresses[0] = path;
	assert_int_equal(store_server_open(&server, &options, &lab.err), -EADDRINUSE);
	assert_int_equal(access(file, F_OK), 0);
	assert_null(server);
	(void)snprintf(path, sizeof path, "unix:%s/stale", lab.folder.path);
	memcpy(name.sun_path, path + 5, strlen(path) - 5);
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof name), 0);
	(void)close(fd);
	assert_int_equal(store_server_open(&server, &options, &lab.err), 0);
	assert_int_equal(store_server_port(server), 0);
	store_server_close(server);
	assert_int_equal(access(path + 5, F_OK), -1);
	serve_lab_close(&lab);
}

/* A store that is open for reading only answers queries, and says why it takes no changes. */
static void test_server__serves_to_read_only(void **state)
{
	const struct haul_store_options options = { .memory = 128 << 20, .read_only = true };
	const uint64_t id = 1;
	struct haul_reader *reader;
	struct haul_changes *changes;
	struct haul_node node;
	struct serve_lab lab;
	int32_t status = 9;

	(void)state;
	serve_lab_open(&lab, NULL);
	raw_still_serves(&lab, 1);
	serve_lab_stop(&lab);
	assert_int_equal(haul_store_close(lab.store), 0);
	assert_int_equal(haul_store_open(&lab.store, lab.folder.store, &options, &lab.err), 0);
	serve_lab_start(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, NULL);
	assert_int_equal(haul_changes_new(&changes, 16, 4096, 0), 0);
	serve_lab_nodes(changes, 2, 1);
	assert_int_equal(haul_client_commit(client, changes, NULL, NULL), -EROFS);
	assert_int_equal(haul_client_commit(client, changes, NULL, NULL), -EROFS);
	assert_int_equal(haul_client_reader(client, 0, &reader), 0);
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), 1);
	assert_int_equal(status, 0);
	haul_reader_close(reader);
	haul_changes_free(changes);
	haul_client_close(client);
	serve_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server__asks_for_the_token),
		cmocka_unit_test(test_server__tells_figures_to_who_may_know),
		cmocka_unit_test(test_server__refuses_open_doors),
		cmocka_unit_test(test_server__replaces_stale_sockets_only),
		cmocka_unit_test(test_server__serves_to_read_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
