// JSON whose long integers stay as they were written: 9223372036854775807 is not 9223372036854775808.

interface Exactly {
  rawJSON(digits: string): object;
  isRawJSON(value: unknown): boolean;
}

/** What browsers since 2023 (Safari since 2025) can; an older one rounds. */
const json = JSON as unknown as Partial<Exactly>;
const LONG = /[[:,\s-]\d{16}/;
const INTEGER = /^-?\d+$/;

/** As `JSON.parse`; an integer beyond what numbers hold is an object that `JSON.stringify` writes as it was. */
export function parse<T>(text: string): T {
  if (json.rawJSON === undefined || !LONG.test(text)) return JSON.parse(text);
  const exact = (_: string, value: unknown, { source = "" }: { source?: string } = {}) =>
    typeof value === "number" && !Number.isSafeInteger(value) && INTEGER.test(source) ? json.rawJSON?.(source) : value;
  return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
}

/** The digits of such an integer, null of any other value. */
export function digitsOf(value: unknown): string | null {
  return json.isRawJSON?.(value) ? (value as { rawJSON: string }).rawJSON : null;
}

/** An integer by its digits; null if it is too long for this browser. */
export function integer(digits: string): number | object | null {
  const n = Number(digits);
  return Number.isSafeInteger(n) ? n : (json.rawJSON?.(BigInt(digits).toString()) ?? null);
}
