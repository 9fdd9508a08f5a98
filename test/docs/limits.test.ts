import { existsSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { parseConfig } from '../../src/config.ts';
import { Stage } from '../support/stage.ts';

interface Row {
  readonly variable: string;
  readonly fallback: string;
  readonly metrics: readonly string[];
  readonly test: { readonly file: string; readonly title: string };
}

const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
const section = page.slice(page.indexOf('\n## Limits\n'), page.indexOf('\n## Metrics\n'));
const rows: Row[] = section
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => {
    const [variable = '', fallback = '', metrics = '', , test = ''] = line.split(' | ');
    const [, file = '', title = ''] = /^`([^`]+)`: (.+?) \|$/.exec(test) ?? [];
    return {
      variable: variable.replaceAll(/[|` ]/g, ''),
      fallback,
      metrics: [...metrics.matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
      test: { file, title },
    };
  });

describe('docs/operations.md: limits', () => {
  it('are at least those of the design, each with the default that it says', () => {
    const config: Record<string, unknown> = parseConfig({});
    const key = (variable: string): string =>
      variable.toLowerCase().replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    expect(rows.map(({ variable }) => variable)).to.include.members([
      ...['MAX_CONNECTIONS', 'MAX_CONNECTIONS_PER_ACTOR', 'MAX_TOPICS_PER_CONNECTION', 'STALL_SECONDS'],
      ...['MAX_CONNECTION_AGE_SECONDS', 'CONNECT_RATE_PER_MINUTE', 'AUTH_FAILURES_PER_MINUTE'],
      ...['SUBSCRIBER_BUFFER_BYTES', 'REPLAY_CONCURRENCY', 'MAX_BODY_BYTES'],
    ]);
    for (const { variable, fallback } of rows)
      expect(String(config[key(variable)]), variable).to.equal(fallback);
  });

  it('each have a metric that is there', async () => {
    const stage = await Stage.open();
    const text = await (await fetch(`${stage.service.adminUrl}/metrics`)).text();
    await stage.close();
    for (const { variable, metrics } of rows) {
      expect(metrics, variable).not.to.have.length(0);
      for (const name of metrics) expect(text, variable).to.contain(`# HELP ${name} `);
    }
  });

  it('each have a test of the name that it says', () => {
    for (const { variable, test } of rows) {
      const file = new URL(`../${test.file}.test.ts`, import.meta.url);
      expect(existsSync(file), `${variable}: ${file.pathname}`).to.equal(true);
      expect(readFileSync(file, 'utf8'), variable).to.contain(test.title);
    }
  });
});
