/*
 * The outbox protocol, for spin: ordering (the horizon) and the doorbell (who sleeps, who rings).
 *
 * The prose is in migrations/0002_outbox_ordering.sql and src/relay/doorbell.ts. Here every access to something shared is one
 * step (one d_step or atomic), named after the SQL or TypeScript that it stands for; spin tries every order of the steps of all
 * writers, relays, rings and faults, and checks
 *
 *   ORDER  when a row becomes visible, no cursor has reached or passed its id (a lower id later, or an id given out twice); and
 *          no read moves its cursor past a visible row that it did not return;
 *   SLEEP  a relay that waits for a ring, when no ring is under way to it and no writer is left, has read every committed row.
 *          There is no safety poll in the model.
 *
 * Sizes: WRITERS, RELAYS, APPENDS (most events of one transaction), BATCH (most rows of one read), CRASHES (of the server),
 * LOSSES (of a relay's sessions). What is left out, and how to read a counterexample: README.md. Every MUTANT_ below breaks one
 * rule, and `run` fails unless spin refutes it.
 */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef RELAYS
#define RELAYS 1
#endif
#ifndef APPENDS
#define APPENDS 1
#endif
#ifndef BATCH
#define BATCH 9
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
/* So that a mutant is refuted by the property that it breaks, and not by the other one first. */
#ifndef ONLY_ORDER
#define ONLY_ORDER 0
#endif
#ifndef ONLY_SLEEP
#define ONLY_SLEEP 0
#endif
/* A crash may move the sequence one ahead, besides what the writers take. */
#define MAX_ID (WRITERS * APPENDS + CRASHES)

/* Says once, while spin searches, that a situation really occurs. `run` insists on each of them. (Embedded C, so only there.) */
#ifdef COVER
#define REACHED(what) c_code { static int seen; if (!seen) { seen = 1; printf("reached: %s\n", what); } }
#else
#define REACHED(what) skip
#endif

/* What has become of the row with an id. Numbers above 2 are visible, even ones survive a crash. */
#define NONE 0
#define INSERTED 1           /* its transaction is open */
#define FLUSHED 2            /* its commit record is on disk, nobody can see the row yet */
#define VISIBLE_UNFLUSHED 3  /* only with synchronous_commit = off, which the append does not let happen */
#define VISIBLE 4
#ifdef MUTANT_ASYNC_COMMIT
#define AT_COMMIT VISIBLE_UNFLUSHED
#else
#define AT_COMMIT VISIBLE
#endif
#define visible(n) (row[n] > FLUSHED)
#define durable(n) (row[n] == FLUSHED || row[n] == VISIBLE)

#define NOBODY 255

byte lastValue;          /* of outbox_id_seq */
byte row[MAX_ID + 1];    /* the table, by id */
byte lock[WRITERS];      /* in-flight lock of each writer: K + 1, or 0 for none (pg_locks, key space 21335) */
bool sleeper[RELAYS];    /* holds the doorbell key shared (key space 21336) */
bool trying;             /* a writer holds the doorbell key exclusive, for a moment */

bool listening[RELAYS];  /* LISTEN outbox is in force */
byte underWay[RELAYS];   /* rings that Postgres has still to deliver to this relay */
bool rung[RELAYS];       /* Doorbell.#rung */
byte cursor[RELAYS];     /* hub.cursor, which is also what the clients hold: it outlives the server's crash */

byte begun;              /* writers that have begun; all are alike, so they begin in order of number */
byte left = WRITERS;     /* writers that have not ended */
bool inTransaction[WRITERS];
bool killed[WRITERS];    /* by a crash, noticed at once */
bool cut[RELAYS];        /* the relay's sessions are gone, noticed at once */

#if RELAYS == 1
#define someoneSleeps (sleeper[0])
#else
#define someoneSleeps (sleeper[0] || sleeper[1])
#endif

/* ORDER. */
inline checkOrder(theId, r) {
  r = 0;
  do
  :: r < RELAYS -> assert(cursor[r] < theId || ONLY_SLEEP); r++
  :: else -> break
  od
}

/* pg_notify at the writer's commit: one ring to each session that listens. */
inline ringEverybody(r) {
  r = 0;
  do
  :: r < RELAYS -> if :: listening[r] -> underWay[r]++ :: else fi; r++
  :: else -> break
  od;
  r = 0
}

