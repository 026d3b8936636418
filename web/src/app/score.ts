/** What scores more holds what was asked as it stands, not its letters only. */
export const WHOLE = 500;
/** So many letters may lie between each two of those that were asked. */
const GAP = 4;

/** Letters in order, better when they stand together and at the beginning of words; null: not this one. */
export function score(text: string, asked: string): number | null {
  const lower = text.toLowerCase();
  const at = lower.indexOf(asked);
  if (at >= 0) return 1000 - at - text.length / 100 + (at === 0 || /\W/.test(lower[at - 1] ?? "") ? 100 : 0);
  let from = 0;
  let gaps = 0;
  for (const letter of asked) {
    const found = lower.indexOf(letter, from);
    if (found < 0) return null;
    if (from > 0) gaps += found - from;
    from = found + 1;
  }
  return gaps > GAP * asked.length ? null : WHOLE - gaps;
}
