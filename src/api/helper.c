/* SPDX-License-Identifier: MIT */
/* See helper.h. */
#include "helper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>

bool helper_make(void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	sigset_t before;
	const int saved = errno;
	bool made;

	if (pthread_attr_init(&attr) != 0)
		return false;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	made = pthread_create(&thread, &attr, run, arg) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	/* It fails by its result, but what it calls inside may have set this. */
	errno = saved;
	return made;
}

void helper_watch_fork(void (*child)(void))
{
	pthread_atfork(NULL, NULL, child);
}