/* ---- A writer: a transaction whose deferred trigger inserts into outbox_appending, once or more ------------------------- */

/* k := pg_sequence_last_value('outbox_id_seq') */
inline readK() {
  d_step { k = lastValue; printf("writer %d: K is %d\n", me, k) }
}

/* pg_advisory_xact_lock_shared((21335 << 48) | k): in flight from here on */
inline markInFlight() {
  d_step { lock[me] = k + 1; k = 0; printf("writer %d: is in flight with K = %d\n", me, lock[me] - 1) }
}

/* case when pg_try_advisory_lock(21336 << 48) then pg_advisory_unlock(…) …: one expression, but two steps in shared memory */
inline tryDoorbell() {
  if
  :: d_step { !someoneSleeps && !trying -> trying = true; printf("writer %d: tries the doorbell, nobody sleeps\n", me) };
     d_step { trying = false; printf("writer %d: lets go of the doorbell\n", me) }
  :: d_step {
       someoneSleeps || trying ->
       if
       :: !someoneSleeps -> REACHED("a writer rings although only another writer is at the doorbell")
       :: else
       fi;
       ring = true;
       printf("writer %d: cannot have the doorbell, will ring at its commit\n", me)
     }
  fi
}

/* id := nextval('outbox_id_seq'), and the insert, which nobody can see */
inline takeId() {
  d_step {
    lastValue++;
    if :: first -> second = lastValue :: else -> first = lastValue fi;
    row[lastValue] = INSERTED;
    printf("writer %d: takes id %d\n", me, lastValue)
  }
}

inline setRows(state) {
  row[first] = state;
  if :: second -> row[second] = state :: else fi
}

inline endTransaction() {
  inTransaction[me] = false; left--; k = 0; first = 0; second = 0; ring = false
}

proctype Writer(byte me) {
  byte k, first, second, r;
  bool ring;
  {
#if defined(MUTANT_LOCK_AFTER_NEXTVAL)
    d_step { begun == me -> begun++; inTransaction[me] = true };
    tryDoorbell(); readK(); takeId(); markInFlight();
#elif defined(MUTANT_TRY_BEFORE_MARK)
    d_step { begun == me -> begun++; inTransaction[me] = true };
    tryDoorbell(); readK(); markInFlight(); takeId();
#else
    d_step { begun == me -> begun++; inTransaction[me] = true; k = lastValue; printf("writer %d: K is %d\n", me, k) };
    markInFlight(); tryDoorbell(); takeId();
#endif
#if APPENDS > 1
    /* A later append of the same transaction. */
    if
    :: takeId()                 /* It finds the mark: that lock is held, so nothing is tried or rung. */
#ifdef MUTANT_LOCK_MOVES
    :: readK(); markInFlight(); tryDoorbell(); takeId()
#else
    :: tryDoorbell(); takeId()  /* It finds none: a second lock, whose K is no lower than that of the first, so nobody goes by it. */
#endif
    :: skip
    fi;
#endif

    if
    :: /* ROLLBACK, an error, a cancel: no ring. Earlier it would leave nothing at all, as a crash shows. */
       d_step {
         setRows(NONE); lock[me] = 0; endTransaction();
         REACHED("a writer aborts after taking an id");
         printf("writer %d: rolls back\n", me)
       }
    :: /* COMMIT */
#if CRASHES > 0 && !defined(MUTANT_ASYNC_COMMIT)
       d_step { setRows(FLUSHED); printf("writer %d: its commit is flushed\n", me) };
#endif
#ifdef MUTANT_RELEASE_BEFORE_VISIBLE
       d_step { lock[me] = 0; printf("writer %d: its in-flight lock is released\n", me) };
#endif
       /* ProcArrayEndTransaction(). From here on a listener that looks at the queue may find the ring: it can come before the
          lock goes, when another ring makes the listener look. */
       d_step {
         checkOrder(first, r);
         if :: second -> checkOrder(second, r) :: else fi;
         setRows(AT_COMMIT);
         if :: ring -> ringEverybody(r) :: else fi;
         r = 0;
         printf("writer %d: its rows are visible (ids %d and %d), ring %d\n", me, first, second, ring);
         ring = false
       };
       d_step {
         lock[me] = 0;
         printf("writer %d: its in-flight lock is released\n", me);
#ifndef MUTANT_ASYNC_COMMIT
         endTransaction()
#endif
       }
#ifdef MUTANT_ASYNC_COMMIT
       ; d_step { setRows(VISIBLE); endTransaction(); printf("writer %d: its commit is flushed at last\n", me) }
#endif
    fi
  } unless {
    d_step { killed[me] -> killed[me] = false; endTransaction(); r = 0 }
  }
}

