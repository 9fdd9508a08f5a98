import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';

/*
 * A write to a socket's descriptor, past its stream.
 *
 * Why. `socket.write` makes a request object for the kernel, a record of the write and a callback for the next tick, for every subscriber
 * of every event; nearly always the kernel has taken the bytes before any of them is needed. `fs.writeSync` is that system call and
 * nothing else.
 *
 * How it stays correct. Only the first attempt is made here, and only while the stream has nothing waiting, be it corked, queued or under way:
 * so these bytes follow all that was written before them. What the kernel does not take, and what fails, is left to the stream, whose write
 * waits for room, or fails in its turn (a reset perhaps as EPIPE) and closes the socket as ever. Node's sockets never block, so neither does
 * this. A descriptor is a number that the system gives to somebody else as soon as it is closed, and another client's bytes must never go
 * there: Node forgets the handle of a socket in the same step in which it closes it, so the handle is looked at before every write, in the
 * same step. It has no public name; where it does not look as in Node 20, 22 and 24, and for anything but plain TCP (a stream over TLS
 * encrypts), all goes through the stream.
 *
 * What it buys: see docs/benchmarks.md, "Fan-out".
 */

/** What Node keeps of an open socket. */
interface WithHandle {
  readonly _handle?: { readonly fd?: unknown } | null;
}

/** The descriptor of a socket that has none, or none that may be written to. */
export const NO_DESCRIPTOR = -1;

/** The descriptor of an open TCP socket, for {@link writeNow}; NO_DESCRIPTOR for any other. */
export function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as WithHandle;
  if (handle?.constructor.name !== 'TCP') return NO_DESCRIPTOR;
  return typeof handle.fd === 'number' && handle.fd > 0 ? handle.fd : NO_DESCRIPTOR;
}

/** Whether the kernel may be given bytes for this socket: it is open, and nothing waits before them. */
export function mayWriteNow(socket: Socket, descriptor: number): boolean {
  return (
    descriptor !== NO_DESCRIPTOR &&
    socket.writableLength === 0 &&
    Boolean((socket as unknown as WithHandle)._handle)
  );
}

/**
 * Writes as many bytes as the kernel takes at once.
 * @param descriptor of a socket of which {@link mayWriteNow} said yes in the same step of the event loop
 * @returns how many it took; the others must be written to the socket
 */
export function writeNow(descriptor: number, bytes: Buffer): number {
  try {
    return writeSync(descriptor, bytes, 0, bytes.length, null);
  } catch {
    return 0;
  }
}
