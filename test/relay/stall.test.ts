import { Writable } from 'node:stream';
import { expect } from 'chai';
import { pino } from 'pino';
import { append, openSession } from '../support/session.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';

const GAUGE = 'settlewire_horizon_stall_seconds';

describe('a writer that holds back every reader', () => {
  let stage: Stage;
  const lines: string[] = [];

  before(async () => {
    const sink = new Writable({
      write(line, _encoding, done) {
        lines.push(String(line));
        done();
      },
    });
    stage = await Stage.open({ STALL_ALERT_SECONDS: '0.1' }, { log: pino(sink) });
  });

  after(() => stage.close());

  /** The gauge's lines: one for each writer. */
  async function stalls(): Promise<string[]> {
    const text = await (await fetch(`${stage.service.adminUrl}/metrics`)).text();
    return text.split('\n').filter((line) => line.startsWith(GAUGE));
  }

  it('is named by its pid in the log and in the metrics, for as long as it holds them', async () => {
    expect(await stalls(), 'while nobody writes').to.deep.equal([]);
    const writer = await openSession(stage.pool);
    try {
      await writer.query("set application_name = 'forgotten console'");
      await writer.query('begin');
      await append(writer);
      // Rings, so that a relay that sleeps notices who is in flight.
      await append(stage.pool);
      await waitFor(async () => (await stalls()).length > 0, { what: 'the stall to be in the metrics' });
      const [line = ''] = await stalls();
      expect(line).to.contain(`pid="${writer.pid}"`).and.to.contain('application="forgotten console"');
      expect(Number(line.split(' ').at(-1))).to.be.at.least(0.1);
      const warning = lines.find((text) => text.includes('a writer holds back every reader'));
      expect(JSON.parse(warning ?? '{}').holders).to.deep.equal([
        { pid: writer.pid, applicationName: 'forgotten console' },
      ]);
      await waitFor(() => lines.filter((text) => text.includes('holds back every reader')).length > 1, {
        what: 'the alert to be repeated',
      });
      await writer.query('commit');
      await stage.settled();
      await waitFor(async () => (await stalls()).length === 0, { what: 'the stall to be over' });
    } finally {
      writer.end();
    }
  });
});