/* ---- A relay: Relay.#follow() ------------------------------------------------------------------------------------------- */

/* Pace.awake is left open: a relay may change its mode at every turn.
   Doorbell.fallAsleep(): pg_try_advisory_lock_shared(21336 << 48), which never waits; Doorbell.wakeUp() */
inline changeMode() {
  if
  :: d_step { asleep -> sleeper[me] = false; asleep = false; printf("relay %d: lets go of the key\n", me) }
  :: d_step {
       !asleep ->
       if
       :: !trying -> asleep = true; sleeper[me] = true; printf("relay %d: holds the doorbell key\n", me)
       :: else -> REACHED("a relay is refused the key and stays awake"); printf("relay %d: is refused the key\n", me)
       fi
     }
  fi
}

/* Doorbell.answer(), and outbox_bound(): l := pg_sequence_last_value(…). One step, because a ring that arrives between the two
   may as well arrive after them. */
inline answerAndReadL() {
  d_step {
#ifndef MUTANT_ANSWER_AFTER_READ
    rung[me] = false;
#endif
    l = lastValue;
    printf("relay %d: answers the rings so far; L is %d\n", me, l)
  }
}

/* outbox_bound(): m := min(K) in pg_locks, which is one consistent look; in_flight := m is not null */
inline lookForLocks() {
  d_step {
    m = NOBODY; n = 0;
    do
    :: n < WRITERS -> if :: lock[n] && lock[n] - 1 < m -> m = lock[n] - 1 :: else fi; n++
    :: else -> break
    od;
    n = 0;
    sawWriter = (m != NOBODY);
    printf("relay %d: looks for writers, smallest K is %d (255: none)\n", me, m);
#if !defined(MUTANT_LOCKS_BEFORE_L) && !defined(MUTANT_LOOK_BEFORE_KEY) && !defined(MUTANT_TWO_LOOKS)
    /* What nobody asks any more is forgotten, so that there are fewer states: a relay that is awake never waits. */
    sawWriter = sawWriter && asleep;
    if :: l < m -> m = l :: else fi;
    if :: !asleep || sawWriter -> l = m :: else fi
#endif
  }
}

/* outbox_bound(): in_flight := m is not null or the sequence has moved since l. Without it a writer that tried the doorbell
   before the key was taken can take an id after L and be gone before the look: neither the horizon nor the look tells of it. */
inline readLAgain() {
  d_step {
    if
    :: asleep && !sawWriter && lastValue != l ->
       sawWriter = true;
       REACHED("only the second look at the sequence tells of a writer");
       printf("relay %d: last_value was %d at L and is %d\n", me, l, lastValue)
    :: else
    fi;
    if :: m < l -> l = m :: else fi
  }
}

/* The snapshot of the statement that reads rows. */
inline takeSnapshot() {
  snapshot = 0; n = 1;
  do
  :: n <= MAX_ID -> if :: visible(n) -> snapshot = snapshot | (1 << n) :: else fi; n++
  :: else -> break
  od;
  n = 0
}

/* ORDER, for rows that became visible between the snapshot and the end of the read. */
inline checkNothingSkipped() {
  n = before + 1;
  do
  :: n <= cursor[me] -> assert(!visible(n) || (snapshot & (1 << n)) || ONLY_SLEEP); n++
  :: else -> break
  od
}

