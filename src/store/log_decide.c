/* The table of docs/design/0016, row by row from the top: the first that fits decides. */
#include "base/assert.h"
#include "store/log.h"

const char *log_verdict_text(enum log_verdict verdict)
{
	static const char *const texts[LOG_VERDICTS] = {
#define X(id, text) [id] = (text),
		LOG_VERDICT_LIST(X)
#undef X
	};

	HAUL_ASSERT(verdict < LOG_VERDICTS);
	return texts[verdict];
}

enum log_verdict log_decide(const struct log_evidence *e)
{
	HAUL_ASSERT(e->seen < LOG_SEEN_KINDS);
	if (e->seen == LOG_SEEN_UNREADABLE)
		return LOG_UNREADABLE;
	if (e->seen == LOG_SEEN_FOREIGN)
		return LOG_ALIEN;
	/* What an earlier use of the segment was written by does not matter any more. */
	if (e->newer_version && e->seen != LOG_SEEN_STALE)
		return LOG_NEWER;
	if (e->seen == LOG_SEEN_GOOD)
		return LOG_APPLY;
	if (e->later_acknowledges || e->seen == LOG_SEEN_UNLINKED)
		return LOG_DAMAGED;
	/* What cannot be read might have said that this was acknowledged. */
	if (e->later_unreadable)
		return LOG_UNREADABLE;
	if (e->later_good || e->seen == LOG_SEEN_BROKEN)
		return LOG_TORN;
	return LOG_END;
}
