import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import jwt from 'jsonwebtoken';

/** A key pair of an issuer. */
export class IssuerKey {
  readonly #private: KeyObject;
  readonly #public: KeyObject;

  private constructor(
    readonly algorithm: jwt.Algorithm,
    readonly kid: string | undefined,
    pair: { privateKey: KeyObject; publicKey: KeyObject },
  ) {
    this.#private = pair.privateKey;
    this.#public = pair.publicKey;
  }

  static rsa(kid?: string, modulusLength = 2048): IssuerKey {
    return new IssuerKey('RS256', kid, generateKeyPairSync('rsa', { modulusLength }));
  }

  static ec(kid?: string, namedCurve = 'P-256'): IssuerKey {
    const algorithm = namedCurve === 'P-256' ? 'ES256' : 'ES384';
    return new IssuerKey(algorithm, kid, generateKeyPairSync('ec', { namedCurve }));
  }

  /** What a JWKS shows of it. */
  jwk(more: object = {}): object {
    return {
      ...this.#public.export({ format: 'jwk' }),
      ...(this.kid === undefined ? {} : { kid: this.kid }),
      ...more,
    };
  }

  /** What a JWKS must never show. */
  privateJwk(): object {
    return { ...this.#private.export({ format: 'jwk' }), kid: this.kid };
  }

  pem(): string {
    return this.#public.export({ type: 'spki', format: 'pem' }).toString();
  }

  der(): Buffer {
    return this.#public.export({ type: 'spki', format: 'der' });
  }

  /** A token signed with it; its kid is named unless the header says otherwise. */
  sign(claims: object, header: object = {}, options: jwt.SignOptions = {}): string {
    const { algorithm } = this;
    return jwt.sign(claims, this.#private, {
      algorithm,
      allowInsecureKeySizes: true,
      header: { alg: algorithm, ...(this.kid === undefined ? {} : { kid: this.kid }), ...header },
      ...options,
    });
  }
}

/** A JWKS endpoint over real HTTP that answers as told. */
export class JwksEndpoint {
  readonly #server: Server;
  /** Requests so far. */
  requests = 0;
  answer: RequestListener;

  private constructor(keys: readonly object[]) {
    this.answer = JwksEndpoint.showing(...keys);
    this.#server = createServer((request, response) => {
      this.requests += 1;
      this.answer(request, response);
    });
  }

  static async open(...keys: readonly object[]): Promise<JwksEndpoint> {
    const endpoint = new JwksEndpoint(keys);
    endpoint.#server.listen(0, '127.0.0.1');
    await once(endpoint.#server, 'listening');
    return endpoint;
  }

  /** An answer of these keys. */
  static showing(...keys: readonly object[]): RequestListener {
    return (_request, response) => void response.end(JSON.stringify({ keys }));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/jwks.json`;
  }

  show(...keys: readonly object[]): void {
    this.answer = JwksEndpoint.showing(...keys);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}
