/* cli/flows_loop.h — subcommands that go on until they are told to end. */
#pragma once

#include <stdint.h>

#include <haul/err.h>

enum flows_loop_why { FLOWS_LOOP_TIME, FLOWS_LOOP_INPUT, FLOWS_LOOP_STOP };

/* SIGINT, SIGTERM, SIGHUP and SIGQUIT are asked for from now on, SIGPIPE becomes EPIPE. Returns the
 * descriptor that the next takes. */
int flows_loop_open(struct haul_err *err);
/* Wait until until_ns, or input on input_fd (-1 = none), or a signal to end. A time that has passed
 * only looks. */
enum flows_loop_why flows_loop_wait(int stop_fd, int input_fd, int64_t until_ns);
/* Hand what was printed to who reads it. -EPIPE, without a text: nobody does any more, which ends a
 * loop and is no failure; another error with its text. */
int flows_loop_flush(struct haul_err *err);
