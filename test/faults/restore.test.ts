import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import type { Service } from '../../src/service.ts';
import { putBack, startStandby, takeBaseBackup } from '../support/base-backup.ts';
import { MovableAddress } from '../support/movable-address.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { ReturningClient } from '../support/returning-client.ts';
import { startService } from '../support/service.ts';
import { grantService, SERVICE_ROLE } from '../support/service-role.ts';
import { append, scalar } from '../support/session.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';

const TOKEN = mintToken({ sub: '00000000-0000-0000-0000-000000000001', role: 'ADMIN' });

describe('a database that has lost events which clients have', function () {
  this.timeout(60_000);
  let directory: string;
  let server: OwnPostgres;
  let second: OwnPostgres | undefined;
  const closing: (() => Promise<unknown>)[] = [];

  before(async () => {
    server = await startServer();
  });

  after(async () => {
    await server.remove();
    await second?.remove();
  });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'settlewire-restore-'));
  });

  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
    await rm(directory, { recursive: true, force: true });
  });

  function startServer(): Promise<OwnPostgres> {
    return OwnPostgres.start({ settings: { fsync: 'off', max_wal_senders: '4', wal_level: 'replica' } });
  }

  async function serve(url: string): Promise<Service> {
    const service = await startService(url, { SAFETY_POLL_MS: '200' });
    closing.push(() => service.stop());
    return service;
  }

  /** Commits events whose data says which they are. */
  async function publish(
    { pool }: Pick<OwnPostgres, 'pool'>,
    what: string,
    count: number,
  ): Promise<number[]> {
    const ids: number[] = [];
    for (let n = 1; n <= count; n += 1) ids.push(await append(pool, JSON.stringify({ n: `${what} ${n}` })));
    return ids;
  }

  const lastOf = ({ pool }: Pick<OwnPostgres, 'pool'>): Promise<number> =>
    scalar(pool, 'select max(id) from outbox');
  const epochOf = ({ pool }: Pick<OwnPostgres, 'pool'>): Promise<string> =>
    scalar(pool, 'select epoch from outbox_meta');

  /** Events before a base backup, and events after it that the client gets; then the server has stopped. */
  async function loseEvents(
    server: OwnPostgres,
    service: Service,
    client: ReturningClient,
  ): Promise<{ epoch: string; lost: number[] }> {
    const connection = await client.connect(service);
    await publish(server, 'before', 3);
    await takeBaseBackup(server, join(directory, 'backup'));
    const lost = await publish(server, 'lost', 5);
    await connection.received(8);
    client.note();
    const epoch = await epochOf(server);
    await server.stopFast();
    return { epoch, lost };
  }

  /** The client comes back: it is told, its next events are new ones, and no id has come with two events. */
  async function expectReset(
    server: Pick<OwnPostgres, 'pool'>,
    service: Service,
    client: ReturningClient,
    reason: string,
  ): Promise<void> {
    client.leave();
    const requested = Math.max(...client.seen.keys());
    const back = await client.connect(service);
    expect(back.messages[1]).to.deep.include({ type: 'reset', id: undefined });
    expect(back.messages[1]?.data).to.include({ reason, requested });
    const after = await publish(server, 'after the reset', 3);
    await waitFor(() => back.ids.at(-1) === after.at(-1), { what: 'the events after the reset' });
    expect(back.ids).to.include.members(after);
    expect(Math.min(...back.ids)).to.be.above(Number(back.messages[1]?.data['cursor']));
    client.note();
  }

  async function untilEpochIsNot(server: Pick<OwnPostgres, 'pool'>, epoch: string): Promise<void> {
    await waitFor(async () => (await epochOf(server)) !== epoch, { what: 'a new epoch', timeoutMs: 20_000 });
  }

  async function untilReady(service: Service): Promise<void> {
    await waitFor(() => service.condition === 'ready', {
      what: 'the service to be ready',
      timeoutMs: 20_000,
    });
  }

  it('restored to an earlier point with recovery: a new timeline, so a new epoch, although others wrote first', async () => {
    const service = await serve(server.url);
    const client = new ReturningClient(TOKEN);
    const { epoch, lost } = await loseEvents(server, service, client);
    await service.stop();
    await putBack(join(directory, 'backup'), server, 'recovery');
    await server.start();
    await waitFor(async () => !(await scalar(server.pool, 'select pg_is_in_recovery()')), {
      what: 'the end of recovery',
    });
    // Writers reuse the ids, and more, before any instance is there.
    expect(await publish(server, 'other', 8)).to.include.members(lost);
    const restarted = await serve(server.url);
    expect(await epochOf(server)).to.not.equal(epoch);
    await expectReset(server, restarted, client, 'epoch');
  });

  it('set back to a copy of its files, as by a volume snapshot: the instance that ran on finds its last event replaced', async () => {
    const timeline = (): Promise<number> => scalar(server.pool, 'select outbox_timeline()');
    const before = await timeline();
    const service = await serve(server.url);
    const client = new ReturningClient(TOKEN);
    // In the backup the instance is kept out, so that writers can overtake it after the restore.
    await server.pool.query(`alter role ${SERVICE_ROLE} nologin`);
    const { epoch, lost } = await loseEvents(server, service, client);
    await putBack(join(directory, 'backup'), server);
    await server.start();
    expect(await timeline()).to.equal(before);
    const others = await publish(server, 'other', 40);
    expect(others, 'the same ids once more, and later ones').to.include.members(lost);
    await server.pool.query(`alter role ${SERVICE_ROLE} login`);
    await untilEpochIsNot(server, epoch);
    await untilReady(service);
    await expectReset(server, service, client, 'epoch');
  });

  it('set back with nobody to notice: a client is told if it is ahead; outbox_new_epoch() by hand tells every other', async () => {
    const service = await serve(server.url);
    const [client, other] = [new ReturningClient(TOKEN), new ReturningClient(TOKEN)];
    await other.connect(service);
    const { epoch } = await loseEvents(server, service, client);
    other.leave();
    await service.stop();
    await putBack(join(directory, 'backup'), server);
    await server.start();
    const restarted = await serve(server.url);
    expect(await epochOf(server), 'nothing shows it').to.equal(epoch);
    client.leave();
    const ahead = await client.connect(restarted);
    // Recovery moves the sequence on by up to 32, so not every such client is ahead.
    const last = await scalar<number>(server.pool, 'select last_value from outbox_id_seq');
    const reasons = ahead.messages.filter(({ type }) => type === 'reset').map(({ data }) => data['reason']);
    expect(reasons).to.deep.equal(Math.max(...client.seen.keys()) > last ? ['ahead'] : []);
    client.leave();

    await server.pool.query('select outbox_new_epoch()');
    await waitFor(async () => (await epochOf(server)) === restarted.hub.history.epoch, {
      what: 'the instance to follow',
    });
    await expectReset(server, restarted, other, 'epoch');
  });

  it('restored by a logical copy within the cluster: its tables were made anew, so a new epoch', async () => {
    await publish(server, 'before', 3);
    const service = await serve(server.url);
    const client = new ReturningClient(TOKEN);
    const connection = await client.connect(service);
    // What pg_dump and pg_restore carry over: the rows of both tables and the place of the sequence.
    const epoch = await epochOf(server);
    const meta = await scalar<string>(server.pool, 'select to_jsonb(m)::text from outbox_meta m');
    const last = await scalar<number>(server.pool, 'select last_value from outbox_id_seq');
    await publish(server, 'lost', 2);
    await connection.received(2);
    client.note();
    await service.stop();
    await server.pool.query('create database restored');
    const url = new URL(server.url);
    url.pathname = '/restored';
    await migrate({ connectionString: url.href, set: 'all' });
    await grantService(url.href);
    const pool = createPool(url.href, { max: 4 });
    closing.push(() => pool.end());
    await pool.query('delete from outbox_meta');
    await pool.query(
      'insert into outbox_meta select (jsonb_populate_record(null::outbox_meta, $1::jsonb)).*',
      [meta],
    );
    await pool.query("select setval('outbox_id_seq', $1)", [last]);
    await publish({ pool }, 'other', 4);
    const restarted = await serve(url.href);
    expect(await epochOf({ pool })).to.not.equal(epoch);
    await expectReset({ pool }, restarted, client, 'epoch');
  });

  it('set back under a live connection: the relay sees the sequence behind its cursor', async () => {
    const service = await serve(server.url);
    const client = new ReturningClient(TOKEN);
    const connection = await client.connect(service);
    const [kept = 0] = await publish(server, 'before', 1);
    await publish(server, 'lost', 4);
    await connection.received(5);
    client.note();
    const epoch = await epochOf(server);
    const writer = await server.pool.connect();
    await writer.query(`begin; delete from outbox where id > ${kept}`);
    await writer.query("select setval('outbox_id_seq', $1)", [kept]);
    await writer.query('commit');
    writer.release();
    await untilEpochIsNot(server, epoch);
    await untilReady(service);
    await connection.untilEnded();
    await expectReset(server, service, client, 'epoch');
  });

  it('set back to an earlier epoch, or replaced by a database made from scratch: an epoch that begins too low is replaced', async () => {
    const service = await serve(server.url);
    const client = new ReturningClient(TOKEN);
    const connection = await client.connect(service);
    await publish(server, 'before', 3);
    await connection.received(3);
    client.note();
    const other = await scalar<string>(
      server.pool,
      'update outbox_meta set epoch = gen_random_uuid() returning epoch',
    );
    await untilEpochIsNot(server, other);
    // The database shows the new epoch a moment before the instance follows it and sends everybody away.
    await connection.untilEnded();
    await untilReady(service);
    await expectReset(server, service, client, 'epoch');
  });

  it('replaced by a standby that lacks the last commits: an instance that stays finds the new timeline as it reconnects', async () => {
    const primary = server;
    const standby = await startStandby(primary, directory);
    second = standby;
    const address = await MovableAddress.of(primary.url);
    closing.push(() => address.close());
    const service = await serve(address.url);
    const client = new ReturningClient(TOKEN);
    const connection = await client.connect(service);
    const replicated = await publish(primary, 'before', 3);
    await waitFor(async () => (await lastOf(standby)) === replicated.at(-1), {
      what: 'replication',
    });
    // The link breaks, and the primary goes on for a while.
    await standby.pool.query("alter system set primary_conninfo = ''");
    await standby.pool.query('select pg_reload_conf()');
    await waitFor(
      async () => (await scalar(standby.pool, 'select count(*) from pg_stat_wal_receiver')) === 0,
      {
        what: 'the end of replication',
      },
    );
    const lost = await publish(primary, 'lost', 5);
    await connection.received(8);
    client.note();
    const epoch = await epochOf(primary);
    address.moveTo(standby.url);
    await primary.kill();
    await standby.pool.query('select pg_promote()');
    expect(await lastOf(standby)).to.equal(replicated.at(-1));
    await publish(standby, 'other', 8);
    await connection.untilEnded();
    await untilEpochIsNot(standby, epoch);
    await untilReady(service);
    expect(Math.max(...lost)).to.be.below(
      await scalar<number>(standby.pool, 'select first_id from outbox_meta'),
    );
    await expectReset(standby, service, client, 'epoch');
  });
});
