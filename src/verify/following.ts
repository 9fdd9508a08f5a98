import { Follower, type Received } from './follower.ts';

/** Somebody whose events are followed: a topic, and a token that may see it. */
export interface Reader {
  readonly topic: string;
  readonly token: string;
}

/** One subscriber on one instance, and what it got of the run. */
export interface Following {
  readonly follower: Follower;
  readonly topic: string;
  readonly events: readonly (Received & { readonly number: number })[];
}

/** Longest stay and absence of a subscriber, in milliseconds. */
const LONGEST_STAY_MS = 3000;
const LONGEST_AWAY_MS = 400;

/** A subscriber that drops and resumes at random moments; events of others on its topic are left out. Not started. */
export function makeFollowing(
  url: string,
  { topic, token }: Reader,
  { run, random }: { run: string; random: () => number },
): Following {
  const events: (Received & { number: number })[] = [];
  const follower = new Follower({
    url: `${url}/v1/events?topic=${encodeURIComponent(topic)}`,
    token,
    stayMs: () => random() * LONGEST_STAY_MS,
    awayMs: () => random() * LONGEST_AWAY_MS,
    onEvent: (event) => {
      if (!event.data.includes(run)) return;
      const { number } = JSON.parse(event.data) as { number: number };
      events.push({ ...event, number });
    },
  });
  return { follower, topic, events };
}
