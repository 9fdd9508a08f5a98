/*
 * The least that delivering an outbox can cost, in C: polls a table by its id, and writes each row to the socket of the wallet whose
 * stream it is. It loses events that become visible late, asks nobody for a token, and drops what a slow socket does not take. A client
 * asks for /WALLET. Prints its port; then, for each line on its standard input, the rows that it has read.
 *
 *   least-relay CONNINFO TABLE POLL_MICROSECONDS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WALLETS 1000
#define FRAME 200 /* more than an event's lines without its data */

static int sockets[WALLETS];
static char *pending[WALLETS];
static size_t waits[WALLETS], room[WALLETS];
static int server;
static long events;

static void *accept_all(void *unused) {
  static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
  for (;;) {
    char request[4096];
    int on = 1, client = accept(server, NULL, NULL);
    if (client < 0) return unused;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ssize_t length = read(client, request, sizeof request - 1);
    if (length <= 0 || write(client, head, sizeof head - 1) < 0) {
      close(client);
      continue;
    }
    request[length] = 0;
    sockets[(unsigned)atoi(request + sizeof "GET /" - 1) % WALLETS] = client;
  }
}

static void *report(void *unused) {
  char line[100];
  while (fgets(line, sizeof line, stdin)) {
    printf("%ld\n", events);
    fflush(stdout);
  }
  exit(0);
  return unused;
}

static PGresult *checked(PGconn *db, PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return result;
  fputs(PQerrorMessage(db), stderr);
  exit(1);
}

static void hand_on(PGresult *rows) {
  int touched[WALLETS], count = 0;
  for (int row = 0; row < PQntuples(rows); row += 1) {
    ENTRY *stream = hsearch((ENTRY){PQgetvalue(rows, row, 1), NULL}, FIND);
    int wallet = stream == NULL ? -1 : (int)(long)stream->data;
    if (wallet < 0 || sockets[wallet] == 0) continue;
    size_t need = waits[wallet] + PQgetlength(rows, row, 3) + FRAME;
    if (need > room[wallet]) pending[wallet] = realloc(pending[wallet], room[wallet] = 2 * need);
    if (waits[wallet] == 0) touched[count++] = wallet;
    waits[wallet] += sprintf(pending[wallet] + waits[wallet], "event: %s\ndata: %s\nid: %s\n\n", PQgetvalue(rows, row, 2),
                             PQgetvalue(rows, row, 3), PQgetvalue(rows, row, 0));
  }
  for (int at = 0; at < count; at += 1) {
    static char chunk[1 << 20];
    int wallet = touched[at];
    int length = snprintf(chunk, sizeof chunk, "%zx\r\n%.*s\r\n", waits[wallet], (int)waits[wallet], pending[wallet]);
    if (write(sockets[wallet], chunk, length) != length) fputs("a subscriber was too slow\n", stderr);
    waits[wallet] = 0;
  }
}

static long microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

int main(int count, char **arguments) {
  char query[300], cursor[30];
  if (count != 4) return 2;
  PGconn *db = PQconnectdb(arguments[1]);
  PGresult *streams = checked(db, PQexec(db, "select 'stream:' || id, substr(payer, 6) from streams"));
  hcreate(2 * PQntuples(streams));
  for (int row = 0; row < PQntuples(streams); row += 1)
    hsearch((ENTRY){PQgetvalue(streams, row, 0), (void *)(long)atoi(PQgetvalue(streams, row, 1))}, ENTER);
  snprintf(query, sizeof query, "select coalesce(max(id), 0) from %s", arguments[2]);
  PGresult *head = checked(db, PQexec(db, query));
  strcpy(cursor, PQgetvalue(head, 0, 0));
  snprintf(query, sizeof query, "select id, topic, type, data::text from %s where id > $1 order by id limit 1000", arguments[2]);
  PQclear(checked(db, PQprepare(db, "poll", query, 1, NULL)));

  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  server = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(server, (struct sockaddr *)&address, size) || listen(server, 500)) return 1;
  getsockname(server, (struct sockaddr *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  pthread_t thread;
  pthread_create(&thread, NULL, accept_all, NULL);
  pthread_create(&thread, NULL, report, NULL);

  for (long interval = atol(arguments[3]);;) {
    long began = microseconds();
    const char *values[] = {cursor};
    PGresult *rows = checked(db, PQexecPrepared(db, "poll", 1, values, NULL, NULL, 0));
    hand_on(rows);
    if (PQntuples(rows) > 0) strcpy(cursor, PQgetvalue(rows, PQntuples(rows) - 1, 0));
    events += PQntuples(rows);
    PQclear(rows);
    long rest = began + interval - microseconds();
    usleep(rest > 1000 ? rest : 1000);
  }
}
