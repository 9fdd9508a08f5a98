import { access, readFile } from 'node:fs/promises';
import { expect } from 'chai';

const read = (path: string): Promise<string> => readFile(path, 'utf8');

describe('the files for deploying', () => {
  it('the image is made of files that there are, runs as nobody in particular, and is alive by /healthz', async () => {
    const file = await read('Dockerfile');
    const copied = [...file.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, list = '']) =>
      list.split(' '),
    );
    expect(copied).to.include('package-lock.json');
    for (const path of copied) await access(path);
    const last = file.slice(file.lastIndexOf('\nFROM'));
    for (const [, path = ''] of last.matchAll(/^COPY --from=build \/build\/(\S+)/gm))
      if (!['dist', 'node_modules'].includes(path)) await access(path);
    expect(last)
      .to.match(/\nUSER node\n/)
      .and.match(/\nHEALTHCHECK [^\n]*\/healthz/)
      .and.match(/\nCMD \["serve"\]\n/);
    expect(JSON.parse(await read('package.json')).bin.settlewire, 'its entry point').to.equal(
      /ENTRYPOINT \["node", "(.*)"\]/.exec(last)?.[1],
    );
    // What the program reads at run time is in the image.
    for (const needed of ['migrations', 'package.json']) expect(last).to.include(`/build/${needed} `);
  });

  it('compose, nginx, systemd and Kubernetes give a stop more time than DRAIN_SECONDS takes', async () => {
    const [, drain = ''] = /`DRAIN_SECONDS` \| `(\d+)`/.exec(await read('docs/configuration.md')) ?? [];
    const graces = [
      /stop_grace_period: (\d+)s/.exec(await read('compose.yaml')),
      /TimeoutStopSec=(\d+)/.exec(await read('deploy/settlewire.service')),
      /terminationGracePeriodSeconds: (\d+)/.exec(await read('docs/deploying.md')),
    ];
    for (const grace of graces) expect(Number(grace?.[1])).to.be.at.least(Number(drain) + 10);
    const [, heartbeat = ''] =
      /`HEARTBEAT_SECONDS` \| `(\d+)`/.exec(await read('docs/configuration.md')) ?? [];
    const [, idle = ''] = /proxy_read_timeout (\d+)s;/.exec(await read('deploy/nginx.conf')) ?? [];
    expect(Number(idle)).to.be.above(2 * Number(heartbeat));
  });

  it('compose and systemd give as many files as the default limits take, and start everything again', async () => {
    const settings = await read('docs/configuration.md');
    const limit = (name: string): number =>
      Number(new RegExp(`\\| \`${name}\` \\| \`(\\d+)\``).exec(settings)?.[1]);
    const needed = limit('MAX_CONNECTIONS') + limit('MAX_OTHER_CONNECTIONS') + 100;
    const compose = await read('compose.yaml');
    const unit = await read('deploy/settlewire.service');
    expect(needed).to.be.above(100);
    // An engine's own limit is higher, and a container that asks for more than it has does not start.
    expect(compose).to.not.match(/nofile/);
    expect(Number(/LimitNOFILE=(\d+)/.exec(unit)?.[1])).to.be.at.least(needed);
    expect(compose.match(/restart: unless-stopped/g)).to.have.length(3);
    expect(unit)
      .to.match(/\nRestart=always\n/)
      .and.match(/\nStartLimitIntervalSec=0\n/);
  });

  it('Kubernetes asks the right question for each probe', async () => {
    const page = await read('docs/deploying.md');
    expect(page)
      .to.match(/livenessProbe: +\{ httpGet: \{ path: \/healthz,/)
      .and.match(/readinessProbe: +\{ httpGet: \{ path: \/readyz,/);
  });
});
