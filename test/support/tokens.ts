import jwt from 'jsonwebtoken';

export const JWT_SECRET = 'a secret of the tests, and of nobody else, 48 bytes';

/** An access token as the other backends issue it: HS256, an hour long unless told otherwise. */
export function mintToken(claims: Record<string, unknown>, options: jwt.SignOptions = {}): string {
  const lifetime = 'exp' in claims ? {} : { expiresIn: 3600 as const };
  return jwt.sign({ type: 'access', ...claims }, JWT_SECRET, { algorithm: 'HS256', ...lifetime, ...options });
}
