import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import pg from 'pg';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { metric } from '../support/metrics.ts';
import { startService } from '../support/service.ts';
import { asService, SERVICE_ROLE } from '../support/service-role.ts';
import { append, column, failure, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const DENIED = '42501';
/** So that nothing comes but what is rung. */
const NEVER = { SAFETY_POLL_MS: '600000' };
const IN_FLIGHT = '21335::bigint << 48';
const DOORBELL = '21336::bigint << 48';

describe('advisory locks of a stranger who can only connect', () => {
  let database: TestDatabase;
  let owner: pg.Pool;
  let stranger: pg.Client;
  let application: pg.Client;
  let service: Service;
  const roles = { stranger: `locker_${process.pid}`, application: `writer_${process.pid}` };

  async function logIn(role: string): Promise<pg.Client> {
    await owner.query(`create role ${role} login password 'secret'`);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'secret';
    const client = new pg.Client({ connectionString: url.href, application_name: role });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  beforeEach(async () => {
    database = await createTestDatabase();
    owner = database.pool;
    stranger = await logIn(roles.stranger);
    application = await logIn(roles.application);
    await owner.query(`grant select, insert, update on streams to ${roles.application}`);
  });

  afterEach(async () => {
    await service.stop();
    await Promise.allSettled([stranger.end(), application.end()]);
    await owner.query(
      `drop owned by ${roles.application}; drop role ${roles.stranger}, ${roles.application}`,
    );
    await database.drop();
  });

  /** One row of the application's, by rights on the business table alone; resolves with the id of its last event. */
  async function write(): Promise<number> {
    await application.query(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount) values ('a', 'b', 'active', 1, 1)`,
    );
    return scalar(owner, 'select max(id) from outbox');
  }

  const delivered = (id: number) => waitFor(() => service.hub.cursor >= id, { what: `event ${id}` });
  const asleep = async () => (await metric(service, 'settlewire_relay_asleep')) === 1;

  it('hold readers back while they are held, as an open transaction does; who it is can be seen, and nothing is lost', async () => {
    service = await startService(database.url, { STALL_ALERT_SECONDS: '0.1' });
    const before = service.hub.cursor;
    const pid = await scalar<number>(stranger, 'select pg_backend_pid()');
    await stranger.query(`select pg_advisory_lock_shared(${IN_FLIGHT})`);
    // An id that never appears: what follows the cursor without a gap needs no horizon.
    await owner.query("select nextval('outbox_id_seq')");
    const id = await write();
    await waitFor(
      async () => {
        const text = await (await fetch(`${service.adminUrl}/metrics`)).text();
        return text.includes(
          `settlewire_horizon_stall_seconds{pid="${pid}",application="${roles.stranger}"}`,
        );
      },
      { what: 'the metric that names the stranger' },
    );
    expect(service.hub.cursor).to.equal(before);
    const asTheService = new pg.Client({ connectionString: asService(database.url) });
    await asTheService.connect();
    const { rows } = await asTheService.query('select pid, usename, horizon from outbox_inflight');
    await asTheService.end();
    expect(rows.map((row) => [row.pid, row.usename, Number(row.horizon)])).to.deep.equal([
      [pid, roles.stranger, 0],
    ]);
    await owner.query('select pg_terminate_backend($1)', [pid]);
    await delivered(id);
  });

  it('held exclusively on the very keys that writers would take next: no writer waits, and their events come in order', async () => {
    service = await startService(database.url, NEVER);
    await owner.query("select setval('outbox_id_seq', 5000)");
    await append(owner);
    for (let key = 4990; key <= 5010; key += 1)
      await stranger.query(`select pg_advisory_lock(${IN_FLIGHT} | ${key})`);
    await application.query("set lock_timeout = '2s'");
    const ids = [await write(), await write(), await write()];
    expect(ids).to.deep.equal([...ids].sort((a, b) => a - b));
    // They hold readers back all the same: an exclusive key says nothing about who is in flight.
    await stranger.query('select pg_advisory_unlock_all()');
    await delivered(Math.max(...ids));
  });

  for (const mode of ['', '_shared'])
    it(`on the doorbell (pg_advisory_lock${mode}) cost speed and no event`, async () => {
      await stranger.query(`select pg_advisory_lock${mode}(${DOORBELL})`);
      service = await startService(database.url, NEVER);
      if (mode === '') expect(await asleep(), 'it never waits for the key: it polls').to.equal(false);
      for (let n = 0; n < 5; n += 1) await delivered(await write());
      await stranger.query('select pg_advisory_unlock_all()');
      await waitFor(asleep, { what: 'the relay to sleep' });
      await delivered(await write());
    });

  it('and rings: a flood of them makes the relay poll, and hides no event', async () => {
    service = await startService(database.url, { ...NEVER, WAKE_RINGS_PER_SECOND: '50' });
    await waitFor(asleep, { what: 'the relay to sleep' });
    const flood = async () => {
      for (let n = 0; n < 200; n += 1) await stranger.query(`select pg_notify('outbox', 'lies ${n}')`);
    };
    await Promise.all([flood(), waitFor(async () => !(await asleep()), { what: 'the relay to poll' })]);
    await delivered(await write());
    await waitFor(asleep, { what: 'the relay to sleep again', timeoutMs: 10_000 });
    await delivered(await write());
  });

  describe('after scripts/advisory-locks.sql', () => {
    const harden = async () => {
      const script = await readFile(new URL('../../scripts/advisory-locks.sql', import.meta.url), 'utf8');
      const client = await owner.connect();
      await client.query(`set settlewire.service_role = '${SERVICE_ROLE}'`);
      await client.query(script);
      client.release(true);
    };

    it('cannot be taken, by whatever function takes a bigint key', async () => {
      service = await startService(database.url);
      const takers = await column<string>(
        owner,
        `select p.proname::text from pg_proc p
          where p.pronamespace = 'pg_catalog'::regnamespace and p.proargtypes = '20' and p.proname ~ 'advisory' and p.proname !~ 'unlock'`,
      );
      expect(takers).to.have.length(8);
      const attempts = async () => {
        const open: string[] = [];
        for (const taker of takers) {
          const { code } = await failure(stranger.query(`select ${taker}(${IN_FLIGHT})`)).catch(() => ({
            code: '',
          }));
          if (code !== DENIED) open.push(taker);
        }
        await stranger.query('select pg_advisory_unlock_all()');
        return open;
      };
      expect(await attempts()).to.have.members(takers);
      await harden();
      expect(await attempts()).to.deep.equal([]);
      // With two keys it is another lock, which nobody of ours looks at.
      await stranger.query('select pg_advisory_lock_shared(21335 << 16, 0)');
      await delivered(await write());
      expect(await column(owner, 'select pid from outbox_inflight')).to.deep.equal([]);
    });

    it('writers write, ring and are in flight, and the service sleeps and wakes, as before', async () => {
      await harden();
      service = await startService(database.url, NEVER);
      await waitFor(asleep, { what: 'the relay to sleep' });
      for (let n = 0; n < 3; n += 1) await delivered(await write());
      await application.query('begin; set constraints all immediate');
      const before = service.hub.cursor;
      await application.query("update streams set status = 'paused'");
      expect(await column(owner, 'select usename::text from outbox_inflight')).to.deep.equal([
        roles.application,
      ]);
      await append(owner);
      expect(service.hub.cursor).to.equal(before);
      await application.query('commit');
      await delivered(await scalar(owner, 'select max(id) from outbox'));
    });
  });
});
