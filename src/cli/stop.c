#include "cli/stop.h"

#include <pthread.h>
#include <stddef.h>

#include "cli/progress.h"

static volatile sig_atomic_t asked;
static void (*volatile also)(void *arg);
static void *volatile also_arg;

static void on_signal(int number)
{
	void (*const call)(void *arg) = also;
	(void)number;
	asked = 1;
	if (call != NULL)
		call(also_arg);
}

void stop_catch(void)
{
	/* no SA_RESTART: a read from a terminal ends, too; a second signal kills */
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

bool stop_asked(void)
{
	return asked != 0;
}

/* A signal may come in between: the argument fits what is called at any time. */
void stop_also(void (*call)(void *arg), void *arg)
{
	also = NULL;
	also_arg = arg;
	also = call;
}

void stop_block(sigset_t *ret_signals)
{
	(void)sigemptyset(ret_signals);
	(void)sigaddset(ret_signals, SIGINT);
	(void)sigaddset(ret_signals, SIGTERM);
	(void)pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
}

int stop_progress(uint64_t done, uint64_t total, void *arg)
{
	progress_show(arg, done, total);
	return stop_asked();
}
