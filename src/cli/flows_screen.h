/* cli/flows_screen.h — the terminal of a live view: whole frames in, keys out.
 *
 * Model      A frame is text with newlines; what does not fit is cut. Drawn by ncurses, so that a
 *            frame changes only what differs, the terminal is as before after flows_screen_close,
 *            and a new size is used at the next frame.
 * Ownership  one at a time; flows_screen_close takes NULL.
 * Threads    main thread only. */
#pragma once

#include <stdbool.h>

struct flows_screen;

/* NULL: standard input or output is no terminal, or of a kind that ncurses does not know. */
struct flows_screen *flows_screen_open(void);
void flows_screen_close(struct flows_screen *screen);
/* Lines that fit. */
int flows_screen_lines(const struct flows_screen *screen);
/* The line marked (-1 = none) is shown in reverse. */
void flows_screen_draw(struct flows_screen *screen, const char *frame, int marked);
/* The next key that was typed; 0 = none. A new size of the terminal is FLOWS_KEY_RESIZE. */
enum { FLOWS_KEY_RESIZE = 0x1000, FLOWS_KEY_BACKSPACE, FLOWS_KEY_ENTER, FLOWS_KEY_ESCAPE };
int flows_screen_key(struct flows_screen *screen);
