/*
 * What is made of the catalogue and of real events: the section "Events" of docs/protocol.md and src/contract/examples.ts.
 * `npm run docs:events` writes them; with `-- --check` they are compared, and a difference fails. test/contract/ checks as well.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { EVENT_TYPES } from '../src/outbox/catalogue.ts';
import type { Field } from '../src/outbox/field.ts';
import { createTestDatabase, startTestServer, stopTestServer } from '../test/support/database.ts';
import { type Example, playExamples } from './event-examples.ts';

const PROTOCOL = fileURLToPath(new URL('../docs/protocol.md', import.meta.url));
const EXAMPLES = fileURLToPath(new URL('../src/contract/examples.ts', import.meta.url));
const [BEGIN, END] = ['<!-- events: made by npm run docs:events -->', '<!-- end of events -->'];

/** The files that are made of the examples, by path, as they should be. */
export async function render(examples: readonly Example[]): Promise<Record<string, string>> {
  const page = await readFile(PROTOCOL, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('docs/protocol.md has lost its markers');
  const section = `${BEGIN}\n\n${overview()}\n\n${examples.map(chapter).join('\n\n')}\n\n`;
  return {
    [PROTOCOL]: page.slice(0, begin) + section + page.slice(end),
    [EXAMPLES]: `/* One real event of each type. Made by npm run docs:events: what triggers wrote, not what somebody thought of. */
import type { EventData, EventType } from '../outbox/catalogue.ts';

export const EXAMPLES: { readonly [Type in EventType]: { id: number; topic: string; data: EventData<Type> } } = {
${examples.map(({ id, topic, type, data }) => `  '${type}': { id: ${id}, topic: '${topic}', data: ${data} },\n`).join('')}};
`,
  };
}

function overview(): string {
  const rows = Object.entries(EVENT_TYPES).map(
    ([type, { topics, when }]) =>
      `| [\`${type}\`](#${type.replaceAll(':', '')}) | ${topics.map((topic) => `\`${topic}\``).join(' or ')} | ${when} |`,
  );
  return ['| type | topic | when |', '| --- | --- | --- |', ...rows].join('\n');
}

function chapter({ id, type, data }: Example): string {
  const fields: Readonly<Record<string, Field<unknown>>> = EVENT_TYPES[type].data;
  const rows = Object.entries(fields).map(([key, field]) => `| \`${key}\` | ${inWords(field)} |`);
  const block = ['```', `event: ${type}`, `data: ${data}`, `id: ${id}`, '```'];
  return [`### ${type}`, '', '| field | |', '| --- | --- |', ...rows, '', ...block].join('\n');
}

function inWords({ schema }: Field<unknown>): string {
  const { enum: values, format, pattern = '', type } = schema;
  const what = values
    ? values.flatMap((value) => (value === null ? [] : [`\`${value}\``])).join(', ')
    : format === 'uuid'
      ? 'uuid'
      : format === 'date-time'
        ? 'time'
        : pattern.includes('stream|escrow')
          ? 'a topic'
          : pattern.includes('A-Z')
            ? 'text, a code'
            : 'amount';
  return Array.isArray(type) ? `${what} or null` : what;
}

/** The files that are not what they should be. */
export async function outdated(examples: readonly Example[]): Promise<string[]> {
  const made = Object.entries(await render(examples));
  const same = await Promise.all(made.map(async ([path, text]) => (await readFile(path, 'utf8')) === text));
  return made.flatMap(([path], index) => (same[index] === true ? [] : [path]));
}

async function main(): Promise<void> {
  await startTestServer();
  try {
    const database = await createTestDatabase();
    const examples = await playExamples(database.pool);
    await database.drop();
    if (process.argv.includes('--check')) {
      const paths = await outdated(examples);
      if (paths.length === 0) return console.log('the events are documented as they are');
      console.error(`not as the triggers have it: ${paths.join(', ')}; npm run docs:events`);
      process.exitCode = 1;
      return;
    }
    for (const [path, text] of Object.entries(await render(examples))) await writeFile(path, text);
  } finally {
    await stopTestServer();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
