import { Parser } from '@asyncapi/parser';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect } from 'chai';
import { asyncApi } from '../../src/contract/asyncapi.ts';
import { openApi } from '../../src/contract/openapi.ts';
import { CONTROL, DISCONNECTS, RESETS } from '../../src/contract/schemas.ts';
import { PROBLEMS } from '../../src/http/problems.ts';
import { EVENT_TYPES } from '../../src/outbox/catalogue.ts';
import { Stage } from '../support/stage.ts';
import { routesOf } from './routes-of.ts';

type Json = Record<string, Record<string, Record<string, Record<string, never>>>>;

describe('the documents of the contract', () => {
  it('OpenAPI: its parser has nothing to say against it', async () => {
    const { valid, errors } = await new Validator().validate(structuredClone({ ...openApi('1.2.3') }));
    expect(errors).to.equal(undefined);
    expect(valid).to.equal(true);
  });

  it('AsyncAPI: its parser finds no error, and every message', async () => {
    const { document, diagnostics } = await new Parser().parse(JSON.stringify(asyncApi('1.2.3')));
    // What is left is advice: to move to a later version, and so on.
    expect(diagnostics.filter(({ severity }) => severity < 2).map(({ message }) => message)).to.deep.equal(
      [],
    );
    const messages = document?.channels().get('events')?.messages().all() ?? [];
    expect(messages.map((message) => message.name())).to.have.members([
      ...Object.keys(EVENT_TYPES),
      'session',
      'caught-up',
      'cursor',
      'reset',
      'disconnect',
    ]);
  });

  it('have every route of the app, and no other', () => {
    const { paths } = openApi('1.2.3') as { paths: Record<string, object> };
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods)
        .filter((key) => key !== 'parameters')
        .map((method) => `${method} ${path}`),
    );
    expect(documented).to.have.members(routesOf());
  });

  it('have every error code, each where it can be met and with its own status', () => {
    const { paths, components } = openApi('1.2.3') as unknown as { paths: Json; components: Json };
    const answers = [
      ...Object.values(paths).flatMap((methods) =>
        Object.values(methods).flatMap(({ responses = {} }) => Object.entries(responses)),
      ),
      ...Object.values(components['responses'] ?? {}).map((answer) => ['', answer] as const),
    ];
    const met = new Set<string>();
    for (const [status, answer] of answers) {
      const { schema } = (answer as Json)['content']?.['application/problem+json'] ?? {};
      const codes: (keyof typeof PROBLEMS)[] =
        (schema as unknown as Json)?.['allOf']?.[1]?.['properties']?.['code']?.['enum'] ?? [];
      for (const code of codes) {
        met.add(code);
        if (status !== '') expect(`${code} ${status}`).to.equal(`${code} ${PROBLEMS[code][0]}`);
      }
    }
    expect([...met]).to.have.members(Object.keys(PROBLEMS));
  });

  it('have every reason for a disconnect or a reset', () => {
    const reasons = (name: string): unknown =>
      (CONTROL[name] as unknown as Json)['properties']?.['reason']?.['enum'];
    expect(reasons('Disconnect')).to.deep.equal(Object.keys(DISCONNECTS));
    expect(reasons('Reset')).to.deep.equal(Object.keys(RESETS));
  });

  describe('as served', () => {
    let stage: Stage;
    before(async () => {
      stage = await Stage.open();
    });
    after(() => stage.close());

    for (const [path, key] of [
      ['/openapi.json', 'openapi'],
      ['/asyncapi.json', 'asyncapi'],
    ] as const) {
      it(`${path} is for everybody, and says which version it is of`, async () => {
        const { status, headers, body } = await stage.send('GET', path);
        expect(status).to.equal(200);
        expect(headers['content-type']).to.equal('application/json; charset=utf-8');
        const document = JSON.parse(body);
        expect(document).to.have.property(key);
        expect(document.info.version).to.match(/^\d+\.\d+\.\d+/);
        expect((await stage.send('POST', path)).headers['allow']).to.equal('GET, HEAD');
      });
    }
  });
});
