// As much of Markdown as results are written in, read into a tree that React draws: text never becomes HTML.

export type Inline =
  | { kind: "text" | "code"; text: string }
  | { kind: "strong" | "em" | "del"; inside: Inline[] }
  | { kind: "link"; href: string; inside: Inline[] };

export type Block =
  | { kind: "heading"; level: number; inside: Inline[] }
  | { kind: "paragraph"; inside: Inline[] }
  | { kind: "code"; text: string; language: string }
  | { kind: "quote"; inside: Block[] }
  | { kind: "list"; ordered: boolean; start: number; items: Block[][] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] }
  | { kind: "rule" };

const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|(\d{1,9})[.)])\s+(.*)$/;
const TABLE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const DEEPEST = 20;

const SIGNS = [
  /^ {0,3}(#{1,6} \S|```|~~~)/m, // a heading, a fence
  /^\s*([-*+]|\d+[.)]) \S.*\n\s*([-*+]|\d+[.)]) \S/m, // two items of a list
  /\*\*\S[^*\n]*\*\*|\[[^\]\n]+\]\(https?:/, // strong words, a link
  /^\|.*\|\s*\n\s*\|?\s*:?-+/m, // a table
];

/** Whether a text looks as though somebody meant Markdown. */
export function looksLikeMarkdown(text: string): boolean {
  return SIGNS.some((sign) => sign.test(text));
}

export function parseMarkdown(text: string): Block[] {
  return blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function blocks(lines: readonly string[], depth: number): Block[] {
  const found: Block[] = [];
  let at = 0;
  const line = (n = at) => lines[n] ?? "";
  while (at < lines.length) {
    const fence = FENCE.exec(line());
    const heading = HEADING.exec(line());
    if (line().trim() === "") {
      at++;
    } else if (fence) {
      const end = fence[1] as string;
      const code: string[] = [];
      for (at++; at < lines.length && !line().trim().startsWith(end); at++) code.push(line());
      at++;
      found.push({ kind: "code", text: code.join("\n"), language: fence[2] ?? "" });
    } else if (heading) {
      found.push({ kind: "heading", level: (heading[1] as string).length, inside: inline(heading[2] ?? "") });
      at++;
    } else if (RULE.test(line())) {
      found.push({ kind: "rule" });
      at++;
    } else if (/^ {0,3}>/.test(line()) && depth < DEEPEST) {
      const inner: string[] = [];
      for (; at < lines.length && line().trim() !== ""; at++) inner.push(line().replace(/^ {0,3}> ?/, ""));
      found.push({ kind: "quote", inside: blocks(inner, depth + 1) });
    } else if (ITEM.test(line()) && depth < DEEPEST) {
      const [list, next] = readList(lines, at, depth);
      found.push(list);
      at = next;
    } else if (line().includes("|") && TABLE.test(line(at + 1)) && line(at + 1).includes("-")) {
      const head = cellsOf(line());
      const rows: Inline[][][] = [];
      for (at += 2; at < lines.length && line().includes("|"); at++) rows.push(cellsOf(line()));
      found.push({ kind: "table", head, rows });
    } else {
      const words: string[] = [];
      for (; at < lines.length && (words.length === 0 || goesOn(line())); at++) words.push(line().trim());
      found.push({ kind: "paragraph", inside: inline(words.join("\n")) });
    }
  }
  return found;
}

const goesOn = (line: string): boolean =>
  line.trim() !== "" &&
  !FENCE.test(line) &&
  !HEADING.test(line) &&
  !/^ {0,3}>/.test(line) &&
  !ITEM.test(line) &&
  !RULE.test(line);

const cellsOf = (line: string): Inline[][] =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => inline(cell.trim()));

function readList(lines: readonly string[], from: number, depth: number): [Block, number] {
  const first = ITEM.exec(lines[from] ?? "") as RegExpExecArray;
  const margin = (first[1] ?? "").length;
  const ordered = first[3] !== undefined;
  const items: Block[][] = [];
  let item: string[] | null = null;
  let at = from;
  for (; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const match = ITEM.exec(line);
    const indent = line.length - line.trimStart().length;
    if (match && indent <= margin + 1) {
      if (indent < margin || (match[3] !== undefined) !== ordered) break;
      if (item) items.push(blocks(item, depth + 1));
      item = [match[4] ?? ""];
    } else if (line.trim() === "") {
      // a list goes on after an empty line if what follows belongs to it
      const next = lines[at + 1] ?? "";
      if (next.trim() === "" || (!ITEM.test(next) && !/^\s{2,}/.test(next))) break;
      item?.push("");
    } else if (indent > margin || goesOn(line)) {
      item?.push(line.slice(Math.min(indent, margin + 2)));
    } else break;
  }
  if (item) items.push(blocks(item, depth + 1));
  return [{ kind: "list", ordered, start: Number(first[3] ?? 1), items }, at];
}

const INLINE = new RegExp(
  [
    /(`+)([\s\S]*?[^`])\1(?!`)/, // code
    /\*\*(?=\S)([\s\S]*?\S)\*\*(?!\*)/, // strong, two ways
    /__(?=\S)([\s\S]*?\S)__/,
    /~~(?=\S)([\s\S]*?\S)~~/, // gone
    /\*(?=[^\s*])([^*]*?[^\s*])\*/, // stressed, two ways; not within a word as in snake_case
    /(?<![\w_])_(?=[^\s_])([^_]*?[^\s_])_(?![\w_])/,
    /\[([^\]\n]*)\]\(([^)\s]+)(?:\s+"[^"]*")?\)/, // a link
    /(https?:\/\/[^\s<>)"']+[^\s<>)"'.,;:!?])/, // an address
    /\\([\\`*_{}[\]()#+.!|~>-])/, // escaped
  ]
    .map(({ source }) => source)
    .join("|"),
);

export function inline(text: string, depth = 0): Inline[] {
  const found: Inline[] = [];
  let rest = text;
  const plain = (more: string) => {
    const last = found.at(-1);
    if (more === "") return;
    if (last?.kind === "text") last.text += more;
    else found.push({ kind: "text", text: more });
  };
  while (rest !== "") {
    const match = depth < DEEPEST ? INLINE.exec(rest) : null;
    if (match === null) {
      plain(rest);
      break;
    }
    plain(rest.slice(0, match.index));
    rest = rest.slice(match.index + match[0].length);
    const [whole, , code, strong1, strong2, gone, em1, em2, label, href, bare, escaped] = match;
    const strong = strong1 ?? strong2;
    const em = em1 ?? em2;
    if (code !== undefined) found.push({ kind: "code", text: code.trim() || code });
    else if (strong !== undefined) found.push({ kind: "strong", inside: inline(strong, depth + 1) });
    else if (gone !== undefined) found.push({ kind: "del", inside: inline(gone, depth + 1) });
    else if (em !== undefined) found.push({ kind: "em", inside: inline(em, depth + 1) });
    else if (href !== undefined) {
      const safe = safeHref(href);
      const inside = inline(label || href, depth + 1);
      if (safe === null) plain(whole);
      else found.push({ kind: "link", href: safe, inside });
    } else if (bare !== undefined)
      found.push({ kind: "link", href: bare, inside: [{ kind: "text", text: bare }] });
    else plain(escaped ?? "");
  }
  return found;
}

/** Only addresses that a click may open without harm: nothing that runs. */
export function safeHref(href: string): string | null {
  return /^(https?:\/\/|mailto:)/i.test(href) ? href : null;
}
