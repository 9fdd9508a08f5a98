import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { expect } from 'chai';
import { outdated } from '../../scripts/docs-events.ts';
import { playExamples } from '../../scripts/event-examples.ts';
import { EVENTS, schemaName } from '../../src/contract/schemas.ts';
import { startMarket } from '../../src/demo/market.ts';
import { seedDemo } from '../../src/demo/seed.ts';
import { EVENT_TYPES, type EventType } from '../../src/outbox/catalogue.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait-for.ts';

/** What the catalogue says of the data of this type, applied to data; the errors. */
function validator(): (type: EventType, data: unknown) => string {
  const ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true });
  addFormats.default(ajv);
  return (type, data) => {
    const validate = ajv.compile(EVENTS[schemaName(type)] ?? false);
    return validate(data) ? '' : `${type}: ${ajv.errorsText(validate.errors)}`;
  };
}

describe('events and what is said of them', () => {
  let database: TestDatabase;
  const complaint = validator();

  beforeEach(async () => {
    database = await createTestDatabase();
  });
  afterEach(() => database.drop());

  it('docs/protocol.md and src/contract/examples.ts have one of each type, as the triggers write it', async () => {
    const examples = await playExamples(database.pool);
    expect(await outdated(examples), 'out of date: npm run docs:events').to.deep.equal([]);
    for (const { type, topic, data } of examples) {
      expect(complaint(type, JSON.parse(data))).to.equal('');
      expect(EVENT_TYPES[type].topics.map((it) => it.split(':')[0])).to.include(topic.split(':')[0]);
    }
  });

  it('a market writes nothing but what the catalogue describes, field by field', async () => {
    await seedDemo(database.pool);
    const market = startMarket({ pool: database.pool, intervalMs: 5, log: { info() {}, warn() {} } });
    const types = async (): Promise<string[]> =>
      (await database.pool.query<{ type: string }>('select distinct type from outbox')).rows.map(
        ({ type }) => type,
      );
    await waitFor(
      async () => {
        const { rows } = await database.pool.query('select count(*)::int as n from outbox');
        return rows[0].n > 400 && (await types()).length >= Object.keys(EVENT_TYPES).length - 1;
      },
      { what: 'a busy market', timeoutMs: 20_000 },
    );
    await market.stop();
    const { rows } = await database.pool.query<{ type: EventType; topic: string; data: unknown }>(
      'select type, topic, data from outbox',
    );
    for (const { type, topic, data } of rows) {
      expect(complaint(type, data)).to.equal('');
      expect(EVENT_TYPES[type].topics.some((it) => topic.startsWith(it.slice(0, it.indexOf('{'))))).to.equal(
        true,
      );
    }
  });

  it('another field, a missing one, a float or a sentence would be noticed', async () => {
    const [example] = await playExamples(database.pool);
    const data = JSON.parse(example?.data ?? '{}');
    const { endTime: _, ...less } = data;
    for (const wrong of [
      { ...data, memo: 'for Alice' },
      less,
      { ...data, totalAmount: 5000 },
      { ...data, status: 'lost' },
      { ...data, streamId: 'Alice' },
      { ...data, updatedAt: 'yesterday' },
    ])
      expect(complaint('stream:updated', wrong)).not.to.equal('');
  });
});
