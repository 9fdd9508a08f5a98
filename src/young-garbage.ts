import { setFlagsFromString } from 'node:v8';

/**
 * Keeps V8 from guessing which objects will live long. Once it has seen most of what a place in the code allocates survive, it puts what
 * comes from there into the old generation from the start. A replay is such a place: rows wait some milliseconds until their page is whole.
 * Then each of them, long done with, kept its strings from the young collector: 70 MiB a second of garbage for a full collection.
 * To be called before the code that reads rows is hot; docs/benchmarks.md, "One long replay", has what it saves.
 */
export function keepGarbageYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
