#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The one place in the library that writes to a terminal: the process is about to die, and stdio
 * may be what broke. */
void assert_failed(const char *condition, const char *file, int line)
{
	char text[256];
	int bytes =
		snprintf(text, sizeof text, "%s:%d: assertion failed: %s\n", file, line, condition);
	if (bytes > (int)sizeof text - 1)
		bytes = (int)sizeof text - 1;
	if (bytes > 0 && write(STDERR_FILENO, text, (size_t)bytes) < 0)
		_exit(134); /* nobody can read the reason; what abort would make of it */
	abort();
}
