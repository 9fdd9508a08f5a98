/** As much as the tests use of a package that brings no types. */
declare module 'launchdarkly-eventsource' {
  import { EventEmitter } from 'node:events';

  export interface Message {
    readonly type: string;
    readonly data: string;
    readonly lastEventId: string;
  }

  export class EventSource extends EventEmitter {
    constructor(url: string, options?: { headers?: Record<string, string> });
    onerror: (error: { status?: number; message?: string }) => void;
    onclosed: () => void;
    addEventListener(type: string, listener: (message: Message) => void): void;
    close(): void;
  }
}
