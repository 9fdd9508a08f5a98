import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSource } from 'eventsource';
import launchDarkly from 'launchdarkly-eventsource';

/** A client, and what its application saw. */
export interface Seen {
  readonly messages: { type: string; data: string; id: string }[];
  gaveUp: boolean;
  close(): void;
}

const TYPES = ['message', 'tick'];

/** Clients as they come, told as little as possible. */
export const CLIENTS: Record<string, (url: string) => Seen> = {
  eventsource(url) {
    const source = new EventSource(url);
    const seen: Seen = { messages: [], gaveUp: false, close: () => source.close() };
    for (const type of TYPES)
      source.addEventListener(type, ({ data, lastEventId: id }) => seen.messages.push({ type, data, id }));
    source.addEventListener('error', () => {
      seen.gaveUp = source.readyState === source.CLOSED;
    });
    return seen;
  },

  'launchdarkly-eventsource'(url) {
    const source = new launchDarkly.EventSource(url);
    const seen: Seen = { messages: [], gaveUp: false, close: () => source.close() };
    for (const type of TYPES)
      source.addEventListener(type, ({ data, lastEventId: id }) => seen.messages.push({ type, data, id }));
    source.onerror = () => {};
    source.onclosed = () => {
      seen.gaveUp = true;
    };
    return seen;
  },

  'fetch-event-source'(url) {
    const stop = new AbortController();
    const seen: Seen = { messages: [], gaveUp: false, close: () => stop.abort() };
    void fetchEventSource(url, {
      signal: stop.signal,
      openWhenHidden: true,
      onmessage: ({ event, data, id }) => seen.messages.push({ type: event || 'message', data, id }),
    }).then(() => {
      seen.gaveUp = true;
    });
    return seen;
  },
};
