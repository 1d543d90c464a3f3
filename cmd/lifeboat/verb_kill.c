/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat kill: end a machine at once.
 *
 * A worker that does not answer is ended by SIGKILL.  Its pid comes from the
 * lock file, and is used only while the lock is held: then it is not reused. */
#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

#define GONE_NS (10 * NS_PER_SEC)

static enum err option(void *args, int key, char *value)
{
	const char **name = args;

	if (key != CLI_ARGUMENT)
		return cli_unknown_key(key);
	*name = value;
	return ERR_OK;
}

static const struct cli_verb verb = {
	.name = "kill",
	.args_doc = "NAME",
	.doc = "End a machine at once, as if its power had been cut.\vExample:\n  lifeboat kill web",
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static enum err by_signal(const struct home *h, const char *name)
{
	int monitor, worker;

	home_pids(h, name, &monitor, &worker);
	if (worker <= 1 || !home_running(h, name))
		return err_note(ERR_NOTFOUND, 0, "machine %s: it does not run: see `lifeboat ps'",
				name);
	if (kill(worker, SIGKILL) != 0 && errno != ESRCH)
		return err_sys(errno, "machine %s: end its worker %d", name, worker);
	return ERR_OK;
}

enum err verb_kill(int argc, char **argv)
{
	const char *name = NULL;
	struct home h;
	struct remote *r = NULL;
	enum err e = cli_parse(&verb, argc, argv, &name);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK)
		return e;
	e = home_connect(&h, name, &r);
	if (e == ERR_OK)
		e = remote_kill(r);
	remote_close(r);
	if (e == ERR_USAGE || (e == ERR_NOTFOUND && !home_running(&h, name)))
		return e;
	if (e != ERR_OK && (e = by_signal(&h, name)) != ERR_OK)
		return e;
	return home_wait_gone(&h, name, GONE_NS);
}
