/**
 * For `spawn` and `fork`: a program in a session of its own. Where Linux groups processes by session to share out the processors
 * (`sched_autogroup_enabled`, sched(7)), each of Postgres' is a group by itself, and all that a benchmark starts would be one more, the service,
 * its clients and the writers' pgbench together: on a full machine that one starves. Services that systemd or a container starts are groups of
 * their own as well.
 */
export const OWN_SESSION = { detached: true } as const;
