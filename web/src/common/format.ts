/** A duration: `29 µs`, `3.2 ms`, `4.71 s`, `2 min 05 s`, `3 h 20 min`, `2 d 4 h`. */
export function seconds(n: number | null | undefined): string {
  if (n === null || n === undefined || Number.isNaN(n)) return "";
  if (n < 0.0009995) return n === 0 ? "0 s" : `${Math.round(n * 1e6)} µs`;
  if (n < 0.9995) return `${precise(n * 1000)} ms`;
  if (n < 59.95) return `${precise(n)} s`;
  const whole = Math.round(n);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** A duration that ticks: whole seconds, so that its width is steady. */
export function ticking(n: number): string {
  return n < 60 ? `${Math.max(0, Math.floor(n))} s` : seconds(Math.floor(n));
}

function precise(n: number): string {
  return String(Number(n.toPrecision(3)));
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}

/** `5 s ago`, `3 h ago`; of the future `in 5 s`. */
export function ago(instant: number | null | undefined, now: number): string {
  if (instant === null || instant === undefined) return "";
  const past = now - instant;
  const n = Math.abs(past);
  const text =
    n < 60 ? `${Math.floor(n)} s` : n < 3600 ? `${Math.floor(n / 60)} min` : n < 86400
      ? `${Math.floor(n / 3600)} h` : `${Math.floor(n / 86400)} d`;
  return past < 0 ? `in ${text}` : `${text} ago`;
}

export function local(instant: number | null | undefined): string {
  if (instant === null || instant === undefined) return "";
  const d = new Date(instant * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock(instant)}`;
}

export function clock(instant: number, millis = false): string {
  const d = new Date(instant * 1000);
  const text = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return millis ? `${text}.${String(d.getMilliseconds()).padStart(3, "0")}` : text;
}

/** `812 B`, `4.1 KB`, `3 MB`; powers of 1024. */
export function size(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) return "";
  let n = bytes;
  let unit = 0;
  while (n >= 1023.5 && unit < 4) {
    n /= 1024;
    unit++;
  }
  return `${unit === 0 ? n : precise(n)} ${["B", "KB", "MB", "GB", "TB"][unit]}`;
}

/** `12,345`. */
export function count(n: number | null | undefined): string {
  return n === null || n === undefined ? "" : n.toLocaleString("en-US");
}

export function rate(n: number | null | undefined): string {
  if (n === null || n === undefined) return "";
  return `${n >= 100 ? count(Math.round(n)) : precise(n)}/s`;
}

/** US dollars; small sums to two digits. */
export function dollars(n: number): string {
  return `$${n >= 0.1 || n === 0 ? n.toFixed(2) : Number(n.toPrecision(2)).toString()}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
