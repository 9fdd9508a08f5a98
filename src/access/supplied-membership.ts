import type { Pool } from 'pg';
import { EVERYBODY } from '../outbox/access-change.ts';
import type { FunctionName } from '../variables.ts';
import { changesOf, type LookUpMembership } from './actor.ts';
import { tokenTopic } from './revocation.ts';
import { type Claims, CredentialError } from './token.ts';
import { isUuid, normalWallet } from './topics.ts';

/*
 * Who may see what, where the tables are not ours: a function of the adopter's says it (AUTHORIZE_FUNCTION).
 *
 *   function(subject text, wallet text, role text) returns setof text      -- the topics that this token's bearer may see now
 *
 * It returns the bearer's own topic, `user:{subject}` or `wallet:{address}`, for whoever may come in at all; `*` besides means
 * everything. Access events are heard on the own topics. It must be STABLE: a stable function sees the snapshot of the statement
 * that calls it, so topics and access events are of one moment, as they are in our own tables' look-up.
 */

interface Row {
  topics: string[];
  changes: { id: number; type: string; data: string }[];
  revoked: boolean;
  oldest: number;
}

const quoted = ({ schema, name }: FunctionName): string => `"${schema}"."${name}"`;

/** {@link LookUpMembership} by a function of the adopter's. */
export function suppliedMembership(authorize: FunctionName): LookUpMembership {
  const text = `
    with visible as materialized (
      select distinct t.topic from ${quoted(authorize)}($1, $2, $3) as t(topic) where t.topic is not null
    ), heard as (
      select topic from visible where topic = any($4)
      union
      select unnest($6::text[])
    ), changes as (
      select o.id, o.type, o.data::text as data
        from heard h join outbox o on o.topic = h.topic and o.id > $5
       where o.type in ('access:granted', 'access:revoked', 'access:credentials_revoked')
    )
    select coalesce((select json_agg(topic) from visible), '[]') as topics,
           coalesce((select json_agg(changes order by id) from changes), '[]') as changes,
           exists (select from outbox_revocations r
                    where r.topic = any($6) and ($7::float8 is null or $7::float8 <= extract(epoch from r.issued_before)::float8)) as revoked,
           outbox_oldest() as oldest`;
  return async (db, claims, after) => {
    const { subject, walletAddress, role, tokenId, issuedAt } = claims;
    const candidates = ownTopics(claims);
    // By these names it can be revoked: as outbox_revoke() understands them.
    const credential = [
      isUuid(subject) ? `user:${subject.toLowerCase()}` : `wallet:${normalWallet(subject)}`,
      ...(tokenId === null ? [] : [tokenTopic(tokenId)]),
      EVERYBODY,
    ];
    const { rows } = await db.query<Row>(text, [
      subject,
      walletAddress,
      role,
      candidates,
      after,
      credential,
      issuedAt,
    ]);
    const [row] = rows;
    if (row === undefined) throw new Error('the membership query returned nothing');
    if (row.revoked) throw new CredentialError('unauthenticated', 'the credential has been revoked');
    const topics = new Set(row.topics);
    const seesAll = topics.delete('*');
    const own = candidates.filter((topic) => topics.has(topic));
    return {
      actor: { userId: subject, walletAddress, role, isActive: own.length > 0 },
      seesAll,
      own,
      topics,
      changes: changesOf(row.changes),
      credential: { topics: credential, issuedAt },
      oldest: row.oldest,
    };
  };
}

/** The topics that a token may call its own, if the function agrees. */
function ownTopics({ subject, walletAddress }: Claims): string[] {
  const wallets = [...(isUuid(subject) ? [] : [subject]), ...(walletAddress === null ? [] : [walletAddress])];
  const topics = [
    `user:${isUuid(subject) ? subject.toLowerCase() : subject}`,
    ...wallets.map((wallet) => `wallet:${normalWallet(wallet)}`),
  ];
  return [...new Set(topics)];
}

/**
 * Looks whether the function is there and is what it must be.
 * @throws Error that says what is wrong with it
 */
export async function checkSuppliedFunction(pool: Pool, authorize: FunctionName): Promise<void> {
  const { rows } = await pool.query<{
    signature: string;
    returned: string;
    volatility: string;
    usable: boolean;
    allowed: boolean;
  }>(
    `select pg_get_function_identity_arguments(p.oid) as signature, pg_get_function_result(p.oid) as returned,
            p.provolatile as volatility,
            p.proargtypes = array_to_string(array_fill('text'::regtype::oid, array[3]), ' ')::oidvector
              and p.proretset and p.prorettype = 'text'::regtype as usable,
            has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute') as allowed
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = $1 and p.proname = $2
      order by usable desc`,
    [authorize.schema, authorize.name],
  );
  const [found] = rows;
  const name = `AUTHORIZE_FUNCTION ${quoted(authorize)}`;
  if (found === undefined) throw new Error(`${name} does not exist`);
  if (!found.usable)
    throw new Error(
      `${name} is (${found.signature}) returns ${found.returned}; it must be (text, text, text) returns setof text`,
    );
  if (found.volatility === 'v')
    throw new Error(
      `${name} is volatile; declare it stable, or what it says and what happened would not be of one moment`,
    );
  if (!found.allowed)
    throw new Error(
      `${name} may not be called by the role of DATABASE_URL: grant usage on schema ${authorize.schema}, and execute on the function`,
    );
}
