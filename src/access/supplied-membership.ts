import type { Pool } from 'pg';
import { EVERYBODY } from '../outbox/access-change.ts';
import type { FunctionName } from '../variables.ts';
import { changesOf } from './actor.ts';
import { createLookUp, type LookUpMemberships } from './look-up.ts';
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

/** {@link LookUpMemberships} by a function of the adopter's. */
export function suppliedMemberships(authorize: FunctionName): LookUpMemberships {
  return createLookUp({
    columns: {
      subject: 'text',
      wallet: 'text',
      role: 'text',
      own_user: 'text',
      own_wallet: 'text',
      own_linked: 'text',
      bearer: 'text',
      token: 'text',
      issued_at: 'float8',
    },
    text: (asker, isAfter) => {
      const credential = `array[${asker.bearer}, ${asker.token}, '${EVERYBODY}']`;
      return `
    with visible as materialized (
      select distinct t.topic from ${quoted(authorize)}(${asker.subject}, ${asker.wallet}, ${asker.role}) as t(topic)
       where t.topic is not null
    ), heard as (
      select topic from visible where topic in (${asker.own_user}, ${asker.own_wallet}, ${asker.own_linked})
      union
      select unnest(${credential})
    ), changes as (
      select o.id, o.type, o.data::text as data
        from heard h join outbox o on o.topic = h.topic and ${isAfter}
       where o.type in ('access:granted', 'access:revoked', 'access:credentials_revoked')
    )
    select coalesce((select json_agg(topic) from visible), '[]') as topics,
           coalesce((select json_agg(changes order by id) from changes), '[]') as changes,
           exists (select from outbox_revocations r
                    where r.topic = any(${credential})
                      and (${asker.issued_at} is null or ${asker.issued_at} <= extract(epoch from r.issued_before)::float8)) as revoked,
           outbox_oldest() as oldest`;
    },
    values: (claims) => ({
      subject: claims.subject,
      wallet: claims.walletAddress,
      role: claims.role,
      ...ownTopics(claims),
      ...credentialTopics(claims),
      issued_at: claims.issuedAt,
    }),
    membership: (row: Row, claims) => {
      if (row.revoked) throw new CredentialError('unauthenticated', 'the credential has been revoked');
      const { subject, walletAddress, role, issuedAt } = claims;
      const topics = new Set(row.topics);
      const seesAll = topics.delete('*');
      const own = namesOf(ownTopics(claims)).filter((topic) => topics.has(topic));
      return {
        actor: { userId: subject, walletAddress, role, isActive: own.length > 0 },
        seesAll,
        own,
        topics,
        changes: changesOf(row.changes),
        credential: { topics: [...namesOf(credentialTopics(claims)), EVERYBODY], issuedAt },
        oldest: row.oldest,
      };
    },
  });
}

/** The topics that a token may call its own, if the function agrees. */
function ownTopics({ subject, walletAddress }: Claims) {
  return {
    own_user: `user:${isUuid(subject) ? subject.toLowerCase() : subject}`,
    own_wallet: isUuid(subject) ? null : `wallet:${normalWallet(subject)}`,
    own_linked: walletAddress === null ? null : `wallet:${normalWallet(walletAddress)}`,
  };
}

/** By these names it can be revoked, besides as everybody: as outbox_revoke() understands them. */
function credentialTopics({ subject, tokenId }: Claims) {
  return {
    bearer: isUuid(subject) ? `user:${subject.toLowerCase()}` : `wallet:${normalWallet(subject)}`,
    token: tokenId === null ? null : tokenTopic(tokenId),
  };
}

/** Those that there are, each once. */
function namesOf(topics: Readonly<Record<string, string | null>>): string[] {
  return [...new Set(Object.values(topics).filter((topic) => topic !== null))];
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
