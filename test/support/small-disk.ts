import { execFile } from 'node:child_process';
import { chmod, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A disk of a few megabytes that can be filled up: a tmpfs of its own. */
export class SmallDisk {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** @throws if mounting is not permitted: what needs a full disk cannot be shown then, and must not pass as if it had been */
  static async mount(megabytes: number): Promise<SmallDisk> {
    const path = await mkdtemp(join(tmpdir(), 'settlewire-disk-'));
    await chmod(path, 0o755);
    try {
      await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=1777`, 'tmpfs', path]);
    } catch (error) {
      await rm(path, { recursive: true });
      throw new Error('a full disk cannot be tested here: mounting a tmpfs needs root (CAP_SYS_ADMIN)', {
        cause: error,
      });
    }
    return new SmallDisk(path);
  }

  get #ballast(): string {
    return join(this.path, 'ballast');
  }

  /** Takes every block that is left. */
  async fill(): Promise<void> {
    const ballast = await open(this.#ballast, 'a');
    try {
      const block = Buffer.alloc(1 << 20);
      for (let size = block.length; size >= 4096; ) {
        try {
          await ballast.write(block, 0, size);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          size /= 2;
        }
      }
    } finally {
      await ballast.close();
    }
  }

  /** Gives back what {@link fill} took. */
  free(): Promise<void> {
    return rm(this.#ballast, { force: true });
  }

  async unmount(): Promise<void> {
    await run('umount', ['--lazy', this.path]);
    await rm(this.path, { recursive: true });
  }
}
