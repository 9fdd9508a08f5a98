import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import express from 'express';
import request from 'supertest';
import { dashboardRoutes } from '../src/dashboard/dashboard.ts';

const PAGE = new URL('../src/dashboard/page/', import.meta.url);

describe('dashboard routes', () => {
  const app = express().use(dashboardRoutes());

  it('serve the page at the root, to be checked on every visit', async () => {
    const response = await request(app).get('/').expect(200);
    expect(response.headers['content-type']).to.equal('text/html; charset=utf-8');
    expect(response.headers['cache-control']).to.equal('no-cache');
    expect(response.text).to.contain('<title>settlewire</title>');
  });

  for (const [path, type] of [
    ['/assets/app.js', 'text/javascript; charset=utf-8'],
    ['/assets/style.css', 'text/css; charset=utf-8'],
    ['/assets/icon.svg', 'image/svg+xml'],
    ['/assets/uPlot.esm.js', 'text/javascript; charset=utf-8'],
    ['/assets/uPlot.min.css', 'text/css; charset=utf-8'],
  ] as const) {
    it(`serve ${path} as ${type}`, async () => {
      const response = await request(app).get(path).expect(200);
      expect(response.headers['content-type']).to.equal(type);
      expect(response.headers['cache-control']).to.equal('no-cache');
    });
  }

  it('answer an unchanged file with 304', async () => {
    const first = await request(app).get('/assets/app.js');
    await request(app)
      .get('/assets/app.js')
      .set('If-Modified-Since', String(first.headers['last-modified']))
      .expect(304);
  });

  it('serve every file that the page and its modules ask for', async () => {
    const names = (await readdir(PAGE)).filter((it) => /\.(html|js)$/.test(it));
    const texts = await Promise.all(names.map((it) => readFile(new URL(it, PAGE), 'utf8')));
    const wanted = texts.flatMap((text) => [
      ...[...text.matchAll(/from '\.\/([^']+)'/g)].map((it) => it[1]),
      ...[...text.matchAll(/(?:src|href)="assets\/([^"]+)"/g)].map((it) => it[1]),
    ]);
    expect(wanted).to.include.members(['app.js', 'style.css', 'uPlot.esm.js', 'sync.js']);
    for (const name of new Set(wanted)) await request(app).get(`/assets/${name}`).expect(200);
  });

  it('leave what they do not have to the routes after them', async () => {
    await request(app).get('/assets/nothing.js').expect(404);
    await request(app).get('/assets/../dashboard.ts').expect(404);
    await request(app).get('/assets/%2e%2e/dashboard.ts').expect(404);
    await request(app).get('/assets/').expect(404);
  });

  it('serve a page that a strict content security policy lets run: nothing inline', async () => {
    const { text } = await request(app).get('/');
    expect(text).to.not.match(/<script(?![^>]*\ssrc=)/);
    expect(text).to.not.match(/<style|\sstyle=|\son[a-z]+=|https?:\/\//);
  });

  it('serve modules that never read data as markup', async () => {
    for (const name of (await readdir(PAGE)).filter((it) => it.endsWith('.js')))
      expect(await readFile(new URL(name, PAGE), 'utf8'), name).to.not.match(
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/,
      );
  });
});
