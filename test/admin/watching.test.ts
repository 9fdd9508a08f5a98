import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { needPrograms } from '../support/programs.ts';
import { startService } from '../support/service.ts';

/** Every name of a metric in a text. */
const namesIn = (text: string): Set<string> =>
  new Set(text.match(/\b(settlewire|nodejs|process)_[a-z0-9_]+/g));

describe('what is watched', () => {
  let database: TestDatabase;
  let exported: Set<string>;
  /** What can be asked for: of a histogram its endings. */
  let series: Set<string>;
  let reasons: Set<string>;

  before(async () => {
    database = await createTestDatabase();
    const service = await startService(database.url, {
      JWKS_URL: 'http://127.0.0.1:1/jwks',
      SIGNING_SECRET: 's'.repeat(32),
      REPLAY_DATABASE_URL: database.url,
    });
    try {
      const text = await (await fetch(`${service.adminUrl}/metrics`)).text();
      const types = [...text.matchAll(/^# TYPE (\w+) (\w+)/gm)];
      exported = new Set(types.map(([, name = '']) => name));
      series = new Set(
        types.flatMap(([, name = '', type]) =>
          type === 'histogram' ? ['_bucket', '_sum', '_count'].map((ending) => name + ending) : [name],
        ),
      );
    } finally {
      await service.stop();
    }
    const protocol = await readFile('docs/protocol.md', 'utf8');
    reasons = new Set([...protocol.matchAll(/^\| `(\w+)` \|/gm)].map(([, reason = '']) => reason));
  });

  after(() => database?.drop());

  for (const path of ['deploy/alerts.yaml', 'deploy/grafana.json']) {
    it(`${path} has only metrics that there are, and reasons that the protocol knows`, async () => {
      const text = await readFile(path, 'utf8');
      const names = namesIn(text);
      expect(names.size).to.be.above(8);
      for (const name of names) expect(series.has(name), name).to.equal(true);
      for (const [, list = ''] of text.matchAll(/reason(?:=~|=|!=)\\?"([\w|]+)\\?"/g))
        for (const reason of list.split('|'))
          if (reason !== 'slow_consumer') expect(reasons.has(reason), reason).to.equal(true);
    });
  }

  it('docs/operations.md has every metric of ours, and none that there is not', async () => {
    const documented = namesIn((await readFile('docs/operations.md', 'utf8')).split('## Metrics')[1] ?? '');
    const ours = [...exported].filter((name) => name.startsWith('settlewire_'));
    for (const name of ours) expect(documented.has(name), `${name} is documented`).to.equal(true);
    for (const name of documented) expect(exported.has(name), `${name} exists`).to.equal(true);
  });

  it('the dashboard is one, with every panel in a place of its own', async () => {
    const { panels, uid } = JSON.parse(await readFile('deploy/grafana.json', 'utf8')) as {
      uid: string;
      panels: { id: number; gridPos: { x: number; y: number }; targets: { expr: string }[] }[];
    };
    expect(uid).to.equal('settlewire');
    expect(new Set(panels.map(({ id }) => id)).size).to.equal(panels.length);
    expect(new Set(panels.map(({ gridPos: { x, y } }) => `${x} ${y}`)).size).to.equal(panels.length);
    for (const { targets } of panels)
      for (const { expr } of targets) expect(expr.split('(').length, expr).to.equal(expr.split(')').length);
  });

  it('each rule is tried, firing and quiet', async () => {
    const rules = [...(await readFile('deploy/alerts.yaml', 'utf8')).matchAll(/alert: (\w+)/g)];
    const tried = await readFile('test/deploy/alerts.yaml', 'utf8');
    for (const [, name = ''] of rules)
      expect(tried.split(new RegExp(`alertname: ${name}\\b`)).length, name).to.be.at.least(3);
  });

  describe('as Prometheus takes it', () => {
    const promtool = (...args: string[]): string => execFileSync('promtool', args, { encoding: 'utf8' });

    before(function () {
      needPrograms(this, 'promtool');
    });

    it('the rules are rules', () => {
      expect(promtool('check', 'rules', 'deploy/alerts.yaml')).to.match(/SUCCESS: \d+ rules found/);
    });

    it('each rule fires when it should, says what to do, and is quiet when all is well', () => {
      expect(promtool('test', 'rules', 'test/deploy/alerts.yaml')).to.match(/SUCCESS/);
    });

    it('the configuration in docs/operations.md is one', async () => {
      const page = await readFile('docs/operations.md', 'utf8');
      const [, text = ''] = /```yaml\n(rule_files[\s\S]*?)```/.exec(page) ?? [];
      const dir = await mkdtemp(join(tmpdir(), 'settlewire-prometheus-'));
      try {
        await writeFile(join(dir, 'prometheus.yaml'), text);
        expect(promtool('check', 'config', '--syntax-only', join(dir, 'prometheus.yaml'))).to.match(
          /SUCCESS/,
        );
      } finally {
        await rm(dir, { recursive: true });
      }
    });

    it('each query of the dashboard is one', async () => {
      const { panels } = JSON.parse(await readFile('deploy/grafana.json', 'utf8')) as {
        panels: { targets: { expr: string }[] }[];
      };
      const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
      const rules = queries.map((expr, index) => ({
        record: `query:${index}`,
        expr: expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m'),
      }));
      const dir = await mkdtemp(join(tmpdir(), 'settlewire-rules-'));
      try {
        // YAML takes JSON.
        await writeFile(join(dir, 'rules.yaml'), JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
        expect(promtool('check', 'rules', join(dir, 'rules.yaml'))).to.match(
          new RegExp(`SUCCESS: ${queries.length} rules found`),
        );
      } finally {
        await rm(dir, { recursive: true });
      }
    });
  });
});