/* select … where id > cursor and id <= least(l, m) order by id limit BATCH; then Hub.dispatch() */
inline readRows() {
  if :: l < m -> m = l :: else fi;
  got = 0; n = cursor[me] + 1; before = cursor[me];
  do
  :: n <= m && got < BATCH -> if :: snapshot & (1 << n) -> cursor[me] = n; got++ :: else fi; n++
  :: else -> break
  od;
#ifdef MUTANT_BARE_HORIZON
  if :: m > cursor[me] -> cursor[me] = m :: else fi;
#endif
  checkNothingSkipped();
#ifndef MUTANT_FULL_BATCH_SLEEPS
  batchFull = (got == BATCH);
#endif
#ifdef MUTANT_NO_SECOND_READ
  if :: afterRing -> sawWriter = false :: else fi;
  afterRing = false;
#endif
  snapshot = 0; l = 0; m = 0; n = 0; got = 0; before = 0;
  printf("relay %d: has read; cursor %d, writer in flight %d\n", me, cursor[me], sawWriter)
}

/* gaplessReader() in src/outbox/reader.ts: rows that follow the cursor without a gap, of one snapshot, and no look at anything else. It decides nothing, and a
   read that does comes after it. Rung or not makes no difference to what it may do, so it is left open. */
inline readGapless() {
  d_step {
    got = 0;
    do
#ifdef MUTANT_GAPS_SKIPPED
    :: got < BATCH && cursor[me] < MAX_ID - 1 && !visible(cursor[me] + 1) && visible(cursor[me] + 2) -> cursor[me] = cursor[me] + 2; got++
#endif
    :: got < BATCH && cursor[me] < MAX_ID && visible(cursor[me] + 1) -> cursor[me]++; got++
    :: else -> break
    od;
    if
    :: got > 0 && (lock[0] || lock[WRITERS - 1]) -> REACHED("rows without a gap are read while a writer is in flight")
    :: else
    fi;
    printf("relay %d: has read %d rows without a gap; cursor %d\n", me, got, cursor[me]);
    got = 0
  }
}

/* if (events.length === batchEvents) continue; if (doorbell.asleep && !batch.inFlight) wait */
inline decide() {
  if
  :: asleep && batchFull && !sawWriter -> REACHED("only a full batch keeps a relay from waiting")
  :: asleep && sawWriter -> REACHED("a sleeper that saw a writer in flight reads again without a ring")
  :: else
  fi;
  mayWait = asleep && !sawWriter && !batchFull;
  if :: mayWait -> printf("relay %d: waits for a ring\n", me) :: else fi;
  sawWriter = false; batchFull = false
}

/* SLEEP. */
inline checkNothingUnread() {
  n = 1;
  do
  :: n <= MAX_ID -> assert(!visible(n) || n <= cursor[me] || ONLY_ORDER); n++
  :: else -> break
  od;
  n = 0
}

inline forget() {
  l = 0; m = 0; n = 0; got = 0; before = 0; snapshot = 0; asleep = false; sawWriter = false; batchFull = false; mayWait = false
}

proctype Relay(byte me) {
  byte l, m, n, got, before;
  int snapshot;
  bool asleep, sawWriter, batchFull, mayWait;
#ifdef MUTANT_NO_SECOND_READ
  bool afterRing;
#endif

connect:
  {
#ifndef MUTANT_LISTEN_LAST
    /* Doorbell.open(): before the first read and before the key */
    d_step { listening[me] = true; printf("relay %d: listens\n", me) };
#endif
    if
    :: goto read
    :: goto turn
    fi;

turn:
#ifndef MUTANT_LOOK_BEFORE_KEY
    changeMode();
#endif

read:
    if
    :: readGapless()
    /* Awake, some polls read no more than that. */
    :: d_step { rung[me] = false }; readGapless(); goto turn
    :: true
    fi;
#ifdef MUTANT_ROWS_BEFORE_LOCKS
    atomic { takeSnapshot() };
#endif
#ifdef MUTANT_LOCKS_BEFORE_L
    lookForLocks();
    answerAndReadL();
#else
    answerAndReadL();
    lookForLocks();
#endif
#ifdef MUTANT_TWO_LOOKS
    /* in_flight from a look of its own, later than the horizon's */
    d_step {
      sawWriter = false;
      do
      :: n < WRITERS -> if :: lock[n] -> sawWriter = true :: else fi; n++
      :: else -> break
      od;
      n = 0
    };
#endif
#ifndef MUTANT_LAST_VALUE_ONCE
    readLAgain();
#endif
#ifdef MUTANT_LOOK_BEFORE_KEY
    d_step { takeSnapshot(); readRows() };
    if :: changeMode() :: true fi;
    d_step { decide() };
#else
    d_step {
#ifndef MUTANT_ROWS_BEFORE_LOCKS
      takeSnapshot();
#endif
      readRows();
#ifdef MUTANT_ANSWER_AFTER_READ
      rung[me] = false;
#endif
      decide()
    };
#endif

    if
    :: !mayWait -> goto turn
    :: !mayWait -> goto read
    :: mayWait
    fi;

#ifdef MUTANT_LISTEN_LAST
    d_step { listening[me] = true; printf("relay %d: listens\n", me) };
#endif
    /* Doorbell.wait(), without the safety poll */
#ifdef MUTANT_NO_SECOND_READ
    if :: rung[me] -> afterRing = true :: left == 0 && underWay[me] == 0 && !rung[me] fi;
#endif
    if
    :: rung[me] -> goto turn
    :: rung[me] -> REACHED("a ring ends a wait"); goto read
    :: d_step {
         left == 0 && underWay[me] == 0 && !rung[me] ->
         REACHED("a relay sleeps and nobody is left to ring");
         checkNothingUnread();
         forget()
       }
    fi
  } unless {
    d_step { cut[me] -> cut[me] = false; forget(); REACHED("a relay connects again") };
    goto connect
  }
}

