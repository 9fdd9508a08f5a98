/** Kinds of topic whose key is a uuid. */
const BY_UUID = ['stream', 'escrow', 'user'] as const;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const KEY = /^[A-Za-z0-9_.-]{1,128}$/;

export class TopicError extends Error {
  override readonly name = 'TopicError';
}

/** Whether the text can be the key of a topic: a uuid, a wallet address, or something like them. */
export function isKey(text: string): boolean {
  return KEY.test(text);
}

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/**
 * A wallet address in the one form in which topics carry it, as `wallet_normal()` in migrations/0003: 0x addresses in lower
 * case, Stellar accounts in upper case, others as they are.
 */
export function normalWallet(address: string): string {
  if (/^0x[0-9a-f]{40}$/i.test(address)) return address.toLowerCase();
  if (/^G[A-Z2-7]{55}$/i.test(address)) return address.toUpperCase();
  return address;
}

/**
 * Parses a topic as a client names it. An id that merely cannot exist is a topic like any other: it is refused as one
 * that is not yours, so that nobody learns which ids exist.
 * @param text such as `escrow:7F1D…`
 * @returns its normal form
 * @throws TopicError if it is not of the form of a topic
 */
export function parseTopic(text: string): string {
  const colon = text.indexOf(':');
  const kind = text.slice(0, colon);
  const key = text.slice(colon + 1);
  if (colon < 1 || !isKey(key)) throw new TopicError('a topic is kind:key, such as escrow:{uuid}');
  if (kind === 'wallet') return `wallet:${normalWallet(key)}`;
  if (BY_UUID.some((known) => known === kind)) return `${kind}:${isUuid(key) ? key.toLowerCase() : key}`;
  throw new TopicError(`a topic's kind is one of ${[...BY_UUID, 'wallet'].join(', ')}`);
}
