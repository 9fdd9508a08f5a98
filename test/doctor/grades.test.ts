import { expect } from 'chai';
import { type Finding, fail, ok, warn, worst } from '../../src/doctor/finding.ts';
import { gradeOpenFiles } from '../../src/doctor/machine.ts';
import { gradePartitions } from '../../src/doctor/outbox.ts';
import { gradeClock, gradeNotifyQueue, gradeRoom, gradeVersion } from '../../src/doctor/server.ts';
import { gradeSettings, SETTING_NAMES } from '../../src/doctor/settings.ts';

/** A server that nothing is wrong with. */
const WELL = {
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  synchronous_standby_names: '',
  idle_in_transaction_session_timeout: '60000',
  idle_session_timeout: '0',
  statement_timeout: '0',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  session_replication_role: 'origin',
  autovacuum: 'on',
  track_commit_timestamp: 'off',
  server_encoding: 'UTF8',
};

describe('what the doctor makes of what it finds', () => {
  it('is as bad as the worst finding', () => {
    const [good, bad, broken] = [ok('a', 'b'), warn('a', 'b', 'c'), fail('a', 'b', 'c')];
    expect(worst([])).to.equal('ok');
    expect(worst([good, good])).to.equal('ok');
    expect(worst([good, bad, good])).to.equal('warn');
    expect(worst([bad, broken, good])).to.equal('fail');
  });

  describe('settings', () => {
    it('none that hurts: one line', () => {
      expect(Object.keys(WELL)).to.have.members([...SETTING_NAMES]);
      expect(gradeSettings(WELL)).to.deep.equal([ok('settings', '13 were looked at, none hurts')]);
      expect(gradeSettings({}), 'a server that has none of them').to.have.length(1);
    });

    const hurting: [Record<string, string>, Finding['grade']][] = [
      [{ fsync: 'off' }, 'fail'],
      [{ full_page_writes: 'off' }, 'warn'],
      [{ synchronous_commit: 'off' }, 'warn'],
      [{ synchronous_standby_names: 'ANY 1 (a, b)' }, 'warn'],
      [{ idle_in_transaction_session_timeout: '0' }, 'warn'],
      [{ idle_session_timeout: '600000' }, 'warn'],
      [{ statement_timeout: '4999' }, 'warn'],
      [{ default_transaction_isolation: 'repeatable read' }, 'fail'],
      [{ default_transaction_read_only: 'on' }, 'fail'],
      [{ session_replication_role: 'replica' }, 'fail'],
      [{ autovacuum: 'off' }, 'warn'],
      [{ track_commit_timestamp: 'on' }, 'warn'],
      [{ server_encoding: 'SQL_ASCII' }, 'warn'],
    ];
    for (const [change, grade] of hurting) {
      const [name = ''] = Object.keys(change);
      it(`${name} = ${change[name]}: ${grade}, with its name and what to do`, () => {
        const findings = gradeSettings({ ...WELL, ...change });
        expect(findings).to.have.length(1);
        expect(findings[0]).to.include({ check: 'setting', grade });
        expect(findings[0]?.says).to.match(new RegExp(`^${name} `));
        expect(findings[0]?.advice).to.have.length.above(10);
      });
    }

    it('long time-outs, and standbys that no commit waits for, hurt nobody', () => {
      for (const change of [
        { statement_timeout: '5000' },
        { synchronous_standby_names: 'a', synchronous_commit: 'local' },
      ])
        expect(gradeSettings({ ...WELL, ...change })[0]?.grade).to.equal('ok');
    });
  });

  const grade = (finding: Finding | undefined): string | undefined => finding?.grade;

  it('a version: too old fails, newer than tested warns', () => {
    expect(
      [140_012, 150_000, 180_004, 190_000].map((number) => grade(gradeVersion(number, 'x'))),
    ).to.deep.equal(['fail', 'ok', 'ok', 'warn']);
  });

  it('a clock: by what is sure of the difference, either way', () => {
    const skews: [number, number, string][] = [
      [0, 10, 'ok'],
      [900, 0, 'ok'],
      [1001, 0, 'warn'],
      [-1001, 0, 'warn'],
      [1500, 600, 'ok'],
      [5001, 0, 'fail'],
      [-6000, 500, 'fail'],
    ];
    for (const [skew, uncertainty, expected] of skews)
      expect(grade(gradeClock(skew, uncertainty)), `${skew} ± ${uncertainty}`).to.equal(expected);
    for (const skew of [0, 1, -9.9]) expect(gradeClock(skew, 0).says).to.equal("agrees with the database's");
    expect(gradeClock(-10, 0).says).to.match(/ 0\.010 s behind the database's/);
    expect(gradeClock(-6000, 0).says).to.match(/^this machine's clock is 6\.000 s behind the database's/);
    expect(gradeClock(6000, 0).says).to.match(/ 6\.000 s ahead of the database's/);
  });

  it('connections: room for one instance, and for two in a rolling restart', () => {
    const one = { workers: 1, poolSize: 8 };
    expect([90, 80, 75].map((used) => grade(gradeRoom(used, 97, one)))).to.deep.equal(['fail', 'warn', 'ok']);
    expect(grade(gradeRoom(87, 97, one))).to.equal('warn');
    expect(grade(gradeRoom(77, 97, one))).to.equal('ok');
    const three = { workers: 3, poolSize: 8 };
    expect([67, 66, 36, 35].map((used) => grade(gradeRoom(used, 97, three)))).to.deep.equal([
      'fail',
      'warn',
      'warn',
      'ok',
    ]);
    expect(gradeRoom(0, 97, three).says).to.contain(
      'takes 31 (3 WORKERS, each 2 and DATABASE_POOL_SIZE, and 1)',
    );
  });

  it('the notification queue: a twentieth is much, a half is too much', () => {
    expect([0, 0.05, 0.051, 0.51].map((usage) => grade(gradeNotifyQueue(usage)))).to.deep.equal([
      'ok',
      'ok',
      'warn',
      'fail',
    ]);
  });

  it('partitions: none left fails, none ahead warns', () => {
    const partitions = { width: 100, end: 1000, strays: 0 };
    const grades = (lastId: number) => grade(gradePartitions({ ...partitions, lastId })[0]);
    expect([899, 900, 998, 999, 5000].map(grades)).to.deep.equal(['ok', 'warn', 'warn', 'fail', 'fail']);
    expect(gradePartitions({ ...partitions, lastId: 1, strays: 1000 })[1]?.says).to.match(
      /^holds 1000 or more events/,
    );
  });

  it('open files: one for each client and some to spare; says nothing where the system does not', () => {
    const limits = (hard: string) =>
      `Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 ${hard}               files\n`;
    expect(grade(gradeOpenFiles(limits('10099'), 10_000)[0])).to.equal('warn');
    expect(grade(gradeOpenFiles(limits('10100'), 10_000)[0])).to.equal('ok');
    expect(grade(gradeOpenFiles(limits('unlimited'), 10_000)[0])).to.equal('ok');
    expect(gradeOpenFiles('', 10_000)).to.deep.equal([]);
  });
});
