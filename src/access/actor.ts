import { type AccessChange, accessChange, EVERYBODY, type Revocable } from '../outbox/access-change.ts';
import { createLookUp, type LookUpMemberships } from './look-up.ts';
import { tokenTopic } from './revocation.ts';
import { CredentialError } from './token.ts';
import { isUuid, normalWallet } from './topics.ts';

/** Who is asking, as the database knows them. */
export interface Actor {
  readonly userId: string | null;
  readonly walletAddress: string | null;
  readonly role: string | null;
  /** False: deactivated, may see nothing. */
  readonly isActive: boolean;
}

/** What an actor may see, and how that changed after a cursor. */
export interface Membership {
  readonly actor: Actor;
  /** Administrators see every topic. */
  readonly seesAll: boolean;
  /** The actor's own topics: `user:` and `wallet:`. */
  readonly own: readonly string[];
  /** Topics of streams and escrows that the actor may see now. */
  readonly topics: ReadonlySet<string>;
  /** Access events on the actor's own topics and the credential's after the cursor, in order. */
  readonly changes: readonly (AccessChange & { readonly id: number })[];
  /** By what the credential can be revoked. */
  readonly credential: Revocable;
  /** As in {@link History}, read after the changes: from a cursor below it some may be missing. */
  readonly oldest: number;
}

interface Row {
  user_id: string | null;
  wallet: string | null;
  role: string | null;
  is_active: boolean | null;
  topics: string[];
  changes: { id: number; type: string; data: string }[];
  credential: string[];
  revoked: boolean;
  oldest: number;
}

// One statement, one snapshot: membership, revocations and the access events that led to them cannot contradict each other.
// A credential is revoked by the names that it bears itself; those of one person are told apart and kept together by
// outbox_subject_names() when they are revoked, so a wallet that is linked later brings no old revocation along.
/** {@link LookUpMemberships} in our own tables: users, streams, escrows and their parties. */
export const lookUpMemberships: LookUpMemberships = createLookUp({
  columns: {
    sub_user: 'uuid',
    sub_wallet: 'text',
    linked_wallet: 'text',
    role: 'text',
    token: 'text',
    issued_at: 'float8',
  },
  text: (asker, isAfter) => `
  with known as (
    select id, wallet_address, role, is_active from users where id = ${asker.sub_user} or wallet_address = ${asker.sub_wallet}
  ), me as (
    select coalesce((select id from known), ${asker.sub_user}) as user_id,
           -- A token of nobody that we know speaks for its wallet only while that is not somebody's.
           case when exists (select from known) then (select wallet_address from known)
                else coalesce(${asker.sub_wallet}, (select ${asker.linked_wallet} where not exists (select from users where wallet_address = ${asker.linked_wallet}))) end as wallet,
           case when exists (select from known) then (select role from known) else ${asker.role} end as role,
           (select is_active from known) as is_active
  ), own as (
    select 'user:' || user_id as topic from me where user_id is not null
    union all
    select 'wallet:' || wallet from me where wallet is not null
  ), credential as (
    select 'user:' || ${asker.sub_user} as topic where ${asker.sub_user} is not null
    union
    select 'wallet:' || ${asker.sub_wallet} where ${asker.sub_wallet} is not null
    union
    select 'wallet:' || wallet from me where wallet is not null and not exists (select from known)
    union
    select ${asker.token} where ${asker.token} is not null
    union
    select '${EVERYBODY}'
  ), visible as (
    select 'stream:' || s.id as topic from me join streams s on s.payer = me.wallet
    union
    select 'stream:' || s.id from me join streams s on s.recipient = me.wallet
    union
    select 'escrow:' || e.id from me join escrows e on e.creator_id = me.user_id
    union
    select 'escrow:' || p.escrow_id from me join escrow_parties p on p.user_id = me.user_id and p.status <> 'rejected'
  ), changes as (
    select o.id, o.type, o.data::text as data
      from (select topic from own union select topic from credential) mine join outbox o on o.topic = mine.topic and ${isAfter}
     where o.type in ('access:granted', 'access:revoked', 'access:credentials_revoked')
  )
  select user_id, wallet, role, is_active,
         coalesce((select json_agg(topic) from visible), '[]') as topics,
         coalesce((select json_agg(changes order by id) from changes), '[]') as changes,
         (select json_agg(topic) from credential) as credential,
         exists (select from credential join outbox_revocations r on r.topic = credential.topic
                  where ${asker.issued_at} is null or ${asker.issued_at} <= extract(epoch from r.issued_before)::float8) as revoked,
         outbox_oldest() as oldest
    from me`,
  values: ({ subject, walletAddress, role, tokenId, issuedAt }) => ({
    sub_user: isUuid(subject) ? subject : null,
    sub_wallet: isUuid(subject) ? null : normalWallet(subject),
    linked_wallet: walletAddress === null ? null : normalWallet(walletAddress),
    role,
    token: tokenId === null ? null : tokenTopic(tokenId),
    issued_at: issuedAt,
  }),
  membership: (row: Row, { issuedAt }) => {
    if (row.revoked) throw new CredentialError('unauthenticated', 'the credential has been revoked');
    return {
      actor: {
        userId: row.user_id,
        walletAddress: row.wallet,
        role: row.role,
        isActive: row.is_active !== false,
      },
      seesAll: row.role === 'ADMIN' || row.role === 'SUPER_ADMIN',
      own: [
        ...(row.user_id === null ? [] : [`user:${row.user_id}`]),
        ...(row.wallet === null ? [] : [`wallet:${row.wallet}`]),
      ],
      topics: new Set(row.topics),
      changes: changesOf(row.changes),
      credential: { topics: row.credential, issuedAt },
      oldest: row.oldest,
    };
  },
});

/** @param events of type `access:…`, as the outbox has them, in order */
export function changesOf(
  events: readonly { id: number; type: string; data: string }[],
): Membership['changes'] {
  return events.flatMap(({ id, ...event }) => {
    const change = accessChange(event);
    return change === undefined ? [] : [{ id, ...change }];
  });
}

/** Whether the actor may see all of these topics now. */
export function maySee(membership: Membership, topics: readonly string[]): boolean {
  if (!membership.actor.isActive) return false;
  return (
    membership.seesAll ||
    topics.every((topic) => membership.topics.has(topic) || membership.own.includes(topic))
  );
}

/**
 * The topics that the actor could see at the cursor that {@link lookUpMemberships} was given: those of now, less those whose
 * first change since was a grant, and with those whose first change was a revocation. The changes themselves are in the
 * stream and take effect there, each at its place.
 */
export function topicsAtCursor(membership: Membership): Set<string> {
  const topics = new Set([...membership.topics, ...membership.own]);
  const settled = new Set<string>(membership.own);
  for (const change of membership.changes) {
    if (!('topic' in change) || settled.has(change.topic)) continue;
    settled.add(change.topic);
    if (change.kind === 'granted') topics.delete(change.topic);
    else topics.add(change.topic);
  }
  return topics;
}