/* ---- The channel and the faults ------------------------------------------------------------------------------------------ */

/* The notification arrives at relay `me` and is heard. */
proctype Ring(byte me) {
  byte n;
end:
  do
  :: d_step {
       underWay[me] > 0 ->
       underWay[me]--; rung[me] = true;
       n = 0;
       do
       :: n < WRITERS -> if :: lock[n] -> REACHED("a ring arrives while a writer's lock is held") :: else fi; n++
       :: else -> break
       od;
       n = 0;
       printf("relay %d: hears a ring\n", me)
     }
  od
}

/* Both sessions of relay r end: its key, its LISTEN and the rings on their way are gone. */
inline cutRelay(r) {
  sleeper[r] = false; listening[r] = false; underWay[r] = 0; rung[r] = false; cut[r] = true
}

/* Postgres is killed and recovers: open transactions are gone, flushed commits are there, and of the sequence is left what was
   flushed. A commit flushes its own ids, so it comes back somewhere between the highest committed id and where it was, or ahead
   of that (it is logged 32 ids ahead; one is enough here). Cursors are with the relays and their clients and stay. */
proctype Crash() {
  byte n, floor, r;
  atomic {
    printf("postgres crashes\n");
    n = 1;
    do
    :: n <= MAX_ID ->
       if
       :: durable(n) ->
          if
          :: row[n] == FLUSHED -> checkOrder(n, r); REACHED("a commit that was flushed but not yet visible survives a crash")
          :: else
          fi;
          row[n] = VISIBLE; floor = n
       :: else -> row[n] = NONE
       fi;
       n++
    :: else -> break
    od;
    if
    :: lastValue++; REACHED("a crash moves the sequence ahead")
    :: do
       :: lastValue > floor -> lastValue--; REACHED("a crash forgets that ids were given out")
       :: break
       od
    fi;
    n = 0;
    do
    :: n < WRITERS ->
       if :: inTransaction[n] -> inTransaction[n] = false; lock[n] = 0; killed[n] = true; REACHED("a crash kills a writer") :: else fi;
       n++
    :: else -> break
    od;
    trying = false;
    r = 0;
    do
    :: r < RELAYS -> cutRelay(r); r++
    :: else -> break
    od;
    printf("postgres is back, last_value is %d\n", lastValue);
    n = 0; floor = 0; r = 0
  }
}

proctype Loss() {
  byte r;
  atomic {
    if :: r = 0 :: RELAYS > 1 -> r = RELAYS - 1 fi;
    cutRelay(r);
    printf("relay %d: loses its sessions\n", r);
    r = 0
  }
}

init {
  byte n;
  atomic {
    do :: n < WRITERS -> run Writer(n); n++ :: else -> break od;
    n = 0;
    do :: n < RELAYS -> run Relay(n); run Ring(n); n++ :: else -> break od;
    n = 0;
    do :: n < CRASHES -> run Crash(); n++ :: else -> break od;
    n = 0;
    do :: n < LOSSES -> run Loss(); n++ :: else -> break od;
    n = 0
  }
}
