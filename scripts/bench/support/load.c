/*
 * Many SSE streams in one process that costs next to nothing: opens a connection for each request of a file, counts events, and says
 * when all that were expected have come. Not a client that anybody would use: it looks for "\nid:" and for nothing else.
 *
 *   load HOST PORT REQUESTS CONNECTIONS [AT_ONCE]
 *
 * REQUESTS holds raw HTTP requests one after the other, each ending with an empty line; connection n sends number n modulo their number.
 * AT_ONCE connections are under way at a time (64). Prints "open MICROSECONDS" when every stream has begun. Then, on standard input:
 *
 *   expect N     counters to 0; prints "came EVENTS BYTES MICROSECONDS LEAST MOST" when N events have come: the time from the command
 *                to the last of them, and the least and the most that one connection got
 *   report       prints the same line with what has come so far, and no more than that
 *   stop N       stop reading from the first N connections (their sockets fill up)
 *   dump FILE    if KEEP is set in the environment: writes everything that has come since the start, read by read, each as connection,
 *                length (32 bits each), microseconds of CLOCK_MONOTONIC (a double) and the bytes; prints "dumped"
 *   quit         ends
 *
 * If CAUGHT_UP is set in the environment, a stream has begun when "event: caught-up" has come rather than when the head has.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TAIL 16
static const char MARK[] = "\nid:";

struct connection {
  int fd, sent, open, dead;
  char tail[TAIL];
  int tail_length;
  long events;
};

static struct connection *all;
static int connections, begun, opened, dead, at_once = 64, epoll;
static long events, bytes, expected = -1;
static double marked, last;
static char **requests;
static int *lengths, request_count;
static const char *opening = "\r\n\r\n";
static struct sockaddr_in address;
static char buffer[1 << 18];
static char *kept;
static size_t kept_length, kept_room;
static int keeping;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void begin(void) {
  struct connection *c = &all[begun];
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) die("connect");
  struct epoll_event e = {.events = EPOLLOUT | EPOLLIN, .data.u32 = begun++};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) < 0) die("epoll_ctl");
}

static void send_request(struct connection *c) {
  int n = (c - all) % request_count;
  ssize_t sent = write(c->fd, requests[n], lengths[n]);
  if (sent != lengths[n]) die("write");
  c->sent = 1;
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = c - all};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void line(void) {
  long least = connections ? all[0].events : 0, most = 0;
  for (int i = 0; i < connections; i++) {
    if (all[i].events < least) least = all[i].events;
    if (all[i].events > most) most = all[i].events;
  }
  printf("came %ld %ld %.0f %ld %ld %d\n", events, bytes, last - marked, least, most, dead);
  fflush(stdout);
}

static void keep_bytes(const void *data, size_t length) {
  if (kept_length + length > kept_room) kept = realloc(kept, kept_room = (kept_length + length) * 2);
  if (!kept) die("realloc");
  memcpy(kept + kept_length, data, length);
  kept_length += length;
}

static void keep_read(uint32_t connection, const char *data, uint32_t length) {
  double at = now();
  keep_bytes(&connection, sizeof connection);
  keep_bytes(&length, sizeof length);
  keep_bytes(&at, sizeof at);
  keep_bytes(data, length);
}

static void dump(const char *path) {
  FILE *file = fopen(path, "w");
  if (!file || fwrite(kept, 1, kept_length, file) != kept_length || fclose(file)) die(path);
  printf("dumped\n");
  fflush(stdout);
}

static void take(struct connection *c, char *data, int length) {
  bytes += length;
  /* data has TAIL bytes of room before it, for the end of what came before. */
  char *from = data - c->tail_length, *end = data + length;
  memcpy(from, c->tail, c->tail_length);
  if (!c->open && memmem(from, end - from, opening, strlen(opening))) {
    c->open = 1;
    opened++;
    if (begun < connections) begin();
  }
  /* A mark that was counted must not be counted again: it ends in what is new. */
  long found = 0;
  int behind = c->tail_length < (int)sizeof MARK - 2 ? c->tail_length : (int)sizeof MARK - 2;
  for (char *at = data - behind; (at = memmem(at, end - at, MARK, sizeof MARK - 1)); at += sizeof MARK - 1) found++;
  int keep = end - from < TAIL ? end - from : TAIL;
  memcpy(c->tail, end - keep, keep);
  c->tail_length = keep;
  c->events += found;
  events += found;
  if (found) last = now();
}

static void command(void) {
  char text[4096];
  ssize_t n = read(0, text, sizeof text - 1);
  if (n <= 0) exit(0);
  text[n] = 0;
  text[strcspn(text, "\n")] = 0;
  if (!strncmp(text, "expect ", 7)) {
    expected = atol(text + 7);
    events = bytes = 0;
    for (int i = 0; i < connections; i++) all[i].events = 0;
    marked = last = now();
  } else if (!strncmp(text, "report", 6)) line();
  else if (!strncmp(text, "dump ", 5)) dump(text + 5);
  else if (!strncmp(text, "stop ", 5)) {
    int until = atoi(text + 5);
    for (int i = 0; i < until && i < connections; i++) epoll_ctl(epoll, EPOLL_CTL_DEL, all[i].fd, NULL);
    printf("stopped\n");
    fflush(stdout);
  } else exit(0);
}

static void read_requests(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) die(path);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *text = malloc(size + 1);
  if (fread(text, 1, size, file) != (size_t)size) die("fread");
  text[size] = 0;
  for (char *at = text, *end; (end = strstr(at, "\r\n\r\n")); at = end + 4) {
    requests = realloc(requests, (request_count + 1) * sizeof *requests);
    lengths = realloc(lengths, (request_count + 1) * sizeof *lengths);
    requests[request_count] = at;
    lengths[request_count++] = end + 4 - at;
  }
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  address.sin_family = AF_INET;
  address.sin_port = htons(atoi(argv[2]));
  inet_pton(AF_INET, argv[1], &address.sin_addr);
  read_requests(argv[3]);
  connections = atoi(argv[4]);
  if (argc > 5) at_once = atoi(argv[5]);
  if (getenv("CAUGHT_UP")) opening = "event: caught-up";
  keeping = getenv("KEEP") != NULL;
  all = calloc(connections, sizeof *all);
  epoll = epoll_create1(0);
  struct epoll_event in = {.events = EPOLLIN, .data.u32 = -1u};
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &in);
  double start = now();
  int said = 0;
  while (begun < connections && begun < at_once) begin();
  for (;;) {
    struct epoll_event ready[512];
    int n = epoll_wait(epoll, ready, 512, -1);
    for (int i = 0; i < n; i++) {
      if (ready[i].data.u32 == -1u) {
        command();
        continue;
      }
      struct connection *c = &all[ready[i].data.u32];
      if (!c->sent) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
          errno = error;
          die("connect");
        }
        send_request(c);
        continue;
      }
      ssize_t got = read(c->fd, buffer + TAIL, sizeof buffer - TAIL);
      if (got > 0 && keeping) keep_read(c - all, buffer + TAIL, got);
      if (got > 0) take(c, buffer + TAIL, got);
      else if (got == 0 || errno != EAGAIN) {
        if (!c->open) {
          fprintf(stderr, "connection %d was closed before it began: %.*s\n", (int)(c - all), c->tail_length, c->tail);
          exit(1);
        }
        dead++;
        epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
        close(c->fd);
      }
    }
    if (!said && opened == connections) {
      said = 1;
      printf("open %.0f\n", now() - start);
      fflush(stdout);
    }
    if (expected >= 0 && events >= expected) {
      expected = -1;
      line();
    }
  }
}
