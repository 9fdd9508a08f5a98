/** Somebody of the demo: a user with a wallet. */
export interface DemoUser {
  readonly userId: string;
  readonly walletAddress: string;
}

// Fixed, so that loading the demo twice changes nothing, and so that the market can tell its own rows from anybody else's.
function person(number: number): DemoUser {
  const two = String(number).padStart(2, '0');
  return {
    userId: `5e771e00-0000-4000-8000-0000000000${two}`,
    walletAddress: `0x5e771e${'0'.repeat(32)}${two}`,
  };
}

/** Whom the printed dashboard link signs in. */
export const YOU: DemoUser = person(1);

/** Those whom you deal with, and who deal with each other where you must not see it. */
export const OTHERS: readonly DemoUser[] = [2, 3, 4, 5, 6].map(person);

const everybody = [YOU, ...OTHERS];
export const USER_IDS: readonly string[] = everybody.map((it) => it.userId);
export const WALLETS: readonly string[] = everybody.map((it) => it.walletAddress);
