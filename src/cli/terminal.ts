import { styleText } from 'node:util';

export type Style = 'green' | 'yellow' | 'red' | 'cyan' | 'dim' | 'bold';

/** Puts text in a colour, or leaves it. */
export type Paint = (style: Style, text: string) => string;

export const plain: Paint = (_style, text) => text;

/**
 * Colours where that stream is a terminal, unless NO_COLOR or NODE_DISABLE_COLORS says otherwise; FORCE_COLOR colours in any
 * case: https://nodejs.org/api/util.html#utilstyletextformat-text-options
 */
export function painter(stream: NodeJS.WriteStream): Paint {
  return (style, text) => styleText(style, text, { stream });
}
