/*
 * Preloaded into a benchmark's Postgres: a disk flush takes exactly FLUSH_MICROSECONDS, or no time at all, whatever the
 * machine's disk and its other users do. Nothing reaches the disk for certain: for servers that are thrown away.
 */
#include <stdlib.h>
#include <time.h>

static int flush(void) {
  const char *text = getenv("FLUSH_MICROSECONDS");
  long microseconds = text == NULL ? 0 : atol(text);
  if (microseconds > 0) {
    struct timespec pause = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&pause, NULL);
  }
  return 0;
}

int fdatasync(int fd) {
  (void)fd;
  return flush();
}

int fsync(int fd) {
  (void)fd;
  return flush();
}
