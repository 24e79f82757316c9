/* SPDX-License-Identifier: MIT */
/*
 * Counters of a server with many threads. Each request is counted on the processor that serves it:
 * no cache line goes from one processor to another for the statistics' sake. A thread that reports
 * now and then reads the near values, which costs one load each; at the end the exact sums are
 * compared with what the clients know.
 *
 *     cc percpu_counters.c $(pkg-config --cflags --libs allod) -pthread
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <allod/counter.h>

enum { WORKERS = 4, CLIENTS = 4, CONNECTIONS = 25, REQUESTS = 20, BATCH = 64 };

static struct allod_counter requests;
static struct allod_counter bytes;
static int listener;
static struct sockaddr_in address;

static void need(int condition, const char *what)
{
	if (!condition) {
		perror(what);
		exit(1);
	}
}

static void *worker(void *arg)
{
	char buffer[256];
	ssize_t got;
	int client;

	while ((client = accept(listener, NULL, NULL)) >= 0) {
		while ((got = recv(client, buffer, sizeof buffer, 0)) > 0) {
			allod_counter_add(&requests, 1);
			allod_counter_add(&bytes, got);
			need(send(client, "ok", 2, MSG_NOSIGNAL) == 2, "send");
		}
		close(client);
	}
	return arg;
}

static void *client(void *arg)
{
	char answer[2];

	for (int i = 0; i < CONNECTIONS; i++) {
		const int to = socket(AF_INET, SOCK_STREAM, 0);

		need(to >= 0 && !connect(to, (struct sockaddr *)&address, sizeof address),
			"connect");
		for (int k = 0; k < REQUESTS; k++) {
			need(send(to, "hello", 5, MSG_NOSIGNAL) == 5, "send");
			need(recv(to, answer, sizeof answer, MSG_WAITALL) == 2, "recv");
		}
		close(to);
	}
	return arg;
}

static void make_counters(void)
{
	struct allod_percpu_pool *pool = allod_percpu_pool_create("statistics", NULL);
	struct allod_counter *const counters[] = { &requests, &bytes };

	need(pool != NULL, "allod_percpu_pool_create");
	for (int i = 0; i < 2; i++) {
		void *copies = allod_percpu_zalloc(pool, sizeof(struct allod_counter_copy), 0);

		need(copies != NULL, "allod_percpu_zalloc");
		allod_counter_init(counters[i], allod_percpu_pool_view(pool), copies, BATCH);
	}
}

static void listen_somewhere(void)
{
	socklen_t length = sizeof address;

	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	need(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof address) &&
			!listen(listener, CLIENTS) &&
			!getsockname(listener, (struct sockaddr *)&address, &length),
		"listen");
}

int main(void)
{
	pthread_t workers[WORKERS], clients[CLIENTS];
	const int64_t want = (int64_t)CLIENTS * CONNECTIONS * REQUESTS;

	make_counters();
	listen_somewhere();
	for (int i = 0; i < WORKERS; i++)
		need(!pthread_create(&workers[i], NULL, worker, NULL), "pthread_create");
	for (int i = 0; i < CLIENTS; i++)
		need(!pthread_create(&clients[i], NULL, client, NULL), "pthread_create");
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i], NULL);
	shutdown(listener, SHUT_RDWR);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	printf("%lld requests (near: %lld, off by less than %llu), %lld bytes\n",
		(long long)allod_counter_sum(&requests), (long long)allod_counter_near(&requests),
		(unsigned long long)allod_counter_bound(&requests),
		(long long)allod_counter_sum(&bytes));
	return allod_counter_sum(&requests) != want || allod_counter_sum(&bytes) != 5 * want;
}
